"""What a transfer takes, as the ledger remembers it: the queues that it selected, and those that it is done with.

A transfer that is tried again goes on with what it selected at its first try: it takes no more than its instant.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from streams.domain.claim import LedgerValue

_CHUNK_BYTES = 400_000
"""Of names, in UTF-8: twice as much as JSON still fits into a batch."""


class Chunk(LedgerValue):
    """Some of the names of the queues that a transfer takes; one of so many chunks."""

    queues: list[str]
    of: int


class Passed(LedgerValue):
    """A queue of which a transfer has nothing to claim: it is empty, or `missing`; `why` where it was refused."""

    why: str | None = None
    missing: bool | None = None


def chunks_of(queues: Iterable[str]) -> list[Chunk]:
    """The names, in as many chunks as it takes, at least one."""
    parts: list[list[str]] = [[]]
    room = _CHUNK_BYTES
    for queue in queues:
        room -= len(queue.encode()) + 3
        if room < 0:
            parts.append([])
            room = _CHUNK_BYTES
        parts[-1].append(queue)
    return [Chunk(queues=part, of=len(parts)) for part in parts]


@dataclass(slots=True)
class Selection:
    """Of one transfer.

    Two workers may write one each, as one of them stood still: under a nonce of its own each. The one that is complete
    first, in the ledger's order, is the transfer's.
    """

    passed: dict[str, Passed] = field(default_factory=dict)
    """By topic."""
    _chunks: dict[str, dict[int, Chunk]] = field(default_factory=dict)
    _owner: str | None = None

    @property
    def queues(self) -> list[str] | None:
        """The names; None where none is complete."""
        if self._owner is None:
            return None
        return [queue for _, chunk in sorted(self._chunks[self._owner].items()) for queue in chunk.queues]

    @property
    def chunks(self) -> list[tuple[str, int]]:
        """Nonce and number of all chunks that there are."""
        return [(nonce, number) for nonce, chunks in self._chunks.items() for number in chunks]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is remembered."""
        return not self._chunks and not self.passed

    def put(self, nonce: str, number: int, chunk: Chunk | None) -> None:
        """One chunk; None removes it."""
        if chunk is not None:
            chunks = self._chunks.setdefault(nonce, {})
            chunks[number] = chunk
            if self._owner is None and len(chunks) == chunk.of:
                self._owner = nonce
        elif nonce in self._chunks:
            self._chunks[nonce].pop(number, None)
            self._owner = None if nonce == self._owner else self._owner
            if not self._chunks[nonce]:
                del self._chunks[nonce]

    def put_passed(self, topic: str, passed: Passed | None) -> None:
        """One queue that the transfer is done with; None removes it."""
        if passed is None:
            self.passed.pop(topic, None)
        else:
            self.passed[topic] = passed
