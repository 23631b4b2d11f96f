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
        self._told: dict[tuple[str, int, str], str] = {}
        """By topic, partition and command, why."""

    async def look(self, owns: Callable[[tuple[str, int]], bool]) -> None:
        """Tell of ranges that are new, and of those behind them, in the log, the status and the probes."""
        ids = self._ledger.left_alone()
        places = {
            (claim.topic, partition): None
            for id in ids
            for claim in self._ledger.claims_of(id)
            for partition in self._ledger.unfinished_partitions(claim)
            if owns((claim.topic, partition))
        }
        found = [(where, *held) for where in places for held in self._ledger.left_alone_in(*where)]
        needs = {need for _, _, alone in found for need in self._ledger.lacking(alone)}
        note = f"claimed ranges are left alone, {len(found)} of them: {in_words(sorted(needs))}"
        self._health.notes("abilities", note if found else None)
        before, self._told = self._told, {}
        for (topic, partition), claim, alone in found:
            why = in_words(self._ledger.lacking(alone))
            why = why if claim.id == alone else f"what was claimed before, by {alone}: {why}"
            self._told[topic, partition, claim.id] = why
            if before.get((topic, partition, claim.id)) != why:
                _log.warning("drain.left_alone id=%s topic=%s partition=%d why=%r", claim.id, topic, partition, why)
                await self._drainer.record_wait(claim, partition, why)
