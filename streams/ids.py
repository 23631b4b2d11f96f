"""Whose an id is: that of the first command that was written down under it, whoever asks, and however many at once.

1. The id is free, as far as one's view shows. So say all who look at this moment, and whose views are old.
2. Each writes a record of its own, `id/<id>/<nonce>`, with a hash of its command's content: a key that nobody writes
   again.
3. Behind a barrier each sees all of them. The one at the lowest offset owns the id; where that has other content,
   the loser removes its own.
A single key would not do: what was written last is all that compaction leaves of it, so the first would not stay so.
All records of an id lie in one partition of the ledger, and nobody waits for another one.
"""

import uuid

from streams.domain.claim import Owned
from streams.errors import Refused
from streams.ledger import Ledger
from streams.ledger_keys import id_key


class IdTaken(Refused):
    """The id is another command's."""


class Ids:
    """Decides, on one process's view of the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def take(self, id: str, content: str) -> None:
        """See to it that the id is this content's, for ever; to be repeated after any error.

        Raises:
            IdTaken: it is another one's.
        """
        while self._ledger.owner_of(id) is None:
            key = id_key(id, uuid.uuid4().hex)
            await self._ledger.record(id, [(key, Owned(content=content).to_bytes())])
            await self._ledger.barrier(id)
            if self._ledger.owner_of(id) != content:
                await self._ledger.record(id, [(key, None)])
        if self._ledger.owner_of(id) != content:
            raise IdTaken(f"{id} is the id of another command")
