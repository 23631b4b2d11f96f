"""Which queue partitions a worker drains, and when: all that the ledger shows unfinished in its share, in turn.

A worker begins as soon as its view of the ledger shows a range, or when Kafka gives it its share; the tasks on the
drains topic only announce. No task waits in Faust, however much there is to drain.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection

from streams.concurrency.ending import end_after, say_failure
from streams.drain.drainer import Drainer
from streams.drain.left_alone import LeftAlone
from streams.errors import Revoked
from streams.ledger.ledger import Ledger
from streams.records import TopicPartition
from streams.telemetry.health import Health

_log = logging.getLogger(__name__)
_AFTER_BUG_S = 5.0
_LATE_S = 3.0
"""A command that waits for its turn for so long is told of it in its status."""
_LATE_CHECK_S = 1.0
_TURN = "its turn: this worker drains as many queue partitions as it may at a time (XFERQ_CONCURRENT_DRAINS)"


class Turns:
    """What waits for its turn: one queue partition of each command after the other, in the order of asking.

    So the cancel of one queue does not wait for the thousands of a transfer that came before it. A partition of which
    several commands have ranges waits in the name of each, and has its turn when the first of them has.
    """

    def __init__(self) -> None:
        self._commands: dict[str, dict[TopicPartition, bool]] = {}
        self._waiting: set[TopicPartition] = set()
        self._since: dict[str, float] = {}
        """By command, when it began to wait, or had its last turn."""

    def add(self, command: str, where: TopicPartition) -> None:
        """Let it wait, in the name of the command."""
        self._waiting.add(where)
        self._commands.setdefault(command, {})[where] = True
        self._since.setdefault(command, time.monotonic())

    def next(self) -> TopicPartition | None:
        """Whose turn it is, which waits no more, in nobody's name; None where nothing waits."""
        while self._commands:
            command = next(iter(self._commands))
            waiting = self._commands.pop(command)
            del self._since[command]
            where = self._first(waiting)
            if waiting:
                self._commands[command] = waiting  # behind all others
                self._since[command] = time.monotonic()
            if where is not None:
                self._waiting.discard(where)
                return where
        return None

    def _first(self, waiting: dict[TopicPartition, bool]) -> TopicPartition | None:
        """Take out the first that has not had its turn in another one's name."""
        while waiting:
            where = next(iter(waiting))
            del waiting[where]
            if where in self._waiting:
                return where
        return None

    def clear(self) -> None:
        """Nothing waits any more."""
        self._commands.clear()
        self._waiting.clear()
        self._since.clear()

    def late(self, after_s: float) -> list[TopicPartition]:
        """Of each command that has waited for so long without a turn, whose turn is next; each of them once."""
        now = time.monotonic()
        late = [command for command, since in self._since.items() if now - since >= after_s]
        self._since |= dict.fromkeys(late, math.inf)
        return [next(iter(self._commands[command])) for command in late]


class _Line:
    """Turns for a number of places."""

    def __init__(self, places: int) -> None:
        self.turns = Turns()
        self.places = places


class Drains:
    """The drains of a worker's share; a partition of the drains topic stands for some of all queue partitions.

    A place is held for one attempt. What has failed waits for a place of its own kind: it may fail for hours, and each
    attempt may take long. `after` is told the topic of each queue partition of which a range was drained.
    """

    def __init__(
        self,
        drainer: Drainer,
        ledger: Ledger,
        partition_of: Callable[[str, int], int],
        places: int,
        after: Callable[[str], None],
        health: Health,
    ) -> None:
        self._drainer = drainer
        self._ledger = ledger
        self._left_alone = LeftAlone(ledger, drainer, health)
        self._partition_of = partition_of
        self._after = after
        self._share: frozenset[int] = frozenset()
        self._stopping = False
        self._first = _Line(places)
        self._again = _Line(places)
        self._at_work: dict[TopicPartition, asyncio.Task[None]] = {}
        self._later: dict[TopicPartition, asyncio.TimerHandle] = {}
        """What has failed, until it is tried again."""
        self._news: dict[TopicPartition, set[str]] = {}
        """The commands of ranges that came while their partition was at work."""
        self._recording: asyncio.Task[None] | None = None
        ledger.on_left = self._on_left

    def start(self) -> None:
        """Begin to record for which commands a turn is long in coming, and which can't be carried out here."""
        self._recording = self._recording or asyncio.create_task(self._record_waits())

    async def _record_waits(self) -> None:
        while True:
            await asyncio.sleep(_LATE_CHECK_S)
            try:
                for where in self._first.turns.late(_LATE_S):
                    await self._drainer.record_reason(*where, _TURN)
                await self._left_alone.look(self._owns)
            except Exception:  # noqa: BLE001 - a bug must not end this for as long as the worker lives
                _log.exception("drain.failed")

    def lose_share(self) -> None:
        """Own nothing until a share is given out anew; what is at work stops at its next edge."""
        self._share = frozenset()
        for line in (self._first, self._again):
            line.turns.clear()

    def take_share(self, partitions: Collection[int]) -> None:
        """Own these partitions of the drains topic, and no others; what is left there begins at once."""
        self.lose_share()
        self._share = frozenset(partitions)
        for where in [*self._drainer.troubled, *self._later]:
            if where not in self._at_work and not self._owns(where):
                self._leave(where)
        self.look()

    def _leave(self, where: TopicPartition) -> None:
        """Forget it: another worker owns it by now, or has drained it."""
        self._drainer.leave(*where)
        timer = self._later.pop(where, None)
        if timer is not None:
            timer.cancel()

    def look(self) -> None:
        """Begin all that is left in the share and has not begun."""
        for where in self._ledger.left():
            self.begin(*where)

    def begin(self, topic: str, partition: int) -> None:
        """Drain the queue partition in its turn, if it is in the share and anything is left there."""
        if (topic, partition) not in self._at_work:
            for claim in self._ledger.unfinished(topic, partition):
                self._on_left(topic, partition, claim.id)

    def _on_left(self, topic: str, partition: int, id: str) -> None:
        where = topic, partition
        if where in self._at_work:
            self._news.setdefault(where, set()).add(id)
        elif where not in self._later and self._owns(where) and not self._ledger.lacking(id):
            # What has failed waits among its own kind, however often it is asked for.
            line = self._again if where in self._drainer.troubled else self._first
            line.turns.add(id, where)
            self._continue()

    def _owns(self, where: TopicPartition) -> bool:
        return not self._stopping and self._partition_of(*where) in self._share

    def _continue(self) -> None:
        """Begin as many attempts as there are places."""
        for line in (self._first, self._again):
            while line.places and (where := line.turns.next()) is not None:
                if where not in self._at_work and where not in self._later and self._owns(where):
                    line.places -= 1
                    task = self._at_work[where] = asyncio.create_task(self._attempt(where, line))
                    task.add_done_callback(say_failure)

    async def _attempt(self, where: TopicPartition, line: _Line) -> None:
        """One attempt, with a place; then whatever is left, in its turn."""
        drained: list[str] = []
        again_s: float | None = _AFTER_BUG_S
        try:
            again_s = await self._drainer.attempt(*where, lambda: self._owns(where), drained)
        except Revoked:
            again_s = 0.0  # in the share again by now, perhaps
        except Exception:  # noqa: BLE001 - a bug must not end this for as long as the worker lives
            _log.exception("drain.failed topic=%s partition=%d", *where)
        finally:
            line.places += 1
            del self._at_work[where]
            self._end(where, again_s, self._news.pop(where, set()) - set(drained))
            self._continue()
        if drained:
            self._after(where[0])

    def _end(self, where: TopicPartition, again_s: float | None, news: Collection[str]) -> None:
        if not self._owns(where):
            self._leave(where)
        elif again_s:
            self._later[where] = asyncio.get_running_loop().call_later(again_s, self._try_again, where)
        elif news or again_s is not None:
            self.begin(*where)

    def _try_again(self, where: TopicPartition) -> None:
        del self._later[where]
        if self._ledger.unfinished(*where):
            self.begin(*where)
        else:
            self._leave(where)

    def begin_stop(self) -> None:
        """Begin nothing any more; what is at work stops at its next edge."""
        self._stopping = True
        if self._recording is not None:
            self._recording.cancel()
        self.take_share(())

    async def idle(self, within_s: float) -> None:
        """Wait until nothing is at work, but not longer than `within_s`; then cancel it."""
        await end_after(within_s, self._at_work.values())
