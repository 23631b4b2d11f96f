"""What a transfer claims: every queue that it selects, some at a time, and how many these were."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from streams.claim import Request
from streams.domain.claim import Claim, Tally
from streams.domain.command import StartCommand
from streams.domain.counts import counts_of
from streams.domain.status import Status
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.errors import NotAQueue, Refused
from streams.ledger import Ledger
from streams.ledger_view import command_key, tally_key
from streams.ports import Kafka
from streams.selection import selected_queues
from streams.settings import Settings


class Transfers:
    """Claims all queues of a transfer; `claim_queue` claims one."""

    def __init__(
        self,
        kafka: Kafka,
        ledger: Ledger,
        claim_queue: Callable[[Request], Awaitable[Claim]],
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._claim_queue = claim_queue
        self._settings = settings
        self._now = now

    async def claim(self, command: StartCommand, status: Status) -> Status | None:
        """Claim every matching queue, then write down how many there are: the command is claimed from then on.

        Returns the status that was written, which is `done` where there was nothing; None where all of this had
        been done before.

        Raises:
            Refused: the xfer queue's topic can't be created.
            XferqError: not all is claimed; call again.
        """
        if self._is_counted(command.id):
            return None
        refusals = await self._claim_all(command)
        # Not what was claimed here: while this process stood still, another one may have claimed for this command
        # what then looked empty to us, and may have come to the command's end.
        await self._ledger.barrier_all()
        return None if self._is_counted(command.id) else await self._count(command, status, refusals)

    def _is_counted(self, id: str) -> bool:
        status = self._ledger.status(id)
        return status is not None and status.queues is not None

    async def _claim_all(self, command: StartCommand) -> list[Refused]:
        """Claim every matching queue; why some could not be."""
        name = topic_of(command.queue)
        failure = (await self._kafka.create([name])).get(name)
        if failure is not None:
            raise Refused(f"the topic of {command.queue} can't be created: {failure}")
        queues = await selected_queues(self._kafka, command)
        slots = asyncio.Semaphore(self._settings.concurrent_claims)
        outcomes = await asyncio.gather(
            *(self._claim_one(command, topic, queue, slots) for topic, queue in queues.items()), return_exceptions=True
        )
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
                raise outcome
        return refusals

    async def _claim_one(self, command: StartCommand, topic: str, queue: str, slots: asyncio.Semaphore) -> Claim | None:
        async with slots:
            try:
                return await self._claim_queue(
                    Request(
                        id=command.id,
                        kind="xfer.start",
                        queue=queue,
                        topic=topic,
                        xfer_queue=command.queue,
                        reason=command.reason,
                    )
                )
            except NotAQueue:
                return None  # named but unknown, or deleted since it was listed

    async def _count(self, command: StartCommand, status: Status, refusals: Sequence[Refused]) -> Status:
        claims = self._ledger.claims_of(command.id)
        detail = f"{len(refusals)} queues could not be claimed; the first: {refusals[0]}" if refusals else None
        tally = Tally(queues=len(claims), at=format_time(self._now()), detail=detail)
        status = status.with_counts(counts_of(claims), tally=tally)
        name = topic_of(command.queue)
        values = [(tally_key(name, command.id), tally.to_bytes()), (command_key(command.id), status.to_bytes())]
        await self._ledger.record(name, values)
        return status
