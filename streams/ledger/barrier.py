"""The barrier: proof that a process has read all that was written to a ledger partition before a moment.

A read can't give it. A broker cut off from the controller goes on answering clients that take it for the leader:
its high watermark and its records are those of the moment of the cut, while another broker leads and takes writes.
(A worker that trusted it would drain again what has been drained.) A write gives it: a *mark*, a record that says
nothing but a number, acknowledged by all in-sync replicas. A reader that has then been delivered that very record has
read all that lies before it, and nothing that was acknowledged before the mark was sent lies behind it.

Why that is linearizable. Let X be a record that was acknowledged, or a transaction that was decided, before the mark
M was sent. (A transaction was decided once its coordinator had written so, with acks=all and to `__transaction_state`;
its records lay in the ledger by then.)

- On one node there is one log. X was appended before M, and a reader delivers a log in order.
- On three nodes leaders follow one another, in epochs. X was acknowledged in epoch e: every replica in sync had it.
  A later leader is elected among those in sync, as unclean election is off, and so has X. Let M be appended by the
  leader of epoch d. Where d >= e, X is in its log already, and M lies behind it. Where d < e, that leader has been
  replaced without knowing it. But the next leader was in sync under it (that is why it could be elected), fetches
  from it no more, and only the controller can take it off the list of those in sync: M can't be acknowledged, nor
  come below the old leader's high watermark, so no reader is ever delivered it.
- So a reader that delivers M reads a log in which X lies before M, whichever broker it asks: all brokers agree on what
  lies below a high watermark. What of X is a transaction's is decided there as well before M is delivered to a reader
  of committed records: such a reader stops in front of an open transaction.

It rests on acks=all, and on no unclean election in the ledger, in `__transaction_state` (else a commit that was
answered may be taken back) and in `__consumer_offsets` (a claim's heads): `streams.kafka.layout` sees to the first,
`streams.kafka.elections` looks at the others, as a process starts and while a worker runs. The replication factor and
`min.insync.replicas` decide only whether the mark can be written, and how many disks may be lost: with one replica in
sync, that one is the log.

The number counts, not an offset: a ledger that was made again has that offset too, and aiokafka takes a duplicate for
acknowledged, with an offset of -1. Later numbers prove what earlier ones do: they were sent later.

A mark's value is null: to compaction it is a deletion, so that of each process one record stays per partition, and
nothing once `delete.retention.ms` has passed. `streams.ledger.view`, of whatever version, passes over keys that it does
not know.
"""

import itertools
import uuid
from collections import defaultdict
from collections.abc import Collection

from streams.concurrency.coalescer import Coalescer
from streams.ports import Transactor
from streams.records import Record

_NUMBER = "number"


class Marks:
    """Writes marks into the partitions of one topic, and knows its own again.

    All callers that ask for one in the same partition while another is under way share the next.
    """

    def __init__(self, kafka: Transactor, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._key = f"barrier/{uuid.uuid4().hex}".encode()
        self._numbers = itertools.count(1)
        # One for each partition: a write that waits for a leader holds up no question about another one.
        self._rounds: dict[int, Coalescer[int, int]] = defaultdict(lambda: Coalescer(self._write))

    async def write(self, partition: int) -> int:
        """Write a mark after this call, or share one that is; its number, once it is acknowledged.

        Raises:
            Unavailable: it was not acknowledged in time.
        """
        return await self._rounds[partition].answer(partition)

    async def _write(self, partitions: Collection[int]) -> dict[int, int]:
        written = {}
        for partition in partitions:  # it is one
            number = next(self._numbers)
            await self._kafka.mark(self._topic, partition, self._key, [(_NUMBER, b"%d" % number)])
            written[partition] = number
        return written

    def number_of(self, record: Record) -> int | None:
        """The number of a mark of this barrier; None for any other record."""
        if record.key != self._key:
            return None
        return next((int(value) for name, value in record.headers if name == _NUMBER), None)

    async def stop(self) -> None:
        """Wait for no mark any more."""
        for rounds in self._rounds.values():
            await rounds.stop()
