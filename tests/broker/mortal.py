"""A worker that dies or stops at a step by name: `python -m tests.broker.mortal` with TEST_XFERQ_FATE.

It is the real worker, with the settings from the environment as usual. But what it does with Kafka passes through
here, and at the step that its fate names it sends itself a signal: KILL, or STOP, after which it goes on where it
was when it gets SIGCONT. Without a fate it lives on. From a scene:

    worker = scene.worker(*mortal.OPTIONS, variables=mortal.fate("drain.end", "during", 3, "STOP"))
    mortal.has_met(worker)

A step is `<what it is about>.<call>`; the parts are the tasks' contexts, so that one call of a port, such as
reading the ledger to its end, is another step in a claim than in a drain. The worker logs `mortal.passed step=...`
at the first time it passes each, so that one can see where it has been.
"""

import asyncio
import functools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.transaction import EndTxnRequest

from streams.claim.claimer import Claimer
from streams.commands.outcomes import Outcomes
from streams.drain import range_drain
from streams.drain.drainer import Drainer
from streams.drain.drains import Drains
from streams.kafka import transaction
from streams.kafka.cluster import Cluster
from streams.kafka.hold import ClassicHold, Kip848Hold
from streams.kafka.reader import RangeReader
from streams.kafka.transaction import TransactionalProducer
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings, load_settings
from streams.worker.engine import Engine
from streams.worker.process import run_worker
from tests.broker.orphan import end_later, end_with_parent
from tests.broker.scene import WorkerProcess
from tests.support.patience import deadline

When = Literal["before", "during", "after"]
Signal = Literal["KILL", "STOP"]

STEPS: Mapping[str, str] = {
    "command": "all of a command: after it, it is not acknowledged yet",
    "command.barrier": "read the ledger to its end, for a transfer, or where the command was known before",
    "command.create": "create the xfer queue, for a transfer",
    "command.fence": "take over a transfer's transactional id: to select its queues, then to count them",
    "command.transact": "the transaction that selects, or counts",
    "command.ledger": "in it, what is selected, or how many queues were claimed",
    "command.end": "in it, its commit: before it is sent, when it was sent, when the answer has come",
    "command.close": "close the producer",
    "command.tasks": "publish the drain tasks",
    "claim.topic": "look at the queue's topic; the second time is the last look, before the commit",
    "claim.fence": "take over the queue's transactional id",
    "claim.barrier": "read the ledger to its end",
    "claim.stable_ends": "settle; the second time the ends of the snapshot",
    "claim.committed": "the heads: of two snapshots, of the second look",
    "claim.hold": "take a seat in the queue's group, evict the others",
    "claim.transact": "the claim's transaction",
    "claim.ledger": "in it, the claim goes to the ledger",
    "claim.offsets": "in it, the heads go to the group",
    "claim.look": "in it, the last look at the group's offsets",
    "claim.end": "in it, its commit: before it is sent, when it was sent, when the answer has come",
    "claim.members": "who has come meanwhile",
    "claim.evict": "make them leave",
    "claim.release": "give the group back",
    "claim.close": "close the producer",
    "ack": "commit the workers' own offsets",
    "task": "all of an attempt to drain a queue partition, and what follows it",
    "drain.fence": "take over the partition's transactional id",
    "drain.barrier": "read the ledger to its end",
    "drain.topic": "see that it is still the topic that was claimed",
    "drain.reader": "open the reader",
    "drain.read": "read some of the range",
    "drain.partitions": "how many partitions the destinations have",
    "drain.create": "create destinations",
    "drain.transact": "the transaction of one batch",
    "drain.part": "in it, some of it is sent, while the rest is built",
    "drain.send": "in it, a record batch for a destination or the log",
    "drain.ledger": "in it, the progress goes to the ledger, when all else is written",
    "drain.end": "in it, its commit: before it is sent, when it was sent, when the answer has come",
    "drain.close": "close the producer",
    "task.delete_before": "free what was drained",
    "finish.fence": "take over the command's fence: of a cancel its queue's transactional id",
    "finish.barrier": "read the ledger to its end",
    "finish.transact": "the transaction of the command's end",
    "finish.ledger": "in it, the end goes to the ledger",
    "finish.end": "in it, its commit: before it is sent, when it was sent, when the answer has come",
    "finish.close": "close the producer",
    "guard.fence": "take over the transactional id of a queue whose heads were rewound",
    "guard.end": "the commit of its heads",
}
"""The steps of claim and drain, in their order, and of the guard. `during` is for the commits only."""

OPTIONS = ("-m", "tests.broker.mortal")
"""For `Scene.worker`: Python's arguments that start such a worker."""

_VARIABLE = "TEST_XFERQ_FATE"
_PIECE = 3
"""Records, after which a drain sends what it may not hold any longer."""


class _Part:
    """What is done just now: one claim, one drain; with how often it has passed its steps."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.passed: Counter[tuple[str, str]] = Counter()


_part: ContextVar[_Part] = ContextVar("part", default=_Part("standing"))  # noqa: B039 - of the process, as meant


def fate(step: str, when: When = "before", nth: int = 1, how: Signal = "KILL") -> dict[str, str]:
    """The environment of a worker that meets its fate at a step of `STEPS`.

    `nth` counts from 1 the passings of the step in one and the same claim, drain, command or task (for `command`,
    `task` and `ack` themselves: of the process), so that the second `claim.topic` is always the one of the commit.
    """
    assert step in STEPS, step
    return {_VARIABLE: f"{step}:{when}:{nth}:{how}"}


def has_met(worker: WorkerProcess) -> bool:
    """Whether the worker has met its fate: it has said so, and it is dead or stands still."""
    if "mortal.met" not in worker.log:
        return False
    return not worker.is_running or "\nState:\tT" in Path(f"/proc/{worker.pid}/status").read_text()


def meets(worker: WorkerProcess) -> None:
    """Wait until the worker has met its fate."""
    end = deadline()
    while not has_met(worker):
        assert worker.is_running or has_met(worker), f"it has ended otherwise: {worker.log[-3_000:]}"
        end.check(lambda: f"it does not get there: {worker.log[-3_000:]}")
        time.sleep(0.05)


# ---- the process itself


class _Fate:
    """What is to happen, and which steps were passed."""

    def __init__(self, text: str) -> None:
        self._step, self._when, nth, how = text.split(":") if text else ("", "", "0", "KILL")
        self._nth = int(nth)
        self._signal = signal.Signals[f"SIG{how}"]
        self._seen: set[str] = set()

    def passes(self, step: str, when: When) -> None:
        """Say so, and die or stop if this is the place."""
        if step not in self._seen:
            self._seen.add(step)
            _say(f"mortal.passed step={step}")
        passed = _part.get().passed
        passed[(step, when)] += 1
        if (step, when) == (self._step, self._when) and passed[(step, when)] == self._nth:
            self._step = ""  # once
            _say(f"mortal.met step={step} when={when} nth={self._nth} signal={self._signal.name}")
            os.kill(os.getpid(), self._signal)


def _say(text: str) -> None:
    # Past all buffers: the next instruction may be the last.
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


Name = Callable[..., str]


def _wrap(fate: _Fate, owner: object, method: str, name: Name) -> None:
    """Let each call of the method, or of the module's function, pass a step; `name` gives it from its arguments."""
    real: Callable[..., Awaitable[Any]] = getattr(owner, method)

    @functools.wraps(real)
    async def passing(*args: Any, **kwargs: Any) -> Any:
        step = name(*args, **kwargs)
        fate.passes(step, "before")
        result = await real(*args, **kwargs)
        fate.passes(step, "after")
        return result

    setattr(owner, method, passing)


def _mark(owner: type, method: str, part: str) -> None:
    """What the method does, and the tasks that it starts, belongs to this part."""
    real: Callable[..., Awaitable[Any]] = getattr(owner, method)

    @functools.wraps(real)
    async def within(*args: Any, **kwargs: Any) -> Any:
        token = _part.set(_Part(part))
        try:
            return await real(*args, **kwargs)
        finally:
            _part.reset(token)

    setattr(owner, method, within)


def _call(name: str) -> Name:
    return lambda *_, **__: f"{_part.get().name}.{name}"


def _wrap_commits(fate: _Fate) -> None:
    """The request that ends a transaction with a commit, on its way and back."""
    real = AIOKafkaConnection.send

    @functools.wraps(real)
    def send(connection: Any, request: Any, expect_response: bool = True) -> Any:
        if not isinstance(request, EndTxnRequest) or not request._transaction_result:
            return real(connection, request, expect_response)
        step = f"{_part.get().name}.end"
        fate.passes(step, "before")
        answer = real(connection, request, expect_response)
        fate.passes(step, "during")
        waiting = asyncio.ensure_future(answer)
        waiting.add_done_callback(lambda _: fate.passes(step, "after"))
        return waiting

    AIOKafkaConnection.send = send


def _wrap_all(fate: _Fate, settings: Settings) -> None:
    own = {settings.drains_topic: "tasks", settings.ledger_topic: "record"}

    def published(_: object, topic: str, *__: object, **___: object) -> str:
        return f"{_part.get().name}.{own.get(topic, 'publish')}"

    def sent(_: object, batch: object, topic: str, **__: object) -> str:
        return f"{_part.get().name}.{'ledger' if topic == settings.ledger_topic else 'send'}"

    # Innermost first: what a part's own step is called is decided outside of the part.
    for owner, method, part in (
        (Engine, "on_command", "command"),
        (Claimer, "claim", "claim"),
        (Claimer, "reassert", "guard"),
        (Drains, "_attempt", "task"),
        (Drainer, "attempt", "drain"),
        (Outcomes, "finish", "finish"),
    ):
        _mark(owner, method, part)
    _wrap(fate, Engine, "on_command", lambda *_: "command")
    _wrap(fate, Drains, "_attempt", lambda *_: "task")
    _wrap(fate, AIOKafkaConsumer, "commit", lambda *_: "ack")
    _wrap(fate, Ledger, "barrier", _call("barrier"))
    for method in (
        *("topics", "topic", "create", "high_watermarks", "stable_ends", "log_starts", "delete_before"),
        *("committed", "members", "evict", "hold", "reader"),
    ):
        _wrap(fate, Cluster, method, _call(method))
    _wrap(fate, Cluster, "producer", _call("fence"))
    _wrap(fate, Cluster, "publish", published)
    for method in ("partitions", "transact", "close"):
        _wrap(fate, TransactionalProducer, method, _call(method))
    _wrap(fate, TransactionalProducer, "send", _call("part"))
    _wrap(fate, AIOKafkaProducer, "send_batch", sent)
    _wrap(fate, AIOKafkaProducer, "send_offsets_to_transaction", _call("offsets"))
    _wrap(fate, transaction, "fetch", _call("look"))
    _wrap_commits(fate)
    _wrap(fate, RangeReader, "read", _call("read"))
    for hold in (ClassicHold, Kip848Hold):
        _wrap(fate, hold, "release", _call("release"))


def main() -> int:
    """The process; the exit status of the worker that it is."""
    end_with_parent()
    end_later()
    settings = load_settings()
    range_drain._PIECE = _PIECE
    _wrap_all(_Fate(os.environ.get(_VARIABLE, "")), settings)
    return run_worker(settings)


if __name__ == "__main__":
    sys.exit(main())
