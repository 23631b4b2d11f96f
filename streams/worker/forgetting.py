"""Forgetting: commands that ended long ago go out of the ledger, with all that is about them; heads stay.

Nothing is forgotten that is not finished, whatever was written of it last, and by the broker's clock only.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import datetime

from streams.domain.claim import Claim
from streams.domain.status import ENDED, Status, name_of
from streams.domain.timestamp import parse_time
from streams.errors import XferqError
from streams.ledger.keys import (
    command_key,
    id_key,
    passed_key,
    selection_key,
    tally_key,
    waiting_key,
)
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings

_log = logging.getLogger(__name__)
_LATER_S = 7_200.0
"""Commands are forgotten so much later than those are refused that are not known: no two clocks are the same."""
_PASSED_S = 3_600.0
_AT_ONCE = 500


class Forgetting:
    """Removes commands; `is_mine` says whether one, by its queue's topic or its id, is this worker's to look after."""

    def __init__(
        self, ledger: Ledger, settings: Settings, now: Callable[[], datetime], is_mine: Callable[[str], bool]
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._now = now
        self._is_mine = is_mine

    async def forget_commands(self) -> None:
        """Remove commands that ended long ago, with their claims and progress; heads stay.

        And those that were accepted long ago and never came, as their publishing had failed; and ids that somebody
        wanted long ago, for a command that was never written down.
        """
        ids = [status.id for status in self._ledger.statuses() if self._is_long_over(status, self._now().timestamp())]
        for id in await self._known_for_sure(ids):
            # As its claims say, and not what was written last: who stood still may have written that it is refused,
            # or done, over a claim that somebody else made.
            status = self._ledger.status(id)
            if status is None or not all(map(self._ledger.is_finished, self._ledger.claims_of(id))):
                continue
            # And not by anybody's own clock, ours or that of who has finished it: either may be wrong by months.
            now_s = self._ledger.broker_s(name_of(status))
            recorded_s = self._ledger.recorded_ms(id) / 1000
            if self._is_long_over(status, now_s) and now_s - recorded_s > self._kept_s:
                await self._forget(id, name_of(status), self._ledger.claims_of(id))
        await self._forget_unused_ids()
        await self._forget_passed()

    async def _known_for_sure(self, ids: Collection[str]) -> list[str]:
        """Those of the commands of which the view shows all that there is, in the partitions that concern them."""
        concerned = {id: self._partitions_of(id) for id in ids}
        names = {partition: name for names in concerned.values() for partition, name in names.items()}
        outcomes = await asyncio.gather(*map(self._ledger.barrier, names.values()), return_exceptions=True)
        known = {partition for partition, outcome in zip(names, outcomes, strict=True) if outcome is None}
        for outcome in outcomes:
            if isinstance(outcome, XferqError):
                _log.info("keeper.not_forgotten error=%s", outcome)
            elif outcome is not None:
                raise outcome
        if ids and self._ledger.unreadable:
            _log.error("keeper.not_forgotten commands=%d error='claims in the ledger can't be understood'", len(ids))
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
        if not over or since is None or not self._is_mine(name_of(status)):
            return False
        return now_s - parse_time(since).timestamp() > self._kept_s

    @property
    def _kept_s(self) -> float:
        keep_s = self._settings.keep_commands_days * 86_400
        return keep_s + min(_LATER_S, keep_s)

    async def _forget(self, id: str, name: str, claims: Collection[Claim]) -> None:
        for claim in claims:
            await self._ledger.forget_claim(claim)
            keys = [waiting_key(claim.topic, where, id) for where in self._ledger.waiting(claim.topic, id)]
            await self._ledger.record(claim.topic, [(key, None) for key in keys])
        await self._unsay_passed(id)
        chunks = self._ledger.selection(id).chunks
        await self._ledger.record(name, [(selection_key(name, id, *chunk), None) for chunk in chunks])
        if self._ledger.tally(id) is not None:
            await self._ledger.record(name, [(tally_key(name, id), None)])
        await self._ledger.record(name, [(command_key(id), None)])
        await self._free_id(id)

    async def _forget_unused_ids(self) -> None:
        for id, wanted_ms in self._ledger.unused_ids():
            # Twice as long: the status may just be on its way, of a command that comes again at the last moment.
            if self._is_mine(id) and self._ledger.broker_s(id) - wanted_ms / 1000 > 2 * self._kept_s:
                await self._free_id(id)

    async def _forget_passed(self) -> None:
        """The queues that transfers have passed by, which may be very many: a while after the transfer was counted.

        From then on, whoever goes on with the transfer does nothing; only who stood still since before asks for them.
        """
        for id, counted_at in self._ledger.counted_with_passed():
            status = self._ledger.recorded_status(id)
            if status is not None and self._is_mine(name_of(status)):
                age_s = self._ledger.broker_s(name_of(status)) - parse_time(counted_at).timestamp()
                if age_s > _PASSED_S:
                    await self._unsay_passed(id)

    async def _unsay_passed(self, id: str) -> None:
        topics: dict[int, list[str]] = defaultdict(list)
        for topic in self._ledger.selection(id).passed:
            topics[self._ledger.partition_of(topic)].append(topic)
        for some in topics.values():
            for start in range(0, len(some), _AT_ONCE):
                batch = some[start : start + _AT_ONCE]
                await self._ledger.record(batch[0], [(passed_key(topic, id), None) for topic in batch])

    async def _free_id(self, id: str) -> None:
        await self._ledger.record(id, [(id_key(id, nonce), None) for nonce in self._ledger.wanted(id)])
