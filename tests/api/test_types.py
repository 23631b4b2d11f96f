"""Types of commands: each has all of its rows, and one more row in each table is a whole new type."""

from types import SimpleNamespace
from typing import Any, Literal

import httpx
import orjson
import pytest
import typer
from prometheus_client import generate_latest
from pydantic import Field
from typer.testing import CliRunner

from api.app import create_app
from api.cli.transfers import command_of
from api.commands import ENDPOINTS, Endpoint
from api.link import KafkaLink
from api.submission import CommandPublisher
from streams.commands.commands import HANDLERS, Commands
from streams.domain.command import TYPES, Command, TextField, parse_command
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.status import Status
from streams.ledger.ledger import Ledger
from streams.telemetry.metrics import REGISTRIES
from tests.engine.world import World
from tests.fakes.clock import now, timeless
from tests.fakes.kafka import FakeKafka
from tests.pages import ROOT
from tests.wire.schemas import DOCUMENTS


@pytest.mark.parametrize("type", TYPES)
def test_a_type_has_everything(type: str) -> None:
    model, endpoint = TYPES[type], ENDPOINTS[type]
    assert model.model_fields["type"].default == type
    assert endpoint.model is model
    assert type in HANDLERS
    for example in endpoint.examples:
        body = endpoint.body.model_validate(example)
        command = model(id="x", **body.model_dump(exclude_none=True))
        assert parse_command(command.to_bytes(), fallback_id="y") == command
    assert all(field.description for field in endpoint.body.model_fields.values())
    assert model.__name__ in DOCUMENTS["command"]
    assert f'"const": "{type}"' in (ROOT / "docs" / "schemas" / "command.json").read_text(encoding="utf-8")
    assert f'xferq_commands_total{{outcome="done",type="{type}"}}' in generate_latest(REGISTRIES["worker"]).decode()


def test_nothing_has_a_row_that_is_no_type() -> None:
    assert TYPES.keys() == ENDPOINTS.keys() == HANDLERS.keys()
    for values in ([endpoint.path for endpoint in ENDPOINTS.values()], [model.summary for model in TYPES.values()]):
        assert len(set(values)) == len(TYPES)


class ExampleCommand(Command):
    """Take note of something."""

    summary = "Take note"

    type: Literal["xfer.example"] = "xfer.example"
    note: TextField = Field(description="what to take note of")

    @property
    def queue(self) -> str:
        """One for each note."""
        return self.note + XFER_SUFFIX


async def _end(commands: Commands, _: Command, status: Status, admit: Any, *__: object, is_again: bool) -> None:
    assert not is_again
    async with commands.outcomes.fence(status) as fence:
        await commands.outcomes.write(fence, admit().model_copy(update={"state": "done"}))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """A type of its own, with a row in each table."""
    endpoint = Endpoint(
        "xfer.example",
        path="/api/admin/xfer/example/v1",
        verb="example",
        body_name="XferExampleRequest",
        about="Take note of something.",
        examples=[{"note": "a.example", "reason": "to see it"}],
        options={"note": "NOTE"},
    )
    monkeypatch.setitem(TYPES, "xfer.example", ExampleCommand)
    monkeypatch.setitem(ENDPOINTS, "xfer.example", endpoint)
    monkeypatch.setitem(HANDLERS, "xfer.example", _end)
    return endpoint


@timeless
async def test_a_new_type_from_the_request_to_its_end(example: Endpoint) -> None:
    async with World() as world:
        kafka: Any = FakeKafka(world.broker, world.settings)
        kafka.connection = SimpleNamespace(bootstrap_servers="nowhere")
        link = KafkaLink(kafka, world.settings)
        link._ledger, link.missing = Ledger(kafka, world.settings), None
        await link.ledger.start()
        app = create_app(world.settings, kafka, unprotected=True)
        app.state.link, app.state.publisher = link, CommandPublisher(link, world.settings, now)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://xferq") as client:
            refused = await client.post(example.path, json={"note": 5})
            assert refused.json()["detail"] == "note must be a string; reason is missing"
            answer = await client.post(example.path, json=example.examples[0], headers={"Idempotency-Key": "k"})
            assert (answer.status_code, answer.json()) == (200, {})
            assert answer.headers["location"] == f"{example.path}/k"
            (record,) = (
                record
                for log in world.broker.topics[world.settings.commands_topic].logs
                for record in log.all_records()
            )
            value = orjson.loads(record.value or b"")
            assert (record.key, value["type"], value["note"]) == (
                b"a.example" + XFER_SUFFIX.encode(),
                *["xfer.example", "a.example"],
            )
            labels = {"type": "xfer.example", "outcome": "done"}
            before = REGISTRIES["worker"].get_sample_value("xferq_commands_total", labels) or 0
            world.worker()
            await world.ended("k")
            status = (await client.get(answer.headers["location"])).json()
            assert (status["type"], status["state"], status["reason"]) == ("xfer.example", "done", "to see it")
            assert REGISTRIES["worker"].get_sample_value("xferq_commands_total", labels) == before + 1
            document = (await client.get("/api-docs/openapi.json")).json()
            assert document["paths"][example.path]["post"]["summary"] == "Take note"
            assert document["components"]["schemas"]["XferExampleRequest"]["required"] == ["note", "reason"]
        await link.ledger.stop()


@pytest.mark.usefixtures("example")
def test_a_new_type_on_the_command_line() -> None:
    app = typer.Typer()
    app.command()(command_of("xfer.example"))
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "TERM": "dumb"}).stdout
    assert "What to take note of." in text
    assert "xferq example a.example --reason 'to see it'" in text
    assert CliRunner().invoke(app, ["--reason", "r"]).exit_code == 2
