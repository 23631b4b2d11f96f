"""Commands that wait for long: the ledger keeps them, so that the topic need not.

A record that is not acknowledged comes again after a crash, with all behind it, however much that is; and only as
long as its topic keeps it. So a worker writes the record of a waiting command to the ledger, and acknowledges it. The
worker with the queue in its share goes on with these commands, one after the other, and removes each at its end.

1. A worker keeps a command, and dies before it acknowledges it.
2. The record comes again, to a second worker, while a third one goes on with it.
3. The second worker sees behind a barrier that it is kept, and leaves it (`streams.commands.commands`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from streams.commands.command_record import CommandRecord
from streams.concurrency.ending import end, end_after, say_failure
from streams.errors import XferqError
from streams.ledger.keys import pending_key
from streams.ledger.ledger import Ledger
from streams.ledger.pending_records import Position
from streams.settings.settings import Settings

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
_LATE_S = 3.0
_YOUNG_S = 10.0
"""What has been at work for less is not kept, whatever waits behind it: it is about to be through, as a rule."""
Owns = Callable[[], bool]


class Pending:
    """Keeps commands, and goes on with those that are kept.

    `execute` does what there is to do for a kept record, in its turn, and returns whether it is through; `owns_queue`
    says whether those of a name are this worker's; `say_its_turn` lets the status of one that waits behind another say
    so, and returns whether it does.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        execute: Callable[[CommandRecord, Owns], Awaitable[bool]],
        owns_queue: Callable[[str], bool],
        say_its_turn: Callable[[CommandRecord], Awaitable[bool]],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._execute = execute
        self._owns_queue = owns_queue
        self._say_its_turn = say_its_turn
        self._in_hand: dict[tuple[str, int], dict[object, asyncio.Future[None]]] = defaultdict(dict)
        """By name and partition, in order, the commands at work here and not kept; done for the first of them."""
        self._ending: set[tuple[str, Position]] = set()
        """Records that are kept, or about to be, and still at work here."""
        self._at_work: dict[str, asyncio.Task[None]] = {}
        ledger.on_pending = self._begin

    async def done_or_kept(
        self, name: str, record: CommandRecord, work: Coroutine[Any, Any, bool], wanted: asyncio.Future[None]
    ) -> bool:
        """Do the work of a record; where it lasts for long, keep the record instead. Whether it may be acknowledged.

        For long is as the setting says, or until that is `wanted`, as too much waits behind it.
        """
        task = asyncio.create_task(work)
        with self._first(name, record.partition) as is_first:
            either: set[asyncio.Future[Any]] = {task, is_first}
            try:
                await self._for_long(task, wanted)
                while not task.done():
                    # Kept before an earlier one, it would overtake that.
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    if not task.done() and await self._keep(name, record):
                        return True
                    await asyncio.wait([task], timeout=_RETRY_S)
                return await task
            finally:
                # Only then may another task here go on with it. This does not cut off a claim's transaction.
                await end([task])
                self._ending.discard((name, record.position))
                self._begin(name)

    @contextmanager
    def _first(self, name: str, partition: int) -> Iterator[asyncio.Future[None]]:
        """Be in hand; the result is there once no earlier one is in hand any more."""
        key, token = (name, partition), object()
        is_first = self._in_hand[key][token] = asyncio.get_running_loop().create_future()
        self._say_first(key)
        try:
            yield is_first
        finally:
            del self._in_hand[key][token]
            self._say_first(key)

    def _say_first(self, key: tuple[str, int]) -> None:
        first = next(iter(self._in_hand[key].values()), None)
        if first is None:
            del self._in_hand[key]
        elif not first.done():
            first.set_result(None)

    async def _for_long(self, task: asyncio.Task[bool], wanted: asyncio.Future[None]) -> None:
        after_s = self._settings.pending_after_ms / 1000
        await asyncio.wait([task], timeout=min(after_s, _YOUNG_S))
        either: set[asyncio.Future[Any]] = {task, wanted}
        if not task.done():
            await asyncio.wait(either, timeout=max(0, after_s - _YOUNG_S), return_when=asyncio.FIRST_COMPLETED)

    async def _keep(self, name: str, record: CommandRecord) -> bool:
        self._ending.add((name, record.position))
        try:
            await self._ledger.record(name, [(pending_key(name, record.position), record.value or b"")])
        except XferqError as error:
            _log.warning("command.not_kept partition=%d offset=%d error=%s", record.partition, record.offset, error)
            return False
        _log.info("command.kept name=%s partition=%d offset=%d", name, record.partition, record.offset)
        return True

    def look(self) -> None:
        """Go on with all that is in this worker's share."""
        for name in self._ledger.pending.names():
            self._begin(name)

    def _begin(self, name: str) -> None:
        kept = self._ledger.pending.first(name)
        if kept is None or name in self._at_work or not self._owns_queue(name):
            return
        if (name, kept[0]) in self._ending:
            return  # that comes to its end first, and its transaction may be open
        task = self._at_work[name] = asyncio.create_task(self._continue(name))
        task.add_done_callback(partial(self._end, name))
        task.add_done_callback(say_failure)

    def _end(self, name: str, task: asyncio.Task[None]) -> None:
        del self._at_work[name]
        if not task.cancelled() and task.exception() is None:
            self._begin(name)  # what came at the last moment, or is in the share again

    async def _continue(self, name: str) -> None:
        """Carry out those of a name, one after the other."""
        telling = asyncio.create_task(self._tell(name))
        try:
            while self._owns_queue(name) and (kept := self._ledger.pending.first(name)) is not None:
                if not await self._is_through(name, self._record(*kept)) and self._owns_queue(name):
                    await asyncio.sleep(_RETRY_S)
        finally:
            await end([telling])

    async def _is_through(self, name: str, record: CommandRecord) -> bool:
        try:
            if not await self._execute(record, lambda: self._owns_queue(name)):
                return False
            await self._ledger.remove(name, pending_key(name, record.position))
            await self._ledger.barrier(name)  # or this view would show it once more
        except XferqError as error:
            _log.warning("command.again partition=%d offset=%d error=%s", record.partition, record.offset, error)
            return False
        except Exception:  # noqa: BLE001 - a bug in xferq must not end this while the worker lives
            _log.exception("worker.failed partition=%d offset=%d", record.partition, record.offset)
            return False
        return True

    def _record(self, position: Position, value: bytes) -> CommandRecord:
        partition, offset, timestamp = position
        return CommandRecord(self._settings.commands_topic, partition, offset, timestamp, value)

    async def _tell(self, name: str) -> None:
        """Let those behind the first say that they wait: no other task says it for them any more."""
        told: set[Position] = set()
        while True:
            await asyncio.sleep(_LATE_S)
            first = self._ledger.pending.first(name)
            for kept in [] if first is None else self._ledger.pending.behind(name, first[0]):
                if kept[0] not in told and self._owns_queue(name) and await self._say_its_turn(self._record(*kept)):
                    told.add(kept[0])

    async def idle(self, within_s: float) -> None:
        """Wait until nothing that was kept is at work, but not longer than `within_s`; then cancel it."""
        await end_after(within_s, self._at_work.values())

    async def stop(self) -> None:
        """Leave them to others."""
        await end(self._at_work.values())
