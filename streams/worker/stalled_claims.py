"""Claims that are not drained yet: a worker shows them as metrics, and announces those without progress again."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from streams.commands.commands import Commands
from streams.commands.context import CommandContext
from streams.domain.claim import Claim
from streams.domain.status import name_of
from streams.telemetry.metrics import (
    CLAIMS_UNFINISHED,
    OLDEST_CLAIM_SECONDS,
    SILENT_SECONDS,
    TASKS_REPUBLISHED,
    UNDRAINED,
    UNFINISHED_TOTAL,
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Silence:
    """How many offsets of a claim are left, since when that has not changed, and since when it was not announced."""

    left: int
    since: float
    untold_since: float


class StalledClaims:
    """Watches unfinished claims; `owns_queue` says whether those of a queue topic are this worker's to look after."""

    def __init__(self, context: CommandContext, commands: Commands, owns_queue: Callable[[str], bool]) -> None:
        self._ledger = context.ledger
        self._commands = commands
        self._stalled_s = context.settings.stalled_ms / 1000
        self._now = context.now
        self._owns_queue = owns_queue
        self._silent: dict[tuple[str, str], _Silence] = {}

    async def nudge_stalled(self) -> None:
        """Publish the tasks of claims again that are unfinished and show no progress; finish what is done."""
        topics = [topic for topic in self._ledger.claimed_topics() if self._owns_queue(topic)]
        claims = [claim for topic in topics for claim in self._ledger.claims(topic)]
        unfinished = [claim for claim in claims if not self._ledger.is_finished(claim)]
        stalled = self._stalled(unfinished)
        self._show(unfinished)
        for claim in stalled:
            TASKS_REPUBLISHED.inc(len(self._ledger.unfinished_partitions(claim)))
            _log.warning("claim.stalled id=%s topic=%s: its tasks are published again", claim.id, claim.topic)
        await self._commands.claims.publish_tasks(stalled)
        self._finish_ended()

    def _stalled(self, unfinished: Collection[Claim]) -> list[Claim]:
        """Those that have been silent for long since they were announced last."""
        now = time.monotonic()
        before, self._silent = self._silent, {}
        stalled = []
        for claim in unfinished:
            key, left = (claim.topic, claim.id), self._left(claim)
            silence = before.get(key)
            if silence is None or silence.left != left:
                # Seen for the first time: from before this worker's start, perhaps, with its tasks lost.
                is_stalled = silence is None and claim.age_s(self._now()) >= self._stalled_s
                silence = _Silence(left, now, now)
            elif is_stalled := now - silence.untold_since >= self._stalled_s:
                silence.untold_since = now
            self._silent[key] = silence
            if is_stalled:
                stalled.append(claim)
        return stalled

    def _left(self, claim: Claim) -> int:
        ranges = [self._ledger.undrained(claim, p) for p in self._ledger.unfinished_partitions(claim)]
        return sum(end - start for start, end in ranges)

    def _show(self, unfinished: Collection[Claim]) -> None:
        now, silent = time.monotonic(), self._silent.values()
        UNDRAINED.set(sum(silence.left for silence in silent))
        UNFINISHED_TOTAL.set(sum(claim.offsets_total for claim in unfinished))
        CLAIMS_UNFINISHED.set(len(unfinished))
        OLDEST_CLAIM_SECONDS.set(max((claim.age_s(self._now()) for claim in unfinished), default=0.0))
        SILENT_SECONDS.set(max((now - silence.since for silence in silent), default=0.0))

    def _finish_ended(self) -> None:
        """Commands whose last drain ended and whose worker was killed before it could record that."""
        for id in self._ledger.without_outcome():
            status = self._ledger.recorded_status(id)
            if status is not None and self._owns_queue(name_of(status)):
                self._commands.outcomes.finish_soon(id)
