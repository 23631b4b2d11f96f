"""The batches of one transaction, by destination partition, in the order in which they were begun."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from streams.domain.returned import ReturnReason
from streams.domain.topic import topic_of
from streams.drain.limits import Limits
from streams.drain.strategy import Moved
from streams.records import Batch, Header, Record, Write
from streams.unopened import Unopened


class TransactionBatch:
    """What a mover fills and a transaction writes; without I/O and without a clock."""

    def __init__(
        self, new_batch: Callable[..., Batch], batch_bytes: int, source: str, log_topic: str, limits: Limits
    ) -> None:
        """An empty one that knows no destination; `new_batch` is a producer's, `source` the topic that is drained."""
        self._new_batch = new_batch
        self._batch_bytes = batch_bytes
        self._source = source
        self._log = log_topic
        self._limits = limits
        self._open: dict[tuple[str, int], Batch] = {}
        self._topics: set[str] = set()
        self.partitions: dict[str, int] = {}
        """The partition counts of the topics that may be written to."""
        self.refused: Collection[str] = ()
        """The topics that nothing can be written to."""
        self.writes: list[Write] = []
        """What was not taken yet."""
        self.is_sent = False
        """Whether some of it was taken, so that the transaction is open: nothing in it may wait for long."""
        self.restored = 0
        self.reasons: Counter[str] = Counter()
        """How many messages were given back, by reason."""
        self.bytes = 0
        """Of all values, the log's too; where keys and headers weigh more, the number of messages is the bound."""

        self.slots: object = None
        """What a compiled mover keeps of where queues' messages go, as long as that does not change."""

    @property
    def returned(self) -> int:
        """How many messages it gives back."""
        return self.reasons.total()

    @property
    def messages(self) -> int:
        """How many messages it moves or gives back."""
        return self.restored + self.returned

    @property
    def topics(self) -> frozenset[str]:
        """The topics that something is written to."""
        return frozenset(self._topics)

    @property
    def held_bytes(self) -> int:
        """Of all that was not taken yet."""
        return sum(write.batch.size() for write in self.writes)

    def take(self, most_bytes: int) -> list[Write]:
        """Take out what is full, to be sent; or all, where more than `most_bytes` would be left otherwise."""
        unfilled = {id(batch) for batch in self._open.values()}
        full = [write for write in self.writes if id(write.batch) not in unfilled]
        rest = [write for write in self.writes if id(write.batch) in unfilled]
        if sum(write.batch.size() for write in rest) > most_bytes:
            full, rest = self.writes, []
            self._open.clear()
            self.slots = None  # they know of batches that go out now
        self.writes = rest
        self.is_sent |= bool(full)
        return full

    def add_destinations(self, partitions: Mapping[str, int]) -> None:
        """Topics that may be written to from now on, with their partition counts."""
        self.partitions.update(partitions)
        self.slots = None

    def find(self, queue: str | None, partition: int) -> tuple[str, int] | str | None:
        """Where a queue's messages from this partition of the source go, or of None their log records.

        The name of its topic where that is not known, and None where it is for Python to say what the topic takes.
        """
        topic = self._log if queue is None else topic_of(queue)
        count = self.partitions.get(topic)
        if count is None:
            return None if queue is None else topic
        if topic in self._limits.sizes or (topic in self._limits.times and queue is not None):
            return None
        return topic, partition % count

    def open(self, where: tuple[str, int], full: Batch | None) -> Batch:
        """The batch that the next record for a partition goes into, other than one that is full."""
        batch = self._open.get(where)
        if batch is None or batch is full:
            size = self._batch_bytes
            batch = self._open[where] = self._new_batch(min(size, self._limits.sizes.get(where[0], size)))
            self._topics.add(where[0])
            self.writes.append(Write(*where, batch))
        return batch

    def add(self, record: Record, topic: str, message: Moved, now_ms: int) -> ReturnReason | None:
        """Add a moved message and its log record; why neither can be, where that is so.

        The destination's partition is the source's modulo their count: keeps the order of the source.
        """
        count = self.partitions.get(topic)
        if count is None:
            return ReturnReason.DESTINATION_UNAVAILABLE
        limits, log, partition, timestamp = self._limits, self._log, record.partition, record.timestamp
        key, value = record.key, record.value
        _, headers, line, about = message
        if limits.times and limits.nearest(topic, timestamp, now_ms) != timestamp:
            return ReturnReason.TIMESTAMP
        if limits.sizes and not (self._fits(topic, key, value, headers) and self._fits(log, key, line, about)):
            return ReturnReason.TOO_LARGE
        self._add((topic, partition % count), timestamp, key, value, headers)
        self._add((log, partition % self.partitions[log]), now_ms, key, line, about)
        return None

    def give_back(self, record: Record, now_ms: int) -> None:
        """Add a message as it is to the tail of the partition that it came from; or a batch that was not unpacked.

        But for its timestamp, where the topic would not take it back with that: it has lain there for longer than the
        topic lets a message be old. Then with the nearest one that it takes: or all behind it would wait for ever.
        """
        if isinstance(record, Unopened):
            self._add_whole(record.partition, record.batch)
            self.bytes += record.batch.size()
            return
        timestamp = self._limits.nearest(self._source, record.timestamp, now_ms)
        headers = list(record.headers)
        if self._fits(self._source, record.key, record.value, headers):
            self._add((self._source, record.partition), timestamp, record.key, record.value, headers)
        else:
            # It was there once, compressed by its producer.
            batch = self._new_batch(1, compression="zstd")
            batch.append(timestamp=timestamp, key=record.key, value=record.value, headers=headers)
            self._add_whole(record.partition, batch)

    def _add_whole(self, partition: int, batch: Batch) -> None:
        """A batch of its own for the source; what comes next goes behind it."""
        self.writes.append(Write(self._source, partition, batch))
        self._open.pop((self._source, partition), None)
        self.slots = None

    def _fits(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Header]) -> bool:
        limit = self._limits.sizes.get(topic)
        if limit is None:
            return True
        alone = self._new_batch(1)
        alone.append(timestamp=0, key=key, value=value, headers=headers)
        return alone.size() <= limit

    def _add(
        self, where: tuple[str, int], timestamp: int, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> None:
        if value is not None:
            self.bytes += len(value)
        batch = self._open.get(where)
        if batch is None or batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            self.open(where, batch).append(timestamp=timestamp, key=key, value=value, headers=headers)
