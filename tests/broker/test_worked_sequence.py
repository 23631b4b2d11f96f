"""KumoMTA's worked sequence and the contract's examples, from the outside in: HTTP or commands, and real topics."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from streams.broker import EmbeddedBroker
from streams.commands.command_record import CommandRecord
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.worker.engine import Engine
from tests.api.running import CANCEL, START, running
from tests.broker.scene import WAIT_S
from tests.broker.world import XFER_SUFFIX, Message, World, XferQueue, in_order, without_due
from tests.support.draining import drain

EXAMPLES = json.loads((Path(__file__).parent.parent / "contract" / "examples.json").read_text(encoding="utf-8"))
TARGET = "http://bogus.kumomta.internal.notavalidtld"
XFER_QUEUE = f"{TARGET}/{XFER_SUFFIX}"
SCHEDULED = "mytenant@example.com"
# From the contract, not from the codec that is tested with it.
TOPICS = {case["queue"]: case["topic"] for case in EXAMPLES["topics"]}


async def test_the_worked_sequence(world: World) -> None:
    """Received, transferred, cancelled over HTTP: an AdminRebind into the xfer queue, one back, and it is due."""
    schedule = {"expires": "3000-12-31T00:00:00Z"}
    envelope = {
        "sender": "s@example.com",
        "recipient": "user@example.com",
        "meta": {"tenant": "mytenant", "received_via": "esmtp"},
        "num_attempts": 1,
        "created": "2026-11-20T10:00:00Z",
        "due": "2026-11-24T08:00:00Z",
        "schedule": schedule,
    }
    headers = (("x-first", b"1"), ("envelope", json.dumps(envelope).encode()))
    message = Message(uuid.uuid4().hex.encode(), b"Subject: hi\r\n\r\nHello\r\n", headers, 1_790_000_000_000, 2)
    scheduled, xfer = TOPICS[SCHEDULED], topic_of(XFER_QUEUE)
    world.create(scheduled, 4)
    world.produce(scheduled, [message])

    async with running(create_app(world.settings)) as client:
        # By its name: other tests on this Kafka restore into queues of the same tenant and domain.
        wanted = {"target": TARGET, "reason": "moving", "queue_names": [SCHEDULED]}
        answer = await client.post(START, json=wanted)
        assert (answer.status_code, answer.json()) == (200, {})
        status = await asyncio.to_thread(world.done, answer.headers["X-Command-Id"])
        assert (status["state"], status["total"], status["restored"]) == ("done", 1, 1)

        (moved,) = world.read(xfer)
        assert moved.envelope["meta"] == {
            "received_via": "esmtp",
            "queue": XFER_QUEUE,
            "xfer_queue_info": {
                "tenant": "mytenant",
                "schedule": schedule,
                "num_attempts": 1,
                "due": "2026-11-24T08:00:00Z",
            },
        }
        assert moved.envelope.get("schedule") is None
        assert replace(moved, headers=()) == replace(message, headers=())

        before = datetime.now(UTC)
        answer = await client.post(CANCEL, json={"queue_name": XFER_QUEUE, "reason": EXAMPLES["reason"]})
        assert (answer.status_code, answer.json()) == (200, {})
        id = answer.headers["X-Command-Id"]
        async with asyncio.timeout(WAIT_S):
            while (status := (await client.get(f"{CANCEL}/{id}")).json())["state"] != "done":
                await asyncio.sleep(0.02)
        assert (status["state"], status["total"], status["restored"], status["returned"]) == ("done", 1, 1, 0)

    (back,) = [found for found in world.read(scheduled) if found.key == message.key][-1:]
    assert without_due(back) == without_due(message)
    assert before <= datetime.fromisoformat(back.envelope["due"]) <= datetime.now(UTC)
    lines = [
        json.loads(found.value or b"") for found in world.read(world.settings.log_topic) if found.key == message.key
    ]
    assert {(line["type"], line["queue"], line["response"]["content"]) for line in lines} == {
        ("AdminRebind", XFER_QUEUE, f"Rebound from {SCHEDULED} to {XFER_QUEUE}: moving"),
        ("AdminRebind", SCHEDULED, f"Rebound from {XFER_QUEUE} to {SCHEDULED}: {EXAMPLES['reason']}"),
    }
    assert len(lines) == 2


@asynccontextmanager
async def engine_at(world: World, now: datetime) -> AsyncIterator[Engine]:
    """An engine whose clock stands still."""
    async with Cluster(world.settings) as kafka:
        engine = Engine(kafka, world.settings, lambda: now)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


async def cancelled_at(queue: XferQueue, now: datetime) -> dict[str, Any]:
    """Cancel the queue at a certain time of day; returns the status."""
    world, id = queue.world, uuid.uuid4().hex
    command = {"type": "xfer.cancel", "queue_name": queue.name, "reason": EXAMPLES["reason"], "id": id}
    async with engine_at(world, now) as engine:
        record = CommandRecord(
            world.settings.commands_topic, 0, 0, int(now.timestamp() * 1000), json.dumps(command).encode()
        )
        assert await engine.on_command(record, lambda: True)
        await engine.ledger.barrier_all()
        for claim in engine.ledger.claims_of(id):
            for partition in claim.ranges:
                await drain(engine.drainer, claim.topic, partition)
        await engine.ledger.barrier_all()
        await engine.commands.outcomes.finish(id)
    return world.done(id)


# The contract names the queue, and the sequence above uses it as well.
@pytest.mark.alone
async def test_the_contracts_examples(broker: EmbeddedBroker) -> None:
    """What is restored, what goes back, and to which moment schedules move a message, all through one queue."""
    (moment,) = {case["now"] for case in EXAMPLES["restored"]}
    with World(broker.bootstrap_servers) as world:
        queue = world.queue(name=EXAMPLES["xfer_queue"])
        own = uuid.uuid4().hex
        restored = [
            queue.message(key=f"{own}-{number}".encode(), partition=number % 4).with_envelope(case["before"])
            for number, case in enumerate(EXAMPLES["restored"])
        ]
        returned = [queue.message(partition=1).with_envelope(case["envelope"]) for case in EXAMPLES["returned"]]
        queue.put(*restored, *returned)
        status = await cancelled_at(queue, datetime.fromisoformat(moment))
        assert (status["restored"], status["returned"]) == (len(restored), len(returned))
        assert queue.remaining() == in_order(returned)
        contents = {message.key: line["response"]["content"] for message, line in queue.log()}
        for message, case in zip(restored, EXAMPLES["restored"], strict=True):
            topic = TOPICS.get(case["queue"]) or topic_of(case["queue"])
            (found,) = [found for found in world.read(topic) if found.key == message.key]
            assert found == replace(message, headers=found.headers)
            assert found.envelope == case["after"]
            assert contents[message.key] == case["log_content"]


def test_every_queue_name_of_the_contract_is_restored_to_its_topic(queue: XferQueue) -> None:
    topics = {name: topic for name, topic in TOPICS.items() if not name.endswith(XFER_SUFFIX)}
    assert len(topics) > 5
    messages = queue.put(*(queue.message(info={"queue": name}) for name in topics))
    assert queue.cancelled()["restored"] == len(messages)
    for message, (name, topic) in zip(messages, topics.items(), strict=True):
        (found,) = [found for found in queue.world.read(topic) if found.key == message.key]
        assert found.envelope["meta"]["queue"] == name


def test_a_transfer_sends_back_what_it_cannot_move(queue: XferQueue) -> None:
    world = queue.world
    topic = topic_of(queue.domain)
    world.create(topic, 4)
    good = [queue.message(headers=(("envelope", json.dumps(plain(queue)).encode()),)) for _ in range(8)]
    bare = [queue.message(headers=(("x", b"1"),)), queue.message(headers=(("envelope", b"{"),))]
    world.produce(topic, [*good[:4], *bare, *good[4:]])
    status = world.done(world.transfer(queue.name.removesuffix(XFER_SUFFIX), domain=queue.domain))
    assert status["returned_reasons"] == {"no_envelope": 1, "invalid_envelope": 1}
    assert (status["restored"], status["total"]) == (8, 10)
    assert [message.key for message in world.read(queue.topic)] == [message.key for message in good]
    assert world.read(topic)[-2:] == bare
    assert queue.cancelled()["restored"] == 8
    assert [without_due(found) for found in queue.restored()[-8:]] == [without_due(message) for message in good]


def plain(queue: XferQueue) -> dict[str, Any]:
    """An envelope of a message that nobody has transferred."""
    envelope: dict[str, Any] = queue.message().envelope
    return {**envelope, "meta": {"kept": 2**53 + 1}}
