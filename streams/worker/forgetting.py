"""Forgetting: a worker removes a command's claims and progress from the ledger soon after its end, and the record of
its end a long time later. Heads stay.

It forgets nothing that is not finished, whatever was written of it last, and goes by the broker's clock only.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection

from streams.commands.context import CommandContext
from streams.domain.result import LAST
from streams.domain.status import Status, name_of
from streams.domain.timestamp import parse_time
from streams.domain.transitions import ENDED
from streams.errors import XferqError
from streams.ledger.keys import (
    HEADS,
    command_key,
    control_key,
    id_key,
    outcome_key,
    passed_key,
    selection_key,
    tally_key,
    waiting_key,
)

_log = logging.getLogger(__name__)
_LATER_S = 7_200.0
"""Commands are forgotten so much later than those are refused that are not known: no two clocks are the same."""
_LEFTOVERS_S = 600.0
"""So long after its end a command's claims stay, for the head guard, and for workers that stood still."""
_AT_ONCE = 500


class Forgetting:
    """Removes commands; `owns_queue` says whether one is this worker's, by its queue's topic or its id."""

    def __init__(self, context: CommandContext, owns_queue: Callable[[str], bool]) -> None:
        self._ledger = context.ledger
        self._results = context.results
        self._settings = context.settings
        self._now = context.now
        self._owns_queue = owns_queue

    async def forget_commands(self) -> None:
        """Remove of commands that have ended what they leave, after a while, and after a long while all of them.

        Also commands that were accepted long ago and never came, as their publishing had failed; and ids that a client
        wanted long ago, for a command that was never written down. The broker's clock counts: this worker's, or that of
        the worker that finished a command, may be wrong by months.
        """
        ended = [id for id in self._ledger.outcomes() if self._ledger.has_leftovers(id) and self._owns_command(id)]
        for id in await self._known_for_sure(ended):
            if self._age_s(id) > _LEFTOVERS_S and not self._is_under_way(id):
                if (end := self._ledger.outcome(id)) is not None:
                    await self._results.publish(end, LAST)  # once more: it may not have been told
                await self._forget_leftovers(id)
        ids = [status.id for status in self._ledger.statuses() if self._is_long_over(status, self._now().timestamp())]
        for id in await self._known_for_sure(ids):
            status = self._ledger.status(id)
            if status is None or self._is_under_way(id):
                continue
            now_s = self._ledger.broker_s(name_of(status))
            if self._is_long_over(status, now_s) and self._age_s(id) > self._kept_s:
                await self._forget(id)
        await self._forget_unused_ids()
        await self._forget_orphans()

    def _owns_command(self, id: str) -> bool:
        status = self._ledger.outcome(id)
        return status is not None and self._owns_queue(name_of(status))

    def _age_s(self, id: str) -> float:
        """Since the command's end, or its status, was written."""
        return self._ledger.broker_s(self._name_of(id)) - self._ledger.recorded_ms(id) / 1000

    def _name_of(self, id: str) -> str:
        """Where the records of the command lie in the ledger."""
        status = self._ledger.recorded_status(id)
        return id if status is None else name_of(status)

    def _is_under_way(self, id: str) -> bool:
        """Whether a range is to be drained, or a claim to be confirmed in its dispatchers' group."""
        claims = self._ledger.claims_of(id)
        return any(
            not self._ledger.is_finished(claim) or HEADS in self._ledger.waiting(claim.topic, id) for claim in claims
        )

    async def _known_for_sure(self, ids: Collection[str]) -> list[str]:
        """Those of the commands of which the view shows all that there is, in the partitions that concern them."""
        concerned = {id: self._partitions_of(id) for id in ids}
        names = {partition: name for names in concerned.values() for partition, name in names.items()}
        outcomes = await asyncio.gather(*map(self._ledger.barrier, names.values()), return_exceptions=True)
        known = {partition for partition, outcome in zip(names, outcomes, strict=True) if outcome is None}
        for outcome in outcomes:
            if isinstance(outcome, XferqError):
                _log.info("maintenance.not_forgotten error=%s", outcome)
            elif outcome is not None:
                raise outcome
        if ids and self._ledger.unreadable:
            _log.error(
                "maintenance.not_forgotten commands=%d error='claims in the ledger can't be understood'", len(ids)
            )
            return []
        return [id for id in ids if concerned[id].keys() <= known]

    def _partitions_of(self, id: str) -> dict[int, str]:
        """The ledger's partitions in which something may stand about the command, each with a name that lies there."""
        status = self._ledger.status(id)
        names = [id, *([] if status is None else [name_of(status)])]
        names += [claim.topic for claim in self._ledger.claims_of(id)]
        return {self._ledger.partition_of(name): name for name in names}

    def _is_long_over(self, status: Status, now_s: float) -> bool:
        over = status.state in ENDED or (status.state == "accepted" and not self._ledger.claims_of(status.id))
        since = status.finished_at if status.state in ENDED else status.requested_at
        if not over or since is None or not self._owns_queue(name_of(status)):
            return False
        return now_s - parse_time(since).timestamp() > self._kept_s

    @property
    def _kept_s(self) -> float:
        keep_s = self._settings.keep_commands_days * 86_400
        return keep_s + min(_LATER_S, keep_s)

    async def _forget(self, id: str) -> None:
        name = self._name_of(id)
        await self._forget_leftovers(id)
        await self._results.forget(id)
        await self._ledger.remove(name, control_key(id), command_key(id), outcome_key(id))
        await self._forget_id(id)

    async def _forget_id(self, id: str) -> None:
        await self._ledger.remove(id, *(id_key(id, nonce) for nonce in self._ledger.wanted(id)))

    async def _forget_leftovers(self, id: str) -> None:
        """Remove its claims and their progress, and what it has selected; its status, where its end is written."""
        for claim in self._ledger.claims_of(id):
            await self._ledger.forget_claim(claim)
        await self._forget_passed(id)
        name = self._name_of(id)
        keys = [selection_key(name, id, *chunk) for chunk in self._ledger.selection(id).chunks]
        keys += [] if self._ledger.tally(id) is None else [tally_key(name, id)]
        keys += [] if self._ledger.outcome(id) is None else [command_key(id)]
        await self._ledger.remove(name, *keys)

    async def _forget_unused_ids(self) -> None:
        for id, wanted_ms in self._ledger.unused_ids():
            # Twice as long: the status may just be on its way, of a command that comes again at the last moment.
            if self._owns_queue(id) and self._ledger.broker_s(id) - wanted_ms / 1000 > 2 * self._kept_s:
                await self._forget_id(id)

    async def _forget_orphans(self) -> None:
        """Remove what is left of forgotten claims: a worker died before it had removed that, or wrote it late."""
        orphans = [orphan for orphan in self._ledger.orphans() if self._owns_queue(orphan[0])]
        waits = [orphan for orphan in self._ledger.orphan_waits() if self._owns_queue(orphan[0])]
        for topic in {orphan[0] for orphan in orphans} | {orphan[0] for orphan in waits}:
            await self._ledger.barrier(topic)
        for topic, partition, id in orphans:
            if self._is_gone(topic, id):
                await self._ledger.forget_progress(topic, partition, id)
        for topic, id in waits:
            if self._is_gone(topic, id):
                keys = [waiting_key(topic, where, id) for where in self._ledger.waiting(topic, id)]
                await self._ledger.remove(topic, *keys)

    def _is_gone(self, topic: str, id: str) -> bool:
        """Whether there is no such claim. One that can't be understood is one: of a later version."""
        return self._ledger.claim(topic, id) is None and topic not in self._ledger.unreadable

    async def _forget_passed(self, id: str) -> None:
        """Remove the queues that a transfer has passed by, which may be very many."""
        topics: dict[int, list[str]] = defaultdict(list)
        for topic in self._ledger.selection(id).passed:
            topics[self._ledger.partition_of(topic)].append(topic)
        for some in topics.values():
            for start in range(0, len(some), _AT_ONCE):
                batch = some[start : start + _AT_ONCE]
                await self._ledger.remove(batch[0], *(passed_key(topic, id) for topic in batch))
