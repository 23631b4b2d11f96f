"""Step 7 of a claim: its dispatchers' group shows it, also to dispatchers that joined in the middle of the claim.

The claim's own transaction writes to the ledger that step 7 is to come; a record removes that once it is done. So it is
done even if the claimer dies: by the command's next owner, as the command comes again, or by the guard, where the
drains were quicker and the command has ended.
"""

import logging
import time
from collections.abc import Iterable

from streams.claim.heads import Heads
from streams.claim.hold import GroupHold
from streams.concurrency.deadline import Deadline
from streams.concurrency.ending import Background
from streams.domain.claim import Claim, StallReason
from streams.errors import Refused, Unavailable, XferqError
from streams.ledger.keys import HEADS, UNCONFIRMED, waiting_key
from streams.ledger.ledger import Ledger
from streams.ports import Producer
from streams.settings.work import WorkSettings

_log = logging.getLogger(__name__)


class Confirmation:
    """Looks at a group after a claim, and keeps in mind, and in the ledger, where that is still to be done."""

    def __init__(self, ledger: Ledger, settings: WorkSettings, heads: Heads) -> None:
        self._ledger = ledger
        self._settings = settings
        self._heads = heads
        self._seen: dict[str, dict[str, float]] = {}
        """By topic and command, since when a claim is known here that no claimer has confirmed, or is about to."""
        self._removing = Background()
        self.failed: dict[tuple[str, str], Claim] = {}
        """Claims that stand but whose step 7 ran out of time here; the guard goes on with them."""

    def is_due(self, claim: Claim) -> bool:
        """Whether it is still to come, as the ledger says."""
        return HEADS in self._ledger.waiting(claim.topic, claim.id)

    def is_overdue(self, topic: str) -> bool:
        """Whether the guard has to do it for a claim of the topic: the claimer has given up, or seems gone."""
        now = time.monotonic()
        waits = {claim.id: self._ledger.waiting(topic, claim.id).get(HEADS) for claim in self._ledger.claims(topic)}
        # By our own clock, from our first look: no two workers' clocks are the same.
        before = self._seen.pop(topic, {})
        seen = {id: before.get(id, now) for id, wait in waits.items() if wait is not None}
        if seen:
            self._seen[topic] = seen
        return any(
            (topic, id) in self.failed
            or (wait is not None and (wait.why != UNCONFIRMED or now - seen[id] > self._settings.confirm_ms / 1000))
            for id, wait in waits.items()
        )

    async def confirm(self, claim: Claim, producer: Producer, hold: GroupHold) -> None:
        """Evict and look until the group shows the claim, or the time for it is over. Why the second look:

        1. A dispatcher D joins after 4 (no claim held the group, as it was empty) and gets the old head.
        2. The claim's commit becomes pending; D commits plainly, its record lies behind the claim's.
        3. The claim's marker arrives and makes its offsets the group's - but a plain commit behind a pending one
           wins over it. The head is back below the claim, and D goes on dispatching what the workers drain.
        So: wait for the marker, evict, read again. Where an offset is lower, write the end again, wait for its marker,
        evict once more: a dispatcher that joins before it gets the old head. Evict never just because one came back.

        No dispatcher must get a partition between the eviction that counts and the look behind it. The hold sees to
        that; where there is none, as the group was empty, newcomers have to wait for longer than this may take.
        """
        deadline = Deadline(self._settings.confirm_ms / 1000)
        try:
            while True:
                await self._heads.rewound(claim)  # only to wait for all that is pending
                began = time.monotonic()
                # Not what is claimed behind this: its own look is still to come.
                due = self._due(claim)
                await hold.evict()
                rewound = await self._heads.rewound(claim)
                if rewound.heads:
                    await self._heads.put_back(claim, rewound, producer)
                elif time.monotonic() - began < hold.keeps_out_s:
                    self._note_confirmed(due)
                    return
                if deadline.is_over:
                    raise Unavailable("commits of its dispatchers came in between again and again")
        except (Unavailable, Refused) as error:
            if not claim.ranges:
                raise  # only a head is left of it, at which the guard looks again
            # Refused as well: what is committed can't be refused any more.
            self.failed[(claim.topic, claim.id)] = claim
            _log.warning("claim.unconfirmed id=%s topic=%s error=%s", claim.id, claim.topic, error)
            # Before the command is acknowledged: if this worker dies then, others must know. Else it comes again.
            wait = StallReason(why=f"its dispatchers' group does not show the claim: {error}").to_bytes()
            await self._ledger.record(claim.topic, [(waiting_key(claim.topic, HEADS, claim.id), wait)])

    def give_up(self, topic: str) -> None:
        """It is to come no more for the topic's claims: nothing of them is there to be dispatched."""
        self._note_confirmed(claim for claim in self._ledger.claims(topic) if self.is_due(claim))

    def _due(self, latest: Claim) -> list[Claim]:
        """All claims of the topic for which this is to come; the latest one, our view may not show yet."""
        claims = {claim.id: claim for claim in self._ledger.claims(latest.topic) if self.is_due(claim)}
        claims |= {id: claim for (topic, id), claim in self.failed.items() if topic == latest.topic}
        return list((claims | ({latest.id: latest} if latest.ranges else {})).values())

    def _note_confirmed(self, claims: Iterable[Claim]) -> None:
        """The topic's heads are right now, for all of these."""
        for claim in claims:
            self.failed.pop((claim.topic, claim.id), None)
            self._removing.begin(self._remove_note(claim))

    async def _remove_note(self, claim: Claim) -> None:
        """Nothing is to come any more; where this can't be written, the guard does it all once more."""
        try:
            await self._ledger.remove(claim.topic, waiting_key(claim.topic, HEADS, claim.id))
        except XferqError as error:
            _log.info("claim.unrecorded id=%s topic=%s error=%s", claim.id, claim.topic, error)

    async def stop(self) -> None:
        """Write no more."""
        await self._removing.stop()
