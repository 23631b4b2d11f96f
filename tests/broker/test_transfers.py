"""Transfers on the real broker: which queues they take, and that each message moves exactly once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.domain.topic import topic_of
from tests.broker import checker
from tests.broker.scene import Scene
from tests.broker.world import Message, World

XFER = ".xfer.kumomta.internal"


class Mail:
    """Messages in scheduled queues of one domain and its neighbours, and what became of them."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.target = f"http://{name}.invalid/"
        self.sent: dict[str, list[Message]] = {}

    def put(self, queue: str, count: int, **fields: Any) -> None:
        """Put messages into a queue, which is made where it isn't there."""
        topic = topic_of(queue)
        if queue not in self.sent:
            self.world.create(topic, 4)
            self.sent[queue] = []
        before = len(self.sent[queue])
        messages = [self._message(queue, number, **fields) for number in range(before, before + count)]
        self.world.produce(topic, messages)
        self.sent[queue] += messages

    def _message(self, queue: str, number: int, **meta: Any) -> Message:
        envelope = {
            "sender": "s@example.com",
            "recipient": [f"u{number}@example.com"],
            "meta": {"queue": queue, "n": number, **meta},
            "num_attempts": number % 4,
            "created": "2026-11-20T10:00:00Z",
            "due": "2026-11-21T10:00:00Z",
            "schedule": {"expires": "3000-12-31T00:00:00Z"},
        }
        return Message(
            key=f"{queue}#{number}".encode(),
            value=b"Subject: %d\r\n\r\n" % number,
            headers=(("envelope", json.dumps(envelope).encode()), ("x", b"\xff")),
            timestamp=1_790_000_000_000 + number,
            partition=number % 4,
        )

    def moved(self) -> list[checker.Found]:
        """What is in the target's xfer queue."""
        return self.world.records(topic_of(self.target + XFER))

    def owns(self, id: bytes | None) -> bool:
        """Whether we have made the message, and not a test before on the same broker."""
        return self.name.encode() in (id or b"")

    def problems(self, queues: Sequence[str], status: dict[str, Any], before: Sequence[bytes] = ()) -> list[str]:
        """What is not as it must be after a transfer of exactly these queues."""
        sent = {message.key: message for queue in queues for message in self.sent[queue]}
        moved = [record for record in self.moved() if record.id not in before and self.owns(record.id)]
        wrong = []
        wrong += _differences("moved", Counter(record.id or b"" for record in moved), Counter(list(sent)))
        last: dict[tuple[str, int], int] = {}
        for record in moved:
            message = sent.get(record.id)
            if message is None:
                continue
            was, now = json.loads(dict(message.headers)["envelope"]), json.loads(dict(record.headers)["envelope"])
            if (record.value, record.timestamp, record.headers[1]) != (
                message.value,
                message.timestamp,
                ("x", b"\xff"),
            ):
                wrong.append(f"{record.id!r} is not what it was")
            info = now["meta"].get("xfer_queue_info") or {}
            schedule = was["schedule"] if "xfer_queue_info" in was["meta"] else None
            if now["meta"]["queue"] != self.target + XFER or (now["due"], now["schedule"]) != (None, schedule):
                wrong.append(f"{record.id!r} has the envelope {now}")
            if "xfer_queue_info" in was["meta"]:
                if info != was["meta"]["xfer_queue_info"]:
                    wrong.append(f"{record.id!r} has lost what was saved first: {info}")
            elif (info["queue"], info["num_attempts"], info["schedule"], info["due"]) != (
                was["meta"]["queue"], was["num_attempts"], was["schedule"], was["due"],
            ):  # fmt: skip
                wrong.append(f"{record.id!r} has saved {info}")
            where = (was["meta"]["queue"], message.partition)
            if message.partition != record.partition or last.get(where, -1) >= was["meta"]["n"]:
                wrong.append(f"{record.id!r} is out of order")
            last[where] = was["meta"]["n"]
        logged = [json.loads(record.value or b"") for record in self.world.records(self.world.settings.log_topic)]
        ids = Counter(
            line["id"].encode()
            for line in logged
            if line["queue"] == self.target + XFER and self.owns(line["id"].encode())
        )
        wrong += _differences("logged", ids, Counter(list(sent)))
        others = len(self.moved()) - len(moved) - len(before)
        # Where all queues are taken, those of others are among them; what has no envelope there goes back.
        back = status["returned"] if before else 0
        counts = (status["state"], status["restored"], status["total"] - back)
        if counts != ("done", *[len(sent) + others] * 2):
            wrong.append(f"the status is {counts}, and {others} of others: {status}")
        return wrong


def _differences(what: str, found: Counter[bytes], wanted: Counter[bytes]) -> list[str]:
    lacking, more = sorted((wanted - found).elements()), sorted((found - wanted).elements())
    return [f"{what}: {len(lacking)} are missing, {lacking[:5]}; {len(more)} too many, {more[:5]}"] * (found != wanted)


@pytest.fixture
def mail(world: World, request: pytest.FixtureRequest) -> Mail:
    """Mail in a world that others use as well: only names of its own."""
    return Mail(world, f"m{abs(hash(request.node.name))}.{world.scene.name}")


@pytest.mark.parametrize(
    ("criteria", "taken"),
    [
        ({"domain": "D"}, {"D", "t-T@D", "c:t-T@D", "c-C:u@D", "t-T@D!R"}),
        ({"tenant": "t-T"}, {"t-T@D", "c:t-T@D", "t-T@D!R", "t-T@E"}),
        ({"campaign": "c-C"}, {"c-C:u@D"}),
        ({"routing_domain": "R"}, {"t-T@D!R"}),
        ({"tenant": "t-T", "domain": "E"}, {"t-T@E"}),
        ({"tenant": "t-T", "routing_domain": "nowhere"}, set()),
        ({"queue_names": ["D", "t-T@E", "not-there@D"], "domain": "nowhere"}, {"D", "t-T@E"}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_transfer_takes_the_queues_that_match(mail: Mail, criteria: dict[str, Any], taken: set[str]) -> None:
    names = {"D": f"d{mail.name}", "E": f"e{mail.name}", "R": f"r{mail.name}", "t-T": f"t{mail.name}"}
    names |= {"c-C": f"c{mail.name}"}

    def real(text: str) -> str:
        for short, name in names.items():
            text = text.replace(short, name)
        return text

    for queue in ("D", "t-T@D", "c:t-T@D", "c-C:u@D", "t-T@D!R", "t-T@E", "E"):
        mail.put(real(queue), 12)
    mail.put(real("empty@D"), 0)
    wanted = {
        key: [real(name) for name in value] if isinstance(value, list) else real(value)
        for key, value in criteria.items()
    }
    status = mail.world.done(mail.world.transfer(mail.target, **wanted))
    problems = mail.problems([real(queue) for queue in taken], status)
    assert not problems, "\n".join(problems)
    assert status["queues"] == len(taken)
    for queue, messages in mail.sent.items():
        claims = mail.world.claims(topic_of(queue))
        assert len(claims) == (messages != [] and queue in map(real, taken))


@pytest.fixture
def alone(running: EmbeddedBroker) -> Iterator[World]:
    """A world on a broker on which nobody else is at work."""
    with World(running.bootstrap_servers) as world:
        yield world


def test_a_transfer_without_criteria_takes_all_queues_but_the_targets_own(alone: World) -> None:
    mail = Mail(alone, f"all.{alone.scene.name}")
    alone.worker()
    long = "x" * 700 + f"@{mail.name}"
    other = f"http://other.{mail.name}/{XFER}"
    own = mail.target + XFER
    mail.put(f"d.{mail.name}", 40)
    mail.put(f"camp:ten@d.{mail.name}!r.example:2025", 40)
    mail.put(long, 40)
    mail.put("x" * 700 + f"@empty.{mail.name}", 0)
    mail.put(f"empty.{mail.name}", 0)
    mail.put(other, 40, xfer_queue_info={"tenant": "first", "num_attempts": 3})
    mail.put(own, 4, xfer_queue_info={"tenant": "own"})
    status = alone.done(alone.transfer(mail.target))
    before = [message.key for message in mail.sent[own]]
    taken = [queue for queue, messages in mail.sent.items() if messages and queue != own]
    assert mail.problems(taken, status, before) == []
    assert status["queues"] >= len(taken) == 4
    assert alone.claims(topic_of(own)) == []


def test_killed_in_the_middle_of_a_transfer_and_of_its_cancel(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers, transaction_messages=20) as world:
        mail = Mail(world, f"kill.{world.scene.name}")
        queues = [f"t{number}@d.{mail.name}" for number in range(8)]
        for queue in queues:
            mail.put(queue, 600)
        total = 8 * 600
        scene = world.scene
        id = world.transfer(mail.target, domain=f"d.{mail.name}")
        kill_in_the_middle(scene, id, total)
        assert mail.problems(queues, world.done(id)) == []
        back = world.command(type="xfer.cancel", queue_name=mail.target + XFER, reason="back")
        kill_in_the_middle(scene, back, total)
        assert world.done(back)["restored"] == total
        for queue in queues:
            heads = scene.ledger().heads(topic_of(queue))
            records = [record for record in world.records(topic_of(queue)) if record.offset >= heads[record.partition]]
            assert Counter(record.id for record in records) == Counter(message.key for message in mail.sent[queue])
            for partition in range(4):
                numbers = [int((r.id or b"").rpartition(b"#")[2]) for r in records if r.partition == partition]
                assert numbers == sorted(numbers)


def kill_in_the_middle(scene: Scene, id: str, total: int) -> None:
    """Start a worker, kill it when the command is half-way, and start another one."""

    def moved(ledger: checker.LedgerView) -> int:
        steps = [value for key, value in ledger.values.items() if key.startswith("drained/") and key.endswith(f"/{id}")]
        return sum(step["restored"] for step in steps)

    worker = scene.worker()
    scene.until(lambda ledger: moved(ledger) >= total // 5)
    worker.kill()
    assert moved(scene.ledger(0.2)) < total
    scene.worker()
