"""The client in Python, on a real API: cancel or transfer, follow, wait; and the example that shows it."""

import subprocess
import sys
import uuid

import pytest

from api.client import ApiClient
from api.transport import Answer
from streams.errors import Refused, Unavailable
from tests.api.test_cli import World, a_queue, world  # noqa: F401 - a fixture
from tests.support.patience import WAIT_S
from tests.support.warm import WarmPopen
from tests.test_architecture import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "client.py"


@pytest.fixture
def client(world: World) -> ApiClient:  # noqa: F811
    return ApiClient(world.env["XFERQ_API_URL"])


def test_a_cancel_from_its_request_to_its_end(world: World, client: ApiClient) -> None:  # noqa: F811
    queue, id = a_queue(), uuid.uuid4().hex
    with pytest.raises(Refused, match="is not a current scheduled queue"):
        client.cancel(queue, "r")
    world.create(queue)
    assert client.cancel(queue, "r", id=id, expires_at="2999-01-01T00:00:00Z") == id
    assert client.cancel(queue, "r", id=id, expires_at="2999-01-01T00:00:00Z") == id
    with pytest.raises(Unavailable, match=rf"{id} has not ended within 0 s: it is accepted"):
        client.wait(id, timeout_s=0)
    world.record(id, state="done", total=7, restored=7)
    assert [status.state for status in client.statuses_until_done(id)][-1] == "done"
    done = client.wait(id, timeout_s=0)
    assert (done.state, done.total, done.expires_at) == ("done", 7, "2999-01-01T00:00:00Z")


def test_a_transfer_that_is_refused(world: World, client: ApiClient) -> None:  # noqa: F811
    id = client.transfer("http://mx3.example/", "r", queue_names=["a.example"])
    assert client.status(id).queue_name == "http://mx3.example/.xfer.kumomta.internal"
    world.record(id, state="refused", detail="for a reason")
    found = client.wait(id)
    assert (found.state, found.detail) == ("refused", "for a reason")
    with pytest.raises(Refused, match="target is not"):
        client.transfer("", "r", queue_names=["a.example"])


def test_a_transfer_of_everything_has_to_be_asked_for(client: ApiClient) -> None:
    for nothing in ({}, {"tenant": None}, {"everything": False}, {"expires_at": "2999-01-01T00:00:00Z"}):
        with pytest.raises(Refused, match="which queues"):
            client.transfer("http://mx3.example/", "r", **nothing)
    assert client.transfer("http://mx3.example/", "r", everything=True)


@pytest.mark.parametrize("answer", [b"{}", b"null", b"[1]", b'{"a": 1}', b"[" * 100_000])
def test_what_is_not_our_api_is_said(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Answer(200, answer)
    with ApiClient("http://127.0.0.1:1") as client:
        monkeypatch.setattr(client._transport, "exchange", lambda *_, **__: found)
        for ask in (lambda: client.status("x"), lambda: client.statuses(limit=1)):
            with pytest.raises(Unavailable, match="is not xferq's api"):
                ask()


def test_how_an_id_begins(world: World, client: ApiClient) -> None:  # noqa: F811
    queue, id = a_queue(), uuid.uuid4().hex
    world.create(queue)
    for end in ("a", "b"):
        client.cancel(queue, end, id=f"{id}-{end}")
    assert client.whole_id(f"{id}-a") == f"{id}-a"
    with pytest.raises(Refused, match=f"2 commands have an id that begins with {id}"):
        client.whole_id(id)
    with pytest.raises(Refused, match="nope is not a known command"):
        client.whole_id("nope")


def test_the_example(world: World) -> None:  # noqa: F811
    queue = a_queue()
    program = [sys.executable, str(EXAMPLE), queue, "mx2 is full"]
    absent = subprocess.run(
        program, env=world.env | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=WAIT_S, check=False
    )
    assert absent.returncode == 1
    assert absent.stderr.decode().startswith(f"{queue} is not a current scheduled queue")
    world.create(queue)
    with WarmPopen(program, env=world.env | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as running:
        first = running.stdout.readline() if running.stdout else ""
        assert first == "accepted: 0 restored\n"
        (listed,) = ApiClient(world.env["XFERQ_API_URL"]).statuses(limit=1, queue_name=queue)
        world.record(listed.id, state="done", total=3, restored=2, returned=1, returned_reasons={"too_large": 1})
        out, _ = running.communicate(timeout=WAIT_S)
    assert running.returncode == 0
    assert out.splitlines()[-1] == "3 messages: 2 restored, 1 returned {'too_large': 1}"


def test_it_needs_no_kafka() -> None:
    program = "import sys, api.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"aiokafka", "confluent_kafka", "faust", "fastapi", "typer"} & set(found)
