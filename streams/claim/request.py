"""What a command wants of the claimer: one queue."""

from collections.abc import Callable
from dataclasses import dataclass

from streams.domain.claim import Kind
from streams.domain.status import Status


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One queue to claim, for one command.

    `admit` is asked behind a barrier, before anything is claimed: the command's status by the ledger, to be written in
    the same transaction as the claim. What it raises ends the claim. It says None where a command claims many queues:
    of an empty one, the ledger then remembers only that it was passed by. `is_again` where the command has been tried
    before, in vain.
    """

    id: str
    kind: Kind
    queue: str
    topic: str
    xfer_queue: str
    reason: str
    admit: Callable[[], Status | None] = lambda: None
    is_again: bool = False
    on_step: Callable[[str], None] = lambda _: None
    """Told what the claim waits for from now on, in words for people."""
