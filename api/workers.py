"""Whether workers are at work: as Kafka's coordinator of their group says, since without one nobody else would."""

import asyncio
import logging
import time

from streams.domain.status import Status
from streams.domain.transitions import ENDED
from streams.errors import XferqError
from streams.kafka.cluster import Cluster
from streams.settings.settings import Settings

_log = logging.getLogger(__name__)
_PATIENCE_S = 3.0
_SAID_AFTER_S = 3.0
"""Workers that are back within this time are nobody's business."""


class Workers:
    """The members of the workers' group, each a worker process; `look` every few seconds."""

    def __init__(self, kafka: Cluster, settings: Settings) -> None:
        self._kafka = kafka
        self._group = settings.worker_group
        self._none_since: float | None = None
        self._unknown: str | None = None
        self.count: int | None = None
        """How many there were at the last look; None where Kafka does not say."""

    async def look(self) -> None:
        """Count them, if that is quick: commands are taken whether this can be told or not."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                self.count = len(await self._kafka.members(self._group))
        except (XferqError, TimeoutError) as error:
            why = str(error) or f"no answer about group {self._group} in time"
            if self._unknown is None:
                _log.warning("api.workers_unknown error=%s", why)
            self.count, self._unknown = None, f"whether workers are at work is not known: {why}"
        else:
            self._unknown = None
        if self.count != 0:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = time.monotonic()

    @property
    def missing(self) -> str | None:
        """What to say where nobody is at work; None where somebody is, or nobody knows."""
        if self._none_since is None or time.monotonic() - self._none_since < _SAID_AFTER_S:
            return None
        return f"no worker is at work: group {self._group} (XFERQ_WORKER_GROUP) has no member; start `xferq worker`"

    @property
    def notes(self) -> list[str]:
        """What is not as it should be although commands are taken."""
        return [note for note in (self.missing, self._unknown) if note is not None]

    def told(self, status: Status) -> Status:
        """The status, which says as well that nobody is at work where that is what it waits for."""
        if self.missing is None or status.state in ENDED:
            return status
        return status.model_copy(update={"detail": "; ".join(filter(None, (status.detail, self.missing)))})
