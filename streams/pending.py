"""Commands that wait for long: the ledger keeps them, so that the topic need not.

What is not acknowledged comes again after a crash, with all behind it, however much that is by then; and only for as
long as its topic keeps it. So the record of a command that waits is written to the ledger, and acknowledged. Whoever
looks after its queue goes on with it, one of a queue after the other, and removes it when it is through.

1. A worker keeps a command, and dies before it acknowledges it.
2. The record comes again, to another one, while a third one goes on with it.
3. The second sees behind a barrier that it is kept, and leaves it (`streams.commands`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from streams.command_record import CommandRecord
from streams.ending import end, say_failure
from streams.errors import XferqError
from streams.ledger import Ledger
from streams.ledger_keys import pending_key
from streams.pending_records import Position
from streams.settings import Settings

_log = logging.getLogger(__name__)
_AGAIN_S = 5.0
_TOLD_S = 3.0
IsOurs = Callable[[], bool]


class Pending:
    """Keeps commands, and goes on with those that are kept.

    `carry_out` does what there is to do for a kept record, in its turn, and returns whether it is through; `name_of`
    says by which name it is kept; `is_mine`, whether those of a name are this worker's; `say_its_turn` lets the status
    of one that waits behind another say so, and returns whether it does.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        carry_out: Callable[[CommandRecord, IsOurs], Awaitable[bool]],
        name_of: Callable[[CommandRecord], str],
        is_mine: Callable[[str], bool],
        say_its_turn: Callable[[CommandRecord], Awaitable[bool]],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._carry_out = carry_out
        self._name_of = name_of
        self._is_mine = is_mine
        self._say_its_turn = say_its_turn
        self._at_work: dict[str, asyncio.Task[None]] = {}
        ledger.on_pending = self._begin

    async def done_or_kept(
        self, record: CommandRecord, work: Coroutine[Any, Any, bool], wanted: asyncio.Future[None]
    ) -> bool:
        """Do the work of a record; where it lasts for long, keep the record instead. Whether it may be acknowledged.

        For long is as the setting says, or until that is `wanted`, as too much waits behind it.
        """
        task = asyncio.create_task(work)
        either: set[asyncio.Future[Any]] = {task, wanted}
        try:
            after_s = self._settings.pending_after_ms / 1000
            await asyncio.wait(either, timeout=after_s, return_when=asyncio.FIRST_COMPLETED)
            while not task.done():
                try:
                    await self._keep(record)
                except XferqError as error:
                    _log.warning("command.not_kept offset=%d error=%s", record.offset, error)
                    await asyncio.wait([task], timeout=_AGAIN_S)
                else:
                    return True
            return await task
        finally:
            await end([task])

    async def _keep(self, record: CommandRecord) -> None:
        name = self._name_of(record)
        await self._ledger.record(name, [(pending_key(name, record.position), record.value or b"")])
        _log.info("command.kept name=%s partition=%d offset=%d", name, record.partition, record.offset)

    def look(self) -> None:
        """Go on with all that is ours."""
        for name in self._ledger.pending.names():
            self._begin(name)

    def _begin(self, name: str) -> None:
        if name not in self._at_work and self._is_mine(name) and self._ledger.pending.first(name) is not None:
            task = self._at_work[name] = asyncio.create_task(self._go_on(name))
            task.add_done_callback(partial(self._end, name))
            task.add_done_callback(say_failure)

    def _end(self, name: str, task: asyncio.Task[None]) -> None:
        del self._at_work[name]
        if not task.cancelled() and task.exception() is None:
            self._begin(name)  # what came at the last moment, or is ours again

    async def _go_on(self, name: str) -> None:
        """Carry out those of a name, one after the other."""
        telling = asyncio.create_task(self._tell(name))
        try:
            while self._is_mine(name) and (kept := self._ledger.pending.first(name)) is not None:
                record = self._record(*kept)
                try:
                    if await self._carry_out(record, lambda: self._is_mine(name)):
                        await self._ledger.record(name, [(pending_key(name, record.position), None)])
                        await self._ledger.barrier(name)  # or this view would show it once more
                        continue
                except XferqError as error:
                    _log.warning("command.again offset=%d error=%s", record.offset, error)
                except Exception:  # noqa: BLE001 - a bug of ours must not end this for as long as the worker lives
                    _log.exception("worker.failed offset=%d", record.offset)
                await asyncio.sleep(_AGAIN_S)
        finally:
            await end([telling])

    def _record(self, position: Position, value: bytes) -> CommandRecord:
        partition, offset, timestamp = position
        return CommandRecord(self._settings.commands_topic, partition, offset, timestamp, value)

    async def _tell(self, name: str) -> None:
        """Let those behind the first say that they wait, whom nobody else tells any more."""
        told: set[Position] = set()
        while True:
            await asyncio.sleep(_TOLD_S)
            first = self._ledger.pending.first(name)
            for kept in [] if first is None else self._ledger.pending.behind(name, first[0]):
                if kept[0] not in told and not await self._say_its_turn(self._record(*kept)):
                    break
                told.add(kept[0])

    async def stop(self) -> None:
        """Leave them to others."""
        await end(self._at_work.values())
