"""PATCH of a command: withdrawn before its beginning, and not afterwards."""

import httpx
import pytest

from streams.domain.claim import Claim
from streams.domain.selection import Chunk
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.ledger.keys import claim_key, outcome_key, selection_key
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.running import CANCEL, JSON, problem_of
from tests.api.test_status import MOMENT, QUEUE, a_status, record

TOPIC = topic_of(QUEUE)


async def seen(kafka: Cluster, settings: Settings) -> Ledger:
    """The ledger as it is now."""
    ledger = Ledger(kafka, settings)
    await ledger.start()
    await ledger.barrier_all()
    await ledger.stop()
    return ledger


@pytest.mark.parametrize("state", ["accepted", "waiting"])
async def test_what_has_not_begun(client: httpx.AsyncClient, kafka: Cluster, settings: Settings, state: str) -> None:
    await record(kafka, settings, a_status("one", state=state))
    answer = await client.patch(f"{CANCEL}/one", json={"state": "withdrawn", "reason": "mx2 is back"})
    assert (answer.status_code, answer.json()) == (200, {})
    control = (await seen(kafka, settings)).control("one")
    assert control is not None
    assert (control.action, control.reason, control.requested_by) == ("withdraw", "mx2 is back", "127.0.0.1")
    again = await client.patch(f"{CANCEL}/one", json={"state": "withdrawn"})
    assert (again.status_code, again.json()) == (200, {})
    await client.get(CANCEL)  # which lets the view catch up
    shown = (await client.get(f"{CANCEL}/one")).json()
    assert (shown["state"], shown["detail"]) == (state, "to be withdrawn, at its turn")


CLAIM = Claim(
    id="one",
    kind="xfer.cancel",
    topic=TOPIC,
    topic_id="t",
    queue=QUEUE,
    xfer_queue=QUEUE,
    reason="r",
    group="g",
    ranges={0: (0, 1)},
    claimed_at=MOMENT,
)
REFUSED = Status(id="one", type="xfer.cancel", queue_name=QUEUE, state="refused", detail="why")
BEGUN = {
    "claimed": (claim_key(TOPIC, "one"), CLAIM.to_bytes()),
    "selected": (selection_key(TOPIC, "one", "n", 0), Chunk(queues=["a.example"], of=1).to_bytes()),
    "ended": (outcome_key("one"), REFUSED.to_bytes()),
}


@pytest.mark.parametrize("how", BEGUN)
async def test_what_has_begun(client: httpx.AsyncClient, kafka: Cluster, settings: Settings, how: str) -> None:
    await record(kafka, settings, a_status("one"))
    await Ledger(kafka, settings).record(TOPIC, [BEGUN[how]])
    problem = problem_of(await client.patch(f"{CANCEL}/one", json={"state": "withdrawn"}), 409, "has-begun")
    assert ("has ended: it is refused" if how == "ended" else "has begun") in problem["detail"]
    assert "only a command that has not begun can be withdrawn" in problem["detail"]
    assert (await seen(kafka, settings)).control("one") is None


async def test_what_is_not_known(client: httpx.AsyncClient) -> None:
    problem_of(await client.patch(f"{CANCEL}/nobody", json={"state": "withdrawn"}), 404, "unknown-command")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "state"),
        ('{"state": "done"}', "state"),
        ('{"state": "withdrawn", "reason": ""}', "reason"),
        ('{"state": "withdrawn", "rate": 5}', "rate"),
    ],
)
async def test_what_is_no_change(client: httpx.AsyncClient, body: str, field: str) -> None:
    answer = await client.patch(f"{CANCEL}/one", content=body, headers=JSON)
    (error,) = problem_of(answer, 422, "invalid-request")["errors"]
    assert (error["location"], error["field"]) == ("body", field)
