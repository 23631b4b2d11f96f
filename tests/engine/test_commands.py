"""Commands: once each, whatever is published, redelivered, repeated, lost or refused."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from faust.types import TP

from streams.domain.topic import topic_of
from streams.errors import Refused
from tests.domain.test_command import NO_TYPE
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import skip, timeless
from tests.fakes.faults import Faults


@timeless
async def test_a_message_comes_back_as_it_was_with_one_record_in_the_log() -> None:
    """Transferred and cancelled: the same message, in its own queue, partition by partition in order."""
    async with World() as world:
        ids = world.inject(10, QUEUES[0])
        topic = world.broker.topics[topic_of(QUEUES[0])]
        before = [list(log.records(0, log.end)) for log in topic.logs]
        world.worker()
        world.transfer("s1")
        await world.ended("s1")
        assert set(map(tuple, Checker(world).places().values())) == {(topic_of(XFER_QUEUE),)}
        world.cancel("c1")
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (10, 10, 0)
        heads = [log.end for log in topic.logs]
        for log, old in zip(topic.logs, before, strict=True):
            back = [record for record in log.all_records() if record.offset >= len(old)]
            assert [record.key for record in back] == [record.key for record in old]
            for new, was in zip(back, old, strict=True):
                assert (new.value, new.timestamp) == (was.value, was.timestamp)
                assert [h for h in new.headers if h[0] != "envelope"] == [h for h in was.headers if h[0] != "envelope"]
                assert [name for name, _ in new.headers] == [name for name, _ in was.headers]
                envelope, old_envelope = (orjson.loads(dict(r.headers)["envelope"]) for r in (new, was))
                assert envelope.pop("due") is not None
                del old_envelope["due"]
                assert envelope == old_envelope
        assert heads == [log.end for log in topic.logs]
        records = [
            orjson.loads(record.value or b"")
            for log in world.broker.topics[world.settings.log_topic].logs
            for record in log.all_records()
        ]
        wanted = [f"Rebound from {QUEUES[0]} to {XFER_QUEUE}: why", f"Rebound from {XFER_QUEUE} to {QUEUES[0]}: why"]
        for id in ids:
            assert [r["response"]["content"] for r in records if r["id"] == id] == wanted
        Checker(world).check()


@timeless
async def test_an_empty_queue_is_done_at_once_and_an_unknown_one_refused() -> None:
    async with World() as world:
        world.queue()
        world.worker()
        world.cancel("c1")
        world.cancel("c2", queue="http://other.example/.xfer.kumomta.internal")
        status = await world.ended("c1")
        assert (status.state, status.total) == ("done", 0)
        status = await world.ended("c2")
        assert status.state == "refused"
        assert status.detail == "http://other.example/.xfer.kumomta.internal is not a current scheduled queue"


@timeless
async def test_what_is_no_command_is_refused_and_the_next_one_carried_out() -> None:
    async with World() as world:
        world.inject(3)
        command = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "why", "id": "bad"}
        refused: list[tuple[Any, str]] = [
            (None, "the command is empty"),
            (b"\xff\xfe", "the command is not valid JSON"),
            (b"[]", "the command is not a JSON object"),
            (command | {"type": "else"}, NO_TYPE),
            (command | {"queue_name": "a.example", "id": "bad2"}, "a.example is not an xfer queue"),
            (command | {"reason": "x" * 900_000, "id": "bad3"}, "reason must be 1 to 1024 bytes of UTF-8"),
            (command | {"reason": "x" * 1_000_000, "id": "bad4"}, "the command is larger than 1,000,000 bytes"),
        ]
        for value, _ in refused:
            world.publish(value)
        world.cancel("good")
        world.worker()
        assert (await world.ended("good")).restored == 3
        found = sorted((status.detail or "") for status in world.ledger.statuses() if status.state == "refused")
        assert found == sorted(why for _, why in refused)
        assert list(world.workers[0].unacknowledged()) == []


@timeless
async def test_a_transfer_whose_topic_can_t_be_had_is_refused() -> None:
    async with World() as world:
        world.inject(3, "a.example")
        world.broker.create = lambda *_: "against a policy"  # type: ignore[method-assign]
        world.worker()
        world.transfer("s1")
        status = await world.ended("s1")
        assert status.state == "refused"
        assert "against a policy" in (status.detail or "")


@pytest.mark.parametrize("again", ["at once", "when it is done"])
@timeless
async def test_the_same_command_again_changes_nothing(again: str) -> None:
    async with World() as world:
        world.inject(8)
        world.cancel("c1")
        if again == "at once":
            world.cancel("c1", partition=1)
        world.worker()
        first = await world.ended("c1")
        world.inject(3)
        if again != "at once":
            world.cancel("c1")
        await asyncio.sleep(20)
        assert await world.status("c1") == first
        assert len(Checker(world).claims()) == 1
        assert list(world.workers[0].unacknowledged()) == []
        Checker(world).check()


@timeless
async def test_the_same_id_for_another_command_is_passed_over() -> None:
    async with World() as world:
        world.inject(8)
        other = "http://other.example/.xfer.kumomta.internal"
        world.inject(2, other)
        world.cancel("c1")
        world.worker()
        first = await world.ended("c1")
        world.cancel("c1", queue=other)
        world.cancel("c1", reason="another one")
        world.publish({"type": "xfer.cancel", "id": "c1"})
        await asyncio.sleep(20)
        assert await world.status("c1") == first
        assert {claim.topic for claim in Checker(world).claims()} == {topic_of(XFER_QUEUE)}
        assert list(world.workers[0].unacknowledged()) == []


@timeless
async def test_a_task_that_can_t_be_published_at_first() -> None:
    """The claim stands by then; that the command waits must not hide that it was claimed.

    1. The claim commits; the marker in the ledger is late, so the claim is not known to its own worker yet.
    2. Publishing the tasks fails.
    3. The command is recorded as waiting, behind the claim's own status.
    """
    async with World() as world:
        world.inject(8)
        faults = Faults()
        faults.on("publish:xferq.drains", "unavailable")
        delays = iter([0.0, 0.4] * 1_000)  # the group's marker at once, the ledger's later
        world.broker.marker_delay = lambda: next(delays)
        world.worker(faults)
        world.cancel("c1")
        status = await world.ended("c1", within_s=300)
        assert (status.state, status.total) == ("done", 8)


@pytest.mark.parametrize("where", ["hold", "members", "evict"])
@timeless
async def test_members_that_can_t_be_evicted(where: str) -> None:
    """Refused before anything is claimed; where it was claimed already, that is what the status says."""
    async with World() as world:
        world.inject(6)
        dispatcher = world.dispatcher()
        dispatcher.join()
        faults = Faults()
        world.worker(faults)
        if where == "evict":
            world.broker.group(world.settings.group_of(topic_of(XFER_QUEUE))).is_classic = False
        faults.on(where, Refused("by script"), times=1_000)
        world.cancel("c1")
        if where == "hold":
            status = await world.ended("c1")
            assert status.state == "refused"
            assert Checker(world).claims() == []
            return
        await asyncio.sleep(60)
        status = await world.status("c1")  # type: ignore[assignment]
        claims = Checker(world).claims()
        assert status is not None
        assert (status.state == "refused") == (claims == [])
        Checker(world).check()


@timeless
async def test_a_transfer_takes_what_matches() -> None:
    async with World() as world:
        for queue in (*QUEUES, XFER_QUEUE):
            world.inject(4, queue)
        world.worker()
        world.transfer("s1", tenant="t1")
        status = await world.ended("s1")
        assert (status.queues, status.total) == (1, 4)
        world.transfer("s2", queue_names=[QUEUES[0], "unknown.example"])
        status = await world.ended("s2")
        assert (status.queues, status.total) == (1, 4)
        world.transfer("s3")
        status = await world.ended("s3")
        assert (status.queues, status.total) == (1, 4)  # one is left, and never the target's own
        world.transfer("s4")
        status = await world.ended("s4")
        assert (status.queues, status.total, status.state) == (0, 0, "done")
        assert set(map(tuple, Checker(world).places().values())) == {(topic_of(XFER_QUEUE),)}
        Checker(world).check()


@timeless
async def test_old_commands_are_forgotten_and_heads_are_not() -> None:
    async with World() as world:
        world.inject(8)
        worker = world.worker()
        world.cancel("c1")
        world.transfer("s1", queue_names=["unknown.example"])
        await world.ended("s1", "c1")
        heads = {key: value for key, value in Checker(world)._ledger().items() if key.startswith("head/")}
        assert len(heads) == 2
        skip(timedelta(days=29))
        await asyncio.sleep(700)
        assert await world.status("c1") is not None
        skip(timedelta(days=2))
        await asyncio.sleep(700)
        assert (await world.status("c1"), await world.status("s1")) == (None, None)
        assert Checker(world)._ledger() == heads
        assert worker.engine.ledger.heads(topic_of(XFER_QUEUE), world.broker.topics[topic_of(XFER_QUEUE)].id) != {}
        world.inject(3)
        world.cancel("c1")  # the id is free again, and its claim begins beyond the heads
        assert (await world.ended("c1")).total == 3


# ---- tasks


@pytest.mark.parametrize("how", ["lost", "repeated", "of nothing", "unreadable"])
@timeless
async def test_tasks_are_nudges(how: str) -> None:
    async with World() as world:
        world.inject(8)
        options: dict[str, Any] = {"repeat_tasks": 3} if how == "repeated" else {}
        worker = world.worker(drains=how != "lost", **options)
        topic = topic_of(XFER_QUEUE)
        if how == "of nothing":
            world.publish_task(topic, 0)
            world.publish_task(topic, 7)
            world.publish_task("queue.never.example", 0)
        if how == "unreadable":
            logs = world.broker.topics[world.settings.drains_topic].logs
            bad = [None, b"", b"\xff", b"[]", b"{}", b'{"topic": "xferq.ledger", "partition": 0}', b'{"topic": 1}']
            bad += [orjson.dumps({"topic": topic, "partition": "x"}), orjson.dumps({"topic": topic, "partition": None})]
            for value in bad:
                logs[0].append([(0, b"k", value, ())])
        world.cancel()
        if how == "lost":
            await world.until(lambda: bool(world.ledger.claims(topic)))
            await asyncio.sleep(1)
            assert world.ledger.claims(topic)[0].id == "c1"
            worker.begin_drains()
        status = await world.ended("c1")
        assert status.restored == 8
        await asyncio.sleep(20)
        if how != "lost":
            assert list(worker.unacknowledged()) == []
        Checker(world).check()


@timeless
async def test_claims_in_a_row_are_drained_in_the_order_of_their_offsets() -> None:
    async with World(partitions=1) as world:
        first = world.worker(drains=False)
        for number in range(4):
            world.inject(3)
            world.cancel(f"c{number}")
            await world.until(lambda: len(world.ledger.claims(topic_of(XFER_QUEUE))) == number + 1)  # noqa: B023
        first.kill()
        tasks = world.broker.topics[world.settings.drains_topic]
        for partition, log in enumerate(tasks.logs):
            world.group.offsets[TP(tasks.name, partition)] = log.end
        world.publish_task(topic_of(XFER_QUEUE), 0)
        world.worker()
        await world.ended("c0", "c1", "c2", "c3")
        for queue in QUEUES:
            (log,) = world.broker.topics[topic_of(queue)].logs
            keys = [int((record.key or b"")[1:]) for record in log.all_records()]
            assert keys == sorted(keys)
        Checker(world).check()


@pytest.mark.parametrize("timestamp", [-1, 0, 1 << 62])
@timeless
async def test_a_record_of_no_time_is_carried_out(timestamp: int) -> None:
    """Its publisher writes what it likes, where the topic does not take the broker's time."""
    async with World(expire_after_s=60.0, keep_commands_days=1e6) as world:
        world.inject(4)
        log = world.broker.topics[world.settings.commands_topic].logs[0]
        command = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "why", "id": "c1"}
        log.append([(timestamp, b"key", orjson.dumps(command), ())])
        world.worker()
        assert (await world.ended("c1")).restored == 4
