"""Reading committed records."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from streams.errors import OutOfRange
from streams.records import Record
from tests.fakes.broker import Broker, FakeTopic
from tests.fakes.faults import Faults
from tests.fakes.log import FakeRecord

_WAIT_S = 0.2


class FakeReader:
    """See `streams.records.Reader`. `at_a_time` records in a fetch; what is no record is passed one read later."""

    def __init__(
        self, broker: Broker, faults: Faults, topic: str, partition: int, start: int, end: int, at_a_time: int
    ) -> None:
        self._broker = broker
        self._faults = faults
        self._topic = topic
        self._partition = partition
        self._end = end
        self._at_a_time = at_a_time
        self._position = start

    @property
    def position(self) -> int:
        return self._position

    async def read(self) -> Sequence[Record]:
        await self._faults.point(f"read:{self._topic}/{self._partition}")
        topic = self._broker.topics.get(self._topic)
        if topic is None:
            # A client that is told of no leader asks for the metadata again and again.
            await asyncio.sleep(_WAIT_S)
            return []
        log = topic.logs[self._partition]
        if not log.start <= self._position <= log.end:
            raise OutOfRange(f"{self._topic}/{self._partition} has no offset {self._position} any more")
        records: list[FakeRecord] = []
        for record in log.records(self._position, log.end):
            records.append(record)
            if len(records) == self._at_a_time:
                break
        if records:
            self._position = records[-1].offset + 1
        elif self._position < log.stable_end:
            self._position = log.stable_end
        else:
            await topic.changes.wait(_WAIT_S)
        return [record for record in records if record.offset < self._end]

    async def close(self) -> None:
        self._faults.alive()


class FakeTail:
    """See `streams.records.Tail`. It follows the topic's name, as Kafka does: one that is made again may be shorter."""

    def __init__(self, broker: Broker, faults: Faults, topic: str, starts: Mapping[int, int]) -> None:
        self._broker = broker
        self._faults = faults
        self._topic = topic
        self._positions = dict(starts)
        self._left: set[int] = set()

    async def read(self, timeout_ms: int) -> Iterable[Record]:
        await self._faults.point("tail.read", counted=False)
        until = asyncio.get_running_loop().time() + timeout_ms / 1000
        while True:
            self._faults.alive()
            topic = self._broker.topics.get(self._topic)
            found = [] if topic is None else self._fetch(topic)
            left_s = until - asyncio.get_running_loop().time()
            if found or left_s <= 0:
                return found
            if topic is None:
                await asyncio.sleep(left_s)
            else:
                await topic.changes.wait(left_s)

    def _fetch(self, topic: FakeTopic) -> list[FakeRecord]:
        followed = [(p, topic.logs[p], at) for p, at in sorted(self._positions.items()) if p not in self._left]
        missing = {partition for partition, log, at in followed if not log.start <= at <= log.end}
        if missing:
            raise OutOfRange(f"{self._topic}: no such offsets: {sorted(missing)}", missing)
        found: list[FakeRecord] = []
        for partition, log, at in followed:
            if at < log.stable_end:
                found += log.records(at, log.end)
                self._positions[partition] = log.stable_end
        return found

    async def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        self._faults.alive()
        return {partition: self._positions[partition] for partition in partitions}

    def leave(self, partition: int) -> None:
        self._left.add(partition)

    async def close(self) -> None:
        self._faults.alive()
