"""The commands topic, as whoever publishes to it sees it: what is no command is refused, the next one goes on."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.domain.command import ID_RULE
from tests.broker.scene import WAIT_S
from tests.broker.world import XFER_SUFFIX, World, XferQueue
from tests.domain.test_command import NO_TYPE


def cancel_of(queue: str, **fields: Any) -> bytes:
    """A cancel as JSON; a field that is None is left out."""
    command = {"type": "xfer.cancel", "queue_name": queue, "reason": "test", **fields}
    return json.dumps({name: value for name, value in command.items() if value is not None}).encode()


X = f"http://x.invalid/{XFER_SUFFIX}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the command is empty"),
        (b"", "the command is not valid JSON"),
        (b"no json", "the command is not valid JSON"),
        (b"\xff\xfe\x80", "the command is not valid JSON"),
        (b'{"type": "xfer.cancel", "reason": "\xff"}', "the command is not valid JSON"),
        (b"[" * 100_000, "the command is not valid JSON"),
        (b"[]", "the command is not a JSON object"),
        (b"null", "the command is not a JSON object"),
        (b"{}", NO_TYPE),
        (cancel_of(X, type="xfer.unknown"), NO_TYPE),
        (cancel_of(X, type=["xfer.cancel"]), NO_TYPE),
        (cancel_of(X, queue_name=None), "queue_name is missing"),
        (cancel_of(X, queue_name=1), "queue_name must be a string"),
        (cancel_of(""), "queue_name must be 1 to 1024 bytes of UTF-8"),
        (cancel_of("x" * 1_024 + XFER_SUFFIX), "queue_name must be 1 to 1024 bytes of UTF-8"),
        (cancel_of("example.com"), "example.com is not an xfer queue"),
        (cancel_of(X, reason=None), "reason is missing"),
        (cancel_of(X, reason=""), "reason must be 1 to 1024 bytes of UTF-8"),
        (cancel_of(X, reason="x" * 900_000), "reason must be 1 to 1024 bytes of UTF-8"),
        (cancel_of(X, reason="x" * 1_000_000), "the command is larger than 1,000,000 bytes"),
        (cancel_of(X, id="not/an id"), f"id {ID_RULE}"),
        (b'{"type": "xfer.start", "reason": "x"}', "target is missing"),
        (cancel_of(X, reasn="r"), "reasn is not a known field; reason?"),
        (cancel_of(X)[:-1] + b', "reason": "again"}', "reason is there twice"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_command_is_recorded_as_refused(world: World, value: bytes | None, reason: str) -> None:
    status = world.done(world.publish(value))
    assert (status["state"], status["detail"]) == ("refused", reason)
    assert status["requested_at"]
    assert status["finished_at"]


def test_the_next_command_is_carried_out_whatever_stands_before_it(queue: XferQueue) -> None:
    queue.put(*queue.messages(4))
    world = queue.world
    garbage = [None, b"\xff", b"[" * 100_000, b"{}", cancel_of(X, reason="x" * 1_000_000), cancel_of("example.com")]
    ids = [world.publish(value, partition=0) for value in garbage]
    id = uuid.uuid4().hex
    world.publish(cancel_of(queue.name, id=id), partition=0)
    assert world.done(id)["restored"] == 4
    assert [world.done(id)["state"] for id in ids] == ["refused"] * len(garbage)


def test_a_refused_command_keeps_its_own_id(world: World) -> None:
    id = uuid.uuid4().hex
    world.publish(cancel_of("example.com", id=id))
    assert world.done(id)["state"] == "refused"


def test_an_unknown_queue(world: World) -> None:
    name = f"http://nobody.{uuid.uuid4().hex}.invalid/{XFER_SUFFIX}"
    status = world.done(world.command(type="xfer.cancel", queue_name=name, reason="test"))
    assert (status["state"], status["detail"]) == ("refused", f"{name} is not a current scheduled queue")


def test_a_command_without_an_id_is_known_by_its_place(queue: XferQueue) -> None:
    queue.put(*queue.messages(4))
    id = queue.world.publish(cancel_of(queue.name), queue.name.encode())
    status = queue.world.done(id)
    assert (status["id"], status["restored"]) == (id, 4)


def test_a_record_that_is_older_than_ids_are_remembered_is_refused(queue: XferQueue) -> None:
    left = queue.put(*queue.messages(4))
    world, days = queue.world, queue.settings.keep_commands_days
    ids = {age: uuid.uuid4().hex for age in (days + 1, days - 1)}
    producer = Producer({"bootstrap.servers": world.servers, "log_level": 0})
    for age, id in ids.items():
        timestamp = int((time.time() - age * 86_400) * 1000)
        producer.produce(world.settings.commands_topic, cancel_of(queue.name, id=id), partition=0, timestamp=timestamp)
        assert producer.flush(WAIT_S) == 0
        status = world.done(id)
        if age > days:
            assert status["state"] == "refused"
            assert "XFERQ_KEEP_COMMANDS_DAYS" in status["detail"]
            assert queue.remaining() == left
        else:
            assert status["restored"] == len(left)


def test_the_status_tells_who_asked_and_when(queue: XferQueue) -> None:
    id = queue.world.command(
        type="xfer.cancel",
        queue_name=queue.name,
        reason="\u00fcber",
        requested_at="2026-11-24T09:00:00Z",
        requested_by="alice",
    )
    status = queue.world.done(id)
    asked = {name: status[name] for name in ("type", "queue_name", "reason", "requested_at", "requested_by")}
    assert asked == {
        "type": "xfer.cancel",
        "queue_name": queue.name,
        "reason": "\u00fcber",
        "requested_at": "2026-11-24T09:00:00Z",
        "requested_by": "alice",
    }


def test_the_same_command_twice_is_one_claim(queue: XferQueue) -> None:
    queue.put(*queue.messages(8))
    id = uuid.uuid4().hex
    for partition in (0, 0, 1, 3):
        queue.world.publish(cancel_of(queue.name, id=id), partition=partition)
    first = queue.world.done(id)
    assert first["restored"] == 8
    # Once more when it is done, with messages for it to take by mistake.
    left = queue.put(*queue.messages(4))
    again = [queue.world.publish(cancel_of(queue.name, id=id), partition=partition) for partition in (0, 1, 3)]
    queue.world.acknowledged(*again)
    assert len(queue.world.claims(queue.topic)) == 1
    assert queue.world.done(id) == first
    assert queue.remaining() == left
    assert len(queue.restored()) == len(queue.log()) == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda name: cancel_of(name, reason="another"),
        lambda name: cancel_of(f"http://another.invalid/{XFER_SUFFIX}"),
        lambda name: json.dumps({"type": "xfer.start", "target": "http://x.invalid", "reason": "test"}).encode(),
        lambda name: cancel_of("not an xfer queue"),
    ],
    ids=["reason", "queue", "type", "invalid"],
)
@pytest.mark.parametrize("partition", [0, 2], ids=["same partition", "another partition"])
def test_the_same_id_with_other_content_leaves_the_first_ones_status(
    queue: XferQueue, change: Callable[[str], bytes], partition: int
) -> None:
    world = queue.world
    queue.put(*queue.messages(4))
    id = uuid.uuid4().hex
    world.publish(cancel_of(queue.name, id=id), partition=0)
    first = world.done(id)
    other = json.loads(change(queue.name)) | {"id": id}
    world.acknowledged(world.publish(json.dumps(other).encode(), partition=partition))
    assert world.done(id) == first
    assert (first["state"], first["restored"], first["reason"]) == ("done", 4, "test")


def test_an_id_that_is_used_for_two_queues_at_once_is_the_first_ones(world: World) -> None:
    queues = [world.queue(), world.queue()]
    messages = [queue.put(*queue.messages(4)) for queue in queues]
    id = uuid.uuid4().hex
    world.acknowledged(*[world.publish(cancel_of(queue.name, id=id), partition=0) for queue in queues])
    status = world.done(id)
    assert (status["queue_name"], status["total"], status["restored"]) == (queues[0].name, 4, 4)
    assert queues[0].remaining() == []
    assert queues[1].remaining() == messages[1]
    assert world.claims(queues[1].topic) == []
