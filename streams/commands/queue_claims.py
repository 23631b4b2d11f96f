"""Claims queues for commands, and announces what is left to drain of them."""

from collections.abc import Iterable

from streams.claim.request import ClaimRequest
from streams.commands.context import CommandContext
from streams.domain.claim import Claim
from streams.domain.topic import drains_partition
from streams.errors import Refused
from streams.telemetry.traces import COMMAND_ID, OUTCOME, QUEUE, span


class QueueClaims:
    """Makes claims, each with its drain tasks."""

    def __init__(self, context: CommandContext) -> None:
        self._context = context

    async def claim(self, request: ClaimRequest) -> Claim:
        """Claim one queue, and announce it; its drains, in whatever process, go on with the span that this is.

        Raises as `Claimer.claim` does, and:
            XferqError: it is claimed, but not announced.
        """
        with span("claim", attributes={COMMAND_ID: request.id, QUEUE: request.queue}) as claiming:
            try:
                claim = await self._context.claimer.claim(request)
            except Refused:
                claiming.set_attribute(OUTCOME, "refused")
                raise
            outcome = "claimed" if claim.ranges else "empty"
            claiming.set_attributes(
                {OUTCOME: outcome, "xferq.partitions": len(claim.ranges), "xferq.offsets": claim.offsets_total}
            )
        await self.publish_tasks([claim])
        return claim

    async def publish_tasks(self, claims: Iterable[Claim]) -> None:
        """Publish a drain task for each partition that is left of the claims (step 8).

        Raises:
            XferqError: not all are published.
        """
        settings = self._context.settings
        tasks: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for claim in claims:
            for partition in self._context.ledger.unfinished_partitions(claim):
                where = drains_partition(claim.topic, partition, settings.drains_partitions)
                key = f"{claim.topic}/{partition}".encode()
                tasks.setdefault(where, []).append((key, claim.task(partition)))
        for where, records in tasks.items():
            await self._context.kafka.publish(settings.drains_topic, records, partition=where)
