"""Two thousand fuzzed records through the real topics: nobody else is harmed, and each is reported as it must be."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from streams.broker import EmbeddedBroker
from streams.domain.command import CancelCommand, InvalidCommand, parse_command, position_id
from streams.domain.returned import NotRestorable
from streams.domain.topic import topic_of
from tests.broker.world import Message, World, XferQueue, in_order, without_due
from tests.outside.mutations import CANCEL, START, mutated, rotten
from tests.outside.test_parsers import NOW, Written, transform

COUNT = 1_000
SEED = 20261124


def test_a_thousand_fuzzed_commands(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        worker = world.worker()
        queues = [world.queue() for _ in range(8)]
        other = world.queue()
        for queue in (*queues, other):
            queue.put(*queue.messages(8))
        now = int(time.time() * 1000)  # one that is old is refused for that
        random = Random(SEED)
        records = [
            Message(random.choice((None, b"", b"\xff\0")), a_command(random, queues), (), now + n, n % 4)
            for n in range(COUNT)
        ]
        half = COUNT // 2
        places = world.produce(world.settings.commands_topic, records[:half])
        good = other.cancel()  # in the midst of them
        places += world.produce(world.settings.commands_topic, records[half:])
        assert world.done(good)["restored"] == 8
        outcomes: Counter[str] = Counter()
        names = {queue.name for queue in queues}
        for record, (partition, offset) in zip(records, places, strict=True):
            place = position_id(world.settings.commands_topic, partition, offset, record.timestamp)
            command = parsed(record.value, place)
            status = world.done(command.id)
            outcomes[status["state"]] += 1
            if command.id != place:
                continue  # it has an id of its own, which is whoever's was the first
            if isinstance(command, InvalidCommand):
                assert (status["state"], status["detail"]) == ("refused", command.reason)
                assert status.keys() == {"id", "state", "detail", "restored", "returned", "returned_reasons",
                                         "requested_at", "finished_at"}  # fmt: skip
            else:
                assert (status["queue_name"], status["reason"]) == (command.queue, command.reason)
                assert status["state"] == ("done" if command.queue in names else "refused")
        assert outcomes["refused"] > 100 > 50 < outcomes["done"], outcomes
        # All that the queues held came back once, by whichever of the cancels was the first.
        for queue in queues:
            assert sorted(m.key or b"" for m in queue.restored()) == sorted(m.key or b"" for m in queue.sent)
        assert worker.is_running
        assert_one_line_each(worker.log)


def parsed(value: bytes | None, place: str) -> CancelCommand | InvalidCommand:
    """What the parser makes of a command, good or bad."""
    try:
        command = parse_command(value, fallback_id=place)
    except InvalidCommand as error:
        return error
    assert isinstance(command, CancelCommand)
    return command


def a_command(random: Random, queues: Sequence[XferQueue]) -> bytes:
    """A variation of a cancel of one of the queues; none that starts a transfer, which would take what others have."""
    while True:
        fields = {**CANCEL, "queue_name": random.choice(queues).name}
        if random.random() < 0.9:
            del fields["id"]
        value = mutated(random, fields if random.random() < 0.9 else START)
        try:
            if isinstance(parse_command(value, fallback_id="x"), CancelCommand):
                return value
        except InvalidCommand:
            return value


def test_a_thousand_fuzzed_messages(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        worker = world.worker()
        queue, other = world.queue(), world.queue()
        other.put(*other.messages(400))
        random = Random(SEED)
        messages = [a_message(random, queue, number) for number in range(COUNT)]
        queue.put(*messages)
        id = queue.cancel()
        assert other.cancelled()["restored"] == 400  # drained meanwhile
        status = world.done(id)
        move = transform("xfer.cancel", queue.name)
        restored: dict[str, list[Message]] = {}
        returned: list[Message] = []
        reasons: Counter[str] = Counter()
        for message in messages:
            try:
                moved = move(Written(message.key, message.value, message.headers), NOW)
            except NotRestorable as error:
                reasons[error.code] += 1
                returned.append(message)
            else:
                restored.setdefault(moved.queue, []).append(replace(message, headers=tuple(moved.headers)))
        assert status["returned_reasons"] == dict(reasons)
        assert (status["restored"], status["returned"]) == (COUNT - len(returned), len(returned))
        assert len(reasons) >= 4
        assert len(returned) < COUNT * 3 // 4
        assert queue.remaining() == in_order(returned)
        for name, there in restored.items():
            assert list(map(without_due, world.read(topic_of(name)))) == in_order(map(without_due, there))
        assert len(queue.log()) == status["restored"]
        assert worker.is_running
        assert_one_line_each(worker.log)


def a_message(random: Random, queue: XferQueue, number: int) -> Message:
    """A message of which the envelope, the headers or all else was tampered with."""
    # Few destinations: each is a topic. What the variations make of the recipient does not matter then.
    tenant = f"t{number % 3}@{queue.domain}"
    message = queue.message(partition=number % 4, info={"queue": tenant, "num_attempts": number % 9})
    envelope = message.envelope
    ways: tuple[Callable[[], Message], ...] = (
        lambda: message.with_envelope(at_home(mutated(random, envelope), tenant)),
        lambda: message.with_envelope(at_home(rotten(random, json.dumps(envelope).encode()), tenant)),
        partial(with_headers, random, message),
        lambda: queue.message(
            partition=number % 4,
            info={"queue": tenant},
            key=random.choice((None, b"", random.randbytes(40))),
            value=random.choice((None, b"", random.randbytes(3_000))),
        ),
    )
    return random.choice(ways)()


def at_home(raw: bytes, tenant: str) -> bytes:
    """The envelope, unless it would make a topic of its own of a name that the variations have made up."""
    try:
        moved = transform("xfer.cancel")(Written(b"", b"", (("envelope", raw),)), NOW)
    except NotRestorable:
        return raw
    return raw if moved.queue == tenant else b"{}"


def with_headers(random: Random, message: Message) -> Message:
    """The message with more headers, of any name that a client in C can write, or with one fewer."""
    headers = list(message.headers)
    for _ in range(random.randrange(5)):
        name = random.choice(("envelope", "Envelope", "\r\nx: y", "\u202e", "a" * 300, "envelope "))
        value = random.choice((None, b"", random.randbytes(20), b"{}"))
        headers.insert(random.randrange(len(headers) + 1), (name, value))
    if random.random() < 0.2:
        del headers[random.randrange(len(headers))]
    return replace(message, headers=tuple(headers))


def assert_one_line_each(log: str) -> None:
    """Every line of a worker's log is one of its own, and nothing in it could steer a terminal."""
    for line in log.splitlines():
        assert line.startswith("20"), line
    assert all(char.isprintable() or char == "\n" for char in log)
