"""The API's link to Kafka: opened in the background, looked after, and honest about what is missing."""

import asyncio
import logging
import time
from collections.abc import Iterable

from api.failures import Failures
from api.workers import Workers
from streams.concurrency.ending import end
from streams.domain.status import Status
from streams.errors import Misconfigured, Unavailable, XferqError
from streams.kafka.cluster import Cluster
from streams.kafka.elections import require_clean_elections
from streams.kafka.layout import require_topics
from streams.kafka.ledger_id import LedgerId
from streams.kafka.permissions import require_permissions
from streams.kafka.reachable import require_reachable
from streams.ledger.ledger import Ledger
from streams.lookup import find_topic
from streams.settings.settings import Settings
from streams.telemetry.metrics import STALLED

_log = logging.getLogger(__name__)
_RETRY_S = 0.5
_LOOK_S = 2.0
_IDLE_LOOK_S = 5.0
"""The pause between two looks where nobody has asked for anything for a while."""
_IDLE_S = 60.0
_FRESH_S = 2.0


class KafkaLink:
    """A cluster and the ledger's view, as soon as they are there; `start` returns at once."""

    def __init__(self, kafka: Cluster, settings: Settings) -> None:
        self.kafka = kafka
        self._settings = settings
        self._ledger: Ledger | None = None
        self._ledger_id = LedgerId(kafka, settings)
        self._task: asyncio.Task[None] | None = None
        self.failures = Failures()
        self.workers = Workers(kafka, settings)
        self._asked = time.monotonic()
        self.missing: str | None = f"still connecting to Kafka at {kafka.connection.bootstrap_servers}"
        """What is missing for work, in words; None when nothing is."""

    def start(self) -> None:
        """Begin to connect, and go on as long as it takes."""
        STALLED.set_function(lambda: float(self.missing is not None))
        self._task = asyncio.create_task(self._look_after())

    async def stop(self) -> None:
        """Stop, wherever it is."""
        if self._task is not None:
            await end([self._task])
        if self._ledger is not None:
            await self._ledger.stop()

    @property
    def ledger(self) -> Ledger:
        """The ledger's view; as of the last contact where Kafka is away now.

        Raises:
            Unavailable: it has never been read.
        """
        if self._ledger is None:
            raise Unavailable(self.missing or "the ledger was not read yet")
        return self._ledger

    def note_failure(self, names: Iterable[str], why: str) -> None:
        """Something could not be asked of the ledger, about any of these; not where all is missing anyhow."""
        if self._ledger is not None and self.missing is None:
            for name in names:
                self.failures.add(self._ledger.partition_of(name), name, why)

    @property
    def notes(self) -> list[str]:
        """What is not as it should be although commands are taken."""
        held_up = None if self._ledger is None else self._ledger.held_up
        return self.failures.notes + self.workers.notes + ([] if held_up is None else [held_up])

    def status(self, id: str) -> Status | None:
        """The command's status with the counts of the moment, as of the last contact where Kafka is away.

        Raises:
            Unavailable: the ledger has never been read.
        """
        self._asked = time.monotonic()
        status = self.ledger.status(id)
        return None if status is None else self.workers.told(status)

    def require(self) -> Ledger:
        """The ledger's view, for work that needs Kafka.

        Raises:
            Unavailable: something is missing now.
        """
        self._asked = time.monotonic()
        if self.missing is not None:
            raise Unavailable(self.missing)
        return self.ledger

    async def refresh(self) -> bool:
        """Let the view catch up with what was written until now, if that is quick; whether it has.

        As far as a broker says, for people to look at: a request that only looks writes no marks.
        """
        if self.missing is not None:
            return False
        try:
            async with asyncio.timeout(_FRESH_S):
                await self.ledger.catch_up()
        except (TimeoutError, XferqError):
            return False
        return True

    async def _look_after(self) -> None:
        while True:
            try:
                await self._check()
            except (XferqError, TimeoutError) as error:
                self._set_missing(str(error) or "Kafka did not answer in time")
            except Exception as error:  # noqa: BLE001 - the link must outlive whatever a library does
                _log.exception("api.link_failed")
                self._set_missing(f"{type(error).__name__}: {error}")
            else:
                self._set_missing(None)
            is_idle = time.monotonic() - self._asked > _IDLE_S
            await asyncio.sleep(_RETRY_S if self.missing else _IDLE_LOOK_S if is_idle else _LOOK_S)

    async def _check(self) -> None:
        await require_reachable(self.kafka.connection)
        if self._ledger is not None:
            if await find_topic(self.kafka, self._settings.commands_topic) is None:
                raise Misconfigured(f"topic {self._settings.commands_topic} does not exist any more")
            await self._ledger_id.look()
            await self._ledger.look()
            await self.failures.look(self._ledger.barrier)
            await self.workers.look()
            return
        await require_permissions(self.kafka, self._settings, "api")
        await require_topics(self.kafka, self._settings)
        await require_clean_elections(self.kafka.connection)
        await self._ledger_id.open(remember=False)
        ledger = Ledger(self.kafka, self._settings)
        try:
            await ledger.start()
        except BaseException:
            await ledger.stop()
            raise
        await self.workers.look()
        self._ledger = ledger

    def _set_missing(self, missing: str | None) -> None:
        if missing != self.missing:
            if missing is None:
                _log.info("api.ready bootstrap=%s", self.kafka.connection.bootstrap_servers)
            else:
                _log.warning("api.waiting missing=%s", missing)
        self.missing = missing
