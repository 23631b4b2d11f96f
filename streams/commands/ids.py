"""Whose an id is: it belongs to the first command written down under it, however many processes ask at once.

1. The id is free, as far as a process's view shows. Each one that looks now, or has an old view, finds the same.
2. Each process writes a record of its own, `id/<id>/<nonce>`, with a hash of its command's content: a key that no
   process writes again.
3. A process that has read its own record back has read all that lies before it (`streams.ledger.barrier` says why). The
   record at the lowest offset owns the id; where it has other content, the loser removes its own.
A single key would not do: compaction leaves only what was written last, so the first record would be lost.
All records of an id lie in one partition of the ledger, and no process waits for another one.
"""

import asyncio
import uuid

from streams.domain.claim import Owned
from streams.errors import Refused, Unavailable
from streams.ledger.keys import id_key
from streams.ledger.ledger import Ledger

_POLL_S = 0.002
_MOST_POLLS = 500


class IdTaken(Refused):
    """The id is another command's."""


class Ids:
    """Decides, on one process's view of the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def take(self, id: str, content: str) -> bool:
        """See to it that the id is this content's, for ever; to be repeated after any error.

        Returns whether it was free until now: no process has written anything about it, then.

        Raises:
            IdTaken: it is another one's.
        """
        nonce = ""
        if self._ledger.owner_of(id) is None:
            nonce = uuid.uuid4().hex
            await self._ledger.record(id, [(id_key(id, nonce), Owned(content=content).to_bytes())])
            await self._read_back(id, nonce)
            if self._ledger.owner_of(id) != content:
                await self._ledger.remove(id, id_key(id, nonce))
        if self._ledger.owner_of(id) != content:
            raise IdTaken(f"{id} is the id of another command")
        return self._ledger.wanted(id)[:1] == [nonce]

    async def _read_back(self, id: str, nonce: str) -> None:
        """Wait until the view shows that very record, and so all that lies before it, as behind a barrier's mark."""
        for _ in range(_MOST_POLLS):
            if nonce in self._ledger.wanted(id):
                return
            await asyncio.sleep(_POLL_S)
        await self._ledger.barrier(id)  # which sees to it that a reader is at work
        if nonce not in self._ledger.wanted(id):
            raise Unavailable(f"whose the id {id} is can't be seen in the ledger")
