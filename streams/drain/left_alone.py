"""Ranges that need what this worker's version can't do: it leaves them alone, and says so wherever people look."""

import logging
from collections.abc import Callable

from streams.domain.abilities import in_words
from streams.drain.drainer import Drainer
from streams.ledger.ledger import Ledger
from streams.telemetry.health import Health

_log = logging.getLogger(__name__)


class LeftAlone:
    """Those of a worker's share; see `streams.domain.abilities`."""

    def __init__(self, ledger: Ledger, drainer: Drainer, health: Health) -> None:
        self._ledger = ledger
        self._drainer = drainer
        self._health = health
        self._told: dict[tuple[str, int, str], list[str]] = {}
        """By topic, partition and command, what is lacking."""

    async def look(self, owns: Callable[[tuple[str, int]], bool]) -> None:
        """Tell of ranges that are new, in the log, the status and the probes."""
        found = {
            (claim.topic, partition, id): self._ledger.lacking(id)
            for id in self._ledger.left_alone()
            for claim in self._ledger.claims_of(id)
            for partition in self._ledger.unfinished_partitions(claim)
            if owns((claim.topic, partition))
        }
        before, self._told = self._told, found
        self._health.notes("abilities", _note(found))
        for (topic, partition, id), needs in found.items():
            if before.get((topic, partition, id)) != needs:
                _log.warning("drain.left_alone id=%s topic=%s partition=%d needs=%s", id, topic, partition, needs)
                claim = self._ledger.claim(topic, id)
                if claim is not None:
                    await self._drainer.record_wait(claim, partition, in_words(needs))


def _note(found: dict[tuple[str, int, str], list[str]]) -> str | None:
    if not found:
        return None
    needs = sorted({need for needs in found.values() for need in needs})
    return f"claimed ranges are left alone, {len(found)} of them: {in_words(needs)}"
