"""The examples in docs/examples/ do what they say, on a real Kafka with a worker, and in each language."""

import importlib.util
import json
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from tests.broker.examples import EXAMPLES, Program, programs
from tests.broker.scene import WAIT_S, wait_until
from tests.broker.world import Message, World, XferQueue

Start = Callable[..., Program]
ROUNDS = 6


@pytest.fixture
def start(world: World) -> Iterator[Start]:
    """Starts an example, by its file's name, with this world's names."""
    settings = world.settings
    variables = {
        "XFERQ_BOOTSTRAP_SERVERS": world.servers,
        "XFERQ_COMMANDS_TOPIC": settings.commands_topic,
        "XFERQ_LOG_TOPIC": settings.log_topic,
        "XFERQ_RESULTS_TOPIC": settings.results_topic,
        "XFERQ_GROUP_TEMPLATE": settings.group_template,
    }
    with programs(variables) as start:
        yield start


def keys_of(messages: list[Message]) -> list[str]:
    """The messages' ids as text."""
    return [(message.key or b"").decode() for message in messages]


def log_aborted_moves(queue: XferQueue, id: str) -> None:
    """Leave records in the delivery log as a drain does whose transaction is aborted."""
    producer = Producer({"bootstrap.servers": queue.servers, "transactional.id": uuid.uuid4().hex, "log_level": 0})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    content = f"Rebound from {queue.name} to nowhere: never"
    record = {"id": "never", "queue": "nowhere", "response": {"content": content}}
    for partition in range(queue.settings.log_partitions):
        producer.produce(
            queue.settings.log_topic,
            json.dumps(record, separators=(",", ":")),
            "never",
            partition,
            headers=[("type", b"AdminRebind"), ("command_id", id.encode()), ("destination", b"nowhere")],
        )
    assert producer.flush(WAIT_S) == 0
    producer.abort_transaction(WAIT_S)


# ---- a command, and the delivery log


@pytest.mark.parametrize("file", ["cancel.py", "Cancel.java", "cancel.sh"])
def test_a_cancel_and_what_the_log_says_of_it(queue: XferQueue, start: Start, file: str) -> None:
    put, id = queue.put(*queue.messages(30)), f"cancel-{uuid.uuid4()}"
    log_aborted_moves(queue, id)
    reason = 'mx2 is "full" \\ for now'
    program = start(file, queue.name, reason, id)
    if file.endswith(".sh"):
        world = queue.world
        wait_until(
            lambda: len(program.lines) >= len(put),
            why=lambda: (
                f"{program.lines} {program.errors} {world.claims(queue.topic)} {world.scene.ledger(1).status(id)}"
            ),
        )
    else:
        assert program.ends() == 0, program.errors
    found = dict(line.split(" ", 1) for line in program.lines)
    assert sorted(found) == sorted(keys_of(put))
    assert sorted(keys_of(queue.restored())) == sorted(found)
    if file.endswith(".py"):
        assert set(found.values()) == {queue.domain}
    else:
        contents = {json.loads(record)["response"]["content"] for record in found.values()}
        assert contents == {f"Rebound from {queue.name} to {queue.domain}: {reason}"}
    wait_until(lambda: queue.world.claims(queue.topic))
    (claim,) = queue.world.claims(queue.topic)
    assert claim["reason"] == reason
    assert claim["id"] == id


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_only_a_careless_reader_sees_moves_that_never_were(queue: XferQueue, start: Start, isolation: str) -> None:
    queue.put(*queue.messages(10))
    id = f"cancel-{uuid.uuid4()}"
    log_aborted_moves(queue, id)

    def change(text: str) -> str:
        # It also looks at what was there before it came.
        return text.replace('"read_committed"', f'"{isolation}"').replace("partition, end)", "partition, 0)")

    program = start("cancel.py", queue.name, "test", id, change=change)
    program.ends()
    assert ("never" in {line.split()[0] for line in program.lines}) == (isolation == "read_uncommitted")


# ---- dispatchers


def test_an_ordinary_dispatcher_and_a_cancel(queue: XferQueue, start: Start) -> None:
    put = queue.put(*queue.messages(3_000))
    program = start("dispatcher.py", queue.topic)
    wait_until(lambda: len(program.said("sent")) > 100)
    status = queue.cancelled()
    (claim,) = queue.world.claims(queue.topic)
    ends = {int(partition): end for partition, (_, end) in claim["ranges"].items()}
    wait_until(lambda: program.said("lost"))
    later = queue.put(*queue.messages(20))
    wait_until(lambda: set(program.said("sent")) >= set(keys_of(later)))
    wait_until(lambda: not queue.remaining())
    lines = program.lines
    sent, restored = program.said("sent"), keys_of(queue.restored())
    assert status["restored"] == len(restored) > 0
    assert set(sent) | set(restored) == set(keys_of([*put, *later]))
    assert all(queue.heads()[partition] >= end for partition, end in ends.items())
    # Sent as well as restored: only what came before it learned that it was evicted.
    learned = next(number for number, line in enumerate(lines) if line.startswith("lost"))
    twice = {*sent} & {*restored}
    assert twice <= {line.removeprefix("sent ") for line in lines[:learned]}
    assert not {line.removeprefix("sent ") for line in lines[learned:]} & {*restored}


@pytest.mark.parametrize("file", ["claiming_dispatcher.py", "ClaimingDispatcher.java"])
def test_a_dispatcher_that_claims_doubles_nothing_whatever_happens_to_it(
    queue: XferQueue, start: Start, file: str
) -> None:
    chance = random.Random(file)
    lives = [start(file, queue.topic, queue.domain)]
    restored = 0
    queue.put(*queue.messages(40))
    for number in range(ROUNDS):
        queue.put(*queue.messages(200))
        life = lives[-1]
        life.goes_on()
        time.sleep(chance.uniform(0, 0.1))
        # It stands still, a claim of its own under way maybe, and wakes up when the cancel is over.
        if number % 3:
            life.signal(signal.SIGSTOP)
        restored += queue.cancelled()["restored"]
        if number % 3 == 0:
            queue.put(*queue.messages(40))
            life.goes_on()
            life.kill()
        if number % 3 != 1:
            # The next life begins, at its second time while the one before only stands still.
            lives.append(start(file, queue.topic, queue.domain))
            queue.put(*queue.messages(40))
            lives[-1].goes_on()
        if number % 3:
            life.signal(signal.SIGCONT)
        if number % 3 == 2:
            assert life.ends() > 0
    last = keys_of(queue.put(*queue.messages(40)))
    wait_until(lambda: {*lives[-1].said("sent")} >= {*last})

    sent = [key for life in lives for key in life.said("sent")]
    doubts = [key for life in lives for key in life.said("in doubt")]
    back = keys_of(queue.restored())
    assert len(back) == restored > 0
    assert [key for key, count in Counter([*sent, *back]).items() if count > 1] == []
    assert {*sent, *back, *doubts} == set(keys_of(queue.sent))
    assert len(doubts) < len(lives)
    assert any(life.said("not claimed") for life in lives)  # so cancels did come in between
    assert len(sent) > 100


@pytest.fixture
def claiming(monkeypatch: pytest.MonkeyPatch, world: World) -> ModuleType:
    """The claiming example's functions, to be called one by one."""
    monkeypatch.setenv("XFERQ_BOOTSTRAP_SERVERS", world.servers)
    monkeypatch.setenv("XFERQ_GROUP_TEMPLATE", world.settings.group_template)
    spec = importlib.util.spec_from_file_location("claiming_dispatcher", EXAMPLES / "claiming_dispatcher.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_cancel_has_taken_in_between_can_t_be_claimed(queue: XferQueue, claiming: ModuleType) -> None:
    put = queue.put(*queue.messages(10))
    outbox, claimer = claimer_of(queue, claiming)
    found = look(claimer)
    assert queue.cancelled()["restored"] == len(put)
    with pytest.raises(KafkaException):
        claimer.claim(found)
    claimer.close()
    assert queue.world.read(outbox) == []
    assert sum(queue.heads().values()) >= len(put)


def test_what_it_has_claimed_no_cancel_takes(queue: XferQueue, claiming: ModuleType) -> None:
    queue.put(*queue.messages(10))
    outbox, claimer = claimer_of(queue, claiming)
    found = look(claimer)
    claimer.claim(found)
    claimer.close()
    assert queue.cancelled()["restored"] == 10 - len(found)
    assert len(queue.world.read(outbox)) == len(found)


def test_with_an_id_of_its_own_it_would_claim_what_a_cancel_has_taken(
    queue: XferQueue, claiming: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "CLAIM_ID", "of-its-own.{topic}")
    put = queue.put(*queue.messages(10))
    outbox, claimer = claimer_of(queue, claiming)
    found = look(claimer)
    assert queue.cancelled()["restored"] == len(put)
    claimer.claim(found)
    claimer.close()
    assert {*keys_of(queue.world.read(outbox))} & {*keys_of(queue.restored())}


def claimer_of(queue: XferQueue, claiming: ModuleType) -> tuple[str, Any]:
    """A claimer of the queue, with its outbox."""
    outbox = f"outbox.{queue.domain}"
    claiming.create(outbox)
    return outbox, claiming.Claimer(queue.topic, outbox)


def look(claimer: Any) -> list[Any]:
    """Some messages that come next."""
    found: list[Any] = []
    wait_until(lambda: found.extend(claimer.look()) or found)  # type: ignore[func-returns-value]
    return found
