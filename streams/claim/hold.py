"""A claim's hold on the queue's group: no other member gets a partition until the claim is done."""

import asyncio
import logging

from streams.concurrency.deadline import Deadline
from streams.errors import XferqError
from streams.ports import Groups, Hold
from streams.telemetry.metrics import EVICTIONS

_log = logging.getLogger(__name__)
_LOOK_S = 2.0
"""Less than the 3 s for which Kafka makes the first members of a group wait for others."""
_HELD_LOOK_S = 5.0
"""Less than the session of a member whose process stands still, 10 s."""
_KIP848_MS = 20_000
"""A hold that delays no member is kept longer than the longest heartbeat interval of such groups, 15 s by default."""


class GroupHold:
    """The hold, taken only where the group has members to keep out."""

    def __init__(self, kafka: Groups, group: str) -> None:
        self._kafka = kafka
        self.group = group
        self._hold: Hold | None = None

    async def is_needed(self) -> bool:
        """Whether the group has members to keep out; and it is a group whose members can be evicted at all.

        Raises:
            Refused: it is not: a share group, say, which Kafka shows without members and offsets otherwise.
        """
        return bool(await self._kafka.members(self.group))

    async def evict(self) -> None:
        """Evict all other members, whenever they came; take the hold if there are any."""
        if self._hold is not None:
            others = await self._kafka.members(self.group) - {self._hold.member_id}
            await self._kafka.evict(self.group, others)
            return
        self._hold = await self._kafka.hold(self.group)
        if self._hold is not None:
            EVICTIONS.inc(len(self._hold.evicted))

    @property
    def keeps_out_s(self) -> float:
        """For how long at least no member has got a partition since an eviction, even if this process stands still."""
        return _LOOK_S if self._hold is None else _HELD_LOOK_S

    async def release(self, within_ms: int) -> None:
        """Give the group back once as many members as were evicted are there again, or after the time."""
        if self._hold is None:
            return
        if not self._hold.delays_members:
            within_ms = max(within_ms, _KIP848_MS)
        deadline = Deadline(within_ms / 1000)
        try:
            while not deadline.is_over:
                try:
                    if len(await self._kafka.members(self.group) - {self._hold.member_id}) >= len(self._hold.evicted):
                        break
                except XferqError as error:
                    # Not a reason to leave early: into an empty group the evicted may commit what they like.
                    _log.info("claim.release group=%s error=%s", self.group, error)
                await asyncio.sleep(0.1)
        finally:
            await self._hold.release()
