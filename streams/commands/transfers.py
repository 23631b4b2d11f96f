"""Carries a transfer out: it claims every queue that it has selected, some at a time, and counts them.

The ledger remembers what it selected at its first try, and each queue that it is done with: claimed, or passed by. So
a transfer that any worker tries again goes on where it was, and takes nothing that came after its instant.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from streams.claim.request import ClaimRequest
from streams.commands.admission import NotToDo
from streams.commands.context import CommandContext
from streams.commands.outcomes import Outcomes
from streams.commands.queue_claims import QueueClaims
from streams.commands.selection import is_any_there, selected_queues, told
from streams.domain.claim import Claim, TransferCount
from streams.domain.command import StartCommand
from streams.domain.counts import counts_of
from streams.domain.selection import Passed, chunks_of
from streams.domain.status import Status
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.errors import NotAQueue, Refused, XferqError
from streams.ledger.keys import command_key, selection_key, tally_key

_AT_ONCE = 8
"""Queues that one transfer claims at a time: fewer than a worker has places for, so that others have some left."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one attempt at a transfer has come to, with what the ledger knows of those before."""

    command: StartCommand
    is_again: bool
    claims: dict[str, Claim]
    """By topic."""
    passed: dict[str, Passed]
    """By topic."""
    errors: list[XferqError] = field(default_factory=list)

    def is_done_with(self, topic: str) -> bool:
        """Whether the queue is claimed or passed by: for this transfer, for ever."""
        return topic in self.claims or topic in self.passed


class Transfers:
    """Claims all queues of a transfer."""

    def __init__(self, context: CommandContext, claims: QueueClaims, outcomes: Outcomes) -> None:
        self._kafka = context.kafka
        self._ledger = context.ledger
        self._claimer = context.claimer
        self._results = context.results
        self._now = context.now
        self._claims = claims
        self._outcomes = outcomes

    async def claim(
        self, command: StartCommand, status: Status, admit: Callable[[], object], *, is_again: bool
    ) -> None:
        """Claim every selected queue, then write down how many there are: the command is claimed from then on.

        To be called behind a barrier for the xfer queue. Nothing is done where all of this had been done before. What
        `admit` raises, before the transfer's beginning only, goes through.

        Raises:
            Refused: the xfer queue's topic can't be created.
            XferqError: not all is claimed; call again.
        """
        if self._is_counted(command.id):
            return
        queues = await self._selected(command, status, admit)
        passed = dict(self._ledger.selection(command.id).passed)
        claims = {claim.topic: claim for claim in self._ledger.claims_of(command.id)}
        attempt = _Attempt(command, is_again, claims, passed)
        left = iter([queue for queue in queues if not attempt.is_done_with(topic_of(queue))])
        await asyncio.gather(*(self._claim_some(attempt, left) for _ in range(_AT_ONCE)))
        if attempt.errors:
            raise attempt.errors[0]
        await self._count(attempt, status, queues)

    def _is_counted(self, id: str) -> bool:
        status = self._ledger.status(id)
        return status is not None and status.queues is not None

    async def _selected(self, command: StartCommand, status: Status, admit: Callable[[], object]) -> list[str]:
        """The queues that this transfer takes: those that it names, or all that matched at its first try.

        They are written down under its fence: this is its beginning. The xfer queue is there by then, if any is taken.
        """
        name = topic_of(command.queue)
        selected = self._ledger.selection(command.id).queues
        if selected is not None:
            return selected
        async with self._outcomes.fence(status) as fence:
            selected = self._ledger.selection(command.id).queues
            if selected is None:
                admit()
                if self._is_counted(command.id):
                    raise NotToDo("known")  # by another one, while this process stood still
                found = await selected_queues(self._kafka, command)
                if found and (command.queue_names is None or await is_any_there(self._kafka, found)):
                    await self._make(command.queue)
                selected = list(found.values())
                nonce = uuid.uuid4().hex
                chunks = [
                    (selection_key(name, command.id, nonce, number), chunk.to_bytes())
                    for number, chunk in enumerate(chunks_of(selected))
                ]
                await fence.transact([self._ledger.write(fence, name, [chunk]) for chunk in chunks])
        return selected

    async def _make(self, queue: str) -> None:
        name = topic_of(queue)
        failure = (await self._kafka.create([name])).get(name)
        if failure is not None:
            raise Refused(f"the topic of {queue} can't be created: {failure}")

    async def _claim_some(self, attempt: _Attempt, left: Iterator[str]) -> None:
        """Claim one queue after the other; what fails holds up none of those that are left."""
        for queue in left:
            topic = topic_of(queue)
            try:
                claim = await self._claim_one(attempt, queue, topic)
            except XferqError as error:
                attempt.errors.append(error)
            else:
                if claim is not None and claim.ranges:
                    attempt.claims[topic] = claim

    async def _claim_one(self, attempt: _Attempt, queue: str, topic: str) -> Claim | None:
        command = attempt.command

        def admit() -> None:
            if topic in self._ledger.selection(command.id).passed or self._is_counted(command.id):
                raise NotToDo("passed")

        request = ClaimRequest(
            id=command.id,
            kind="xfer.start",
            queue=queue,
            topic=topic,
            xfer_queue=command.queue,
            reason=command.reason,
            admit=admit,
            is_again=attempt.is_again,
        )
        try:
            return await self._claims.claim(request)
        except NotToDo:
            attempt.passed.update(self._ledger.selection(command.id).passed)
            return None
        except NotAQueue:  # named but unknown, or deleted since it was listed
            passed = Passed(missing=True)
        except Refused as error:
            passed = Passed(why=str(error))
        try:
            claim = await self._claimer.pass_by(request, passed)
        except NotToDo:  # another one has done so meanwhile
            attempt.passed.update(self._ledger.selection(command.id).passed)
            return None
        if claim is None:
            attempt.passed[topic] = passed
        return claim

    async def _count(self, attempt: _Attempt, status: Status, queues: Sequence[str]) -> None:
        """Write the tally, or the transfer's end where there was nothing to claim."""
        detail = await self._detail(attempt, queues)
        tally = TransferCount(queues=len(attempt.claims), at=format_time(self._now()), detail=detail)
        name, id = topic_of(attempt.command.queue), attempt.command.id
        async with self._outcomes.fence(status) as fence:
            if self._is_counted(id):
                return
            status = status.with_counts(counts_of(attempt.claims.values()), tally=tally)
            if status.state == "done":
                await self._outcomes.write(fence, status)
            else:
                values = [(tally_key(name, id), tally.to_bytes()), (command_key(id), status.to_bytes())]
                await self._results.transact(fence, status, 1, [self._ledger.write(fence, name, values)])

    async def _detail(self, attempt: _Attempt, queues: Sequence[str]) -> str | None:
        """What there is to say of queues that were not claimed."""
        missing = [queue for queue in queues if attempt.passed.get(topic_of(queue), Passed()).missing]
        refusals = [passed.why for passed in attempt.passed.values() if passed.why is not None]
        matched = len(queues) - len(missing)
        details = [f"{len(refusals)} queues could not be claimed; the first: {refusals[0]}"] if refusals else []
        if matched and not attempt.claims and not refusals:
            details.append(f"no message is in the {matched} queues that match")
        named = missing if attempt.command.queue_names else []
        said = await told(self._kafka, attempt.command, named, matched)
        return "; ".join(details + ([said] if said else [])) or None
