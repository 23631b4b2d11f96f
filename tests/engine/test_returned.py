"""What can't be moved goes back to the tail, byte for byte, with its reason; everything else is moved."""

import orjson
import pytest

from streams.domain.returned import ReturnReason
from streams.domain.topic import topic_of
from tests.engine.checker import Checker
from tests.engine.world import XFER_QUEUE, World, envelope
from tests.fakes.clock import timeless
from tests.fakes.log import FakeRecord

GOOD = envelope(XFER_QUEUE, saved={"queue": "a.example"})
HEADERS: dict[ReturnReason, list[tuple[str, bytes]]] = {
    ReturnReason.NO_ENVELOPE: [("x", b"1")],
    ReturnReason.INVALID_ENVELOPE: [("envelope", b"{not json")],
    ReturnReason.NO_SAVED_INFO: [("envelope", envelope(XFER_QUEUE))],
    ReturnReason.INVALID_SAVED_INFO: [("envelope", envelope(XFER_QUEUE, saved={"num_attempts": -1}))],
    ReturnReason.UNRESOLVABLE_QUEUE: [("envelope", envelope(XFER_QUEUE, saved={"queue": XFER_QUEUE}))],
    # The name encodes to one that Kafka refuses here.
    ReturnReason.DESTINATION_UNAVAILABLE: [("envelope", envelope(XFER_QUEUE, saved={"queue": "forbidden.example"}))],
    ReturnReason.TIMESTAMP: [("envelope", envelope(XFER_QUEUE, saved={"queue": "recent.example"}))],
    ReturnReason.TOO_LARGE: [("x", b"y" * 3_000), ("envelope", envelope(XFER_QUEUE, saved={"queue": "small.example"}))],
}


def test_all_reasons_are_tried() -> None:
    # That of a batch, by tests/outside/test_bombs.py.
    assert {*HEADERS, ReturnReason.BATCH_TOO_LARGE} == set(ReturnReason)


def messages(world: World, queue: str) -> list[FakeRecord]:
    topic = world.broker.topics[topic_of(queue)]
    return [record for log in topic.logs for record in log.records(log.start, log.end)]


def refuse_topics(world: World, word: str) -> None:
    """The cluster's policy."""
    create = world.broker.create

    def refusing(name: str, partitions: int, max_message_bytes: int = 1_048_588) -> str | None:
        return "against a policy" if word in name else create(name, partitions, max_message_bytes)

    world.broker.create = refusing  # type: ignore[method-assign]


@pytest.mark.parametrize("reason", HEADERS, ids=lambda reason: reason.value)
@timeless
async def test_it_goes_back_as_it_was(reason: ReturnReason) -> None:
    async with World(partitions=1) as world:
        refuse_topics(world, "forbidden")
        world.broker.create(topic_of("small.example"), 1, max_message_bytes=2_000)
        world.broker.create(topic_of("recent.example"), 1)
        world.broker.topics[topic_of("recent.example")].timestamp_limits = (3_600_000, 3_600_000)
        headers = [("first", b"1"), *HEADERS[reason], ("last", b""), ("last", b"2")]
        (before,) = world.inject(1, headers=lambda _: [("envelope", GOOD)])
        (bad,) = world.inject(1, headers=lambda _: headers, value=b"\x00\xff\r\n")
        (after,) = world.inject(1, headers=lambda _: [("envelope", GOOD)])
        (as_it_was,) = [record for record in messages(world, XFER_QUEUE) if record.key == bad.encode()]
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (3, 2, 1)
        assert status.returned_reasons == {reason.value: 1}
        checker = Checker(world)
        checker.check()
        assert checker.places() == {
            before: [topic_of("a.example")],
            bad: [topic_of(XFER_QUEUE)],
            after: [topic_of("a.example")],
        }
        (back,) = [record for record in messages(world, XFER_QUEUE) if record.offset >= 3]
        for field in ("key", "value", "timestamp", "headers", "partition"):
            assert getattr(back, field) == getattr(as_it_was, field)


@timeless
async def test_the_others_for_the_same_destination_are_restored() -> None:
    """One that is too large takes nothing with it, and the next claim of it counts anew."""
    async with World(partitions=1) as world:
        world.broker.create(topic_of("small.example"), 1, max_message_bytes=2_000)
        saved = envelope(XFER_QUEUE, saved={"queue": "small.example"})
        world.inject(4, headers=lambda _: [("envelope", saved)])
        world.inject(2, headers=lambda _: [("envelope", saved)], value=b"x" * 2_500)
        world.inject(4, headers=lambda _: [("envelope", saved)])
        world.worker()
        world.cancel("c1")
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (10, 8, 2)
        assert len(messages(world, "small.example")) == 8
        world.cancel("c2")
        status = await world.ended("c2")
        assert (status.total, status.restored, status.returned) == (2, 0, 2)
        Checker(world).check()


@timeless
async def test_a_log_that_takes_no_such_record() -> None:
    """A message is not restored without its record."""
    async with World(partitions=1) as world:
        world.broker.topics[world.settings.log_topic].max_message_bytes = 1_500
        long = envelope(XFER_QUEUE, saved={"queue": "a.example"}, sender="x" * 2_000)
        world.inject(1, headers=lambda _: [("envelope", long)])
        world.inject(3)
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (4, 3, 1)
        assert status.returned_reasons == {"too_large": 1}
        Checker(world).check()


@timeless
async def test_what_came_compressed_and_is_too_large_by_itself_gets_back() -> None:
    async with World(partitions=1) as world:
        topic = world.queue()
        world.broker.topics[topic].max_message_bytes = 2_000
        world.inject(1, headers=lambda _: [("x", b"1")], value=b"x" * 5_000)
        world.inject(2)
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (3, 2, 1)
        Checker(world).check()


@timeless
async def test_progress_does_not_move_on_past_what_was_turned_down() -> None:
    """A destination turns its batch down, the others took theirs: nothing of that transaction may count."""
    async with World(partitions=1) as world:
        world.inject(6)
        world.broker.create(topic_of("c.example"), 1, max_message_bytes=100)
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (6, 4, 2)
        logs = world.broker.topics[world.settings.log_topic].logs
        records = [orjson.loads(record.value or b"") for log in logs for record in log.all_records()]
        assert "c.example" not in {record["queue"] for record in records}
        Checker(world).check()
