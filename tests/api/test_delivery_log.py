"""`xferq log`: which records it prints, and where it begins."""

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from api.cli.delivery_log import Wanted, _last, since

RECORD = {
    "type": "AdminRebind",
    "id": "m1",
    "recipient": "u@Example.com",
    "queue": "tenant@example.com",
    "response": {"content": "Rebound from http://mx2.example/.xfer.kumomta.internal to tenant@example.com: r"},
}
HEADERS = [("command_id", b"c1"), ("source", b"s"), ("destination", b"d")]


def a_record(value: object = None, headers: list[tuple[str, bytes]] = HEADERS, **more: Any) -> Any:
    raw = value if isinstance(value, bytes) else json.dumps(RECORD if value is None else value).encode()
    return SimpleNamespace(value=raw, headers=headers, **more)


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        (Wanted(), True),
        (Wanted(id="m1"), True),
        (Wanted(id="m"), False),
        (Wanted(command="c1"), True),
        (Wanted(command="c2"), False),
        (Wanted(queue="tenant@example.com"), True),
        (Wanted(queue="http://mx2.example/.xfer.kumomta.internal"), True),
        (Wanted(queue="http://mx2.example/"), False),
        (Wanted(queue="s"), True),
        (Wanted(queue="d"), True),
        (Wanted(recipient="U@example.COM"), True),
        (Wanted(recipient="@example.com"), True),
        (Wanted(recipient="example.com"), False),
        (Wanted(recipient="@ample.com"), False),
        (Wanted(id="m1", recipient="other@example.com"), False),
        (Wanted("tenant@example.com", "c1", "m1", "u@example.com"), True),
    ],
)
def test_what_is_wanted(wanted: Wanted, has: bool) -> None:
    assert wanted.has(a_record()) is has


def test_several_recipients() -> None:
    record = a_record(RECORD | {"recipient": ["a@x.example", "b@y.example"]})
    assert Wanted(recipient="b@y.example").has(record)
    assert not Wanted(recipient="c@y.example").has(record)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"5", b"{}", {"response": 5, "recipient": None}, {"response": {}}])
def test_what_is_no_log_record_is_wanted_where_everything_is(value: object) -> None:
    record = a_record(value, headers=[])
    assert Wanted().has(record)
    for wanted in (Wanted(queue="q"), Wanted(command="c"), Wanted(id="i"), Wanted(recipient="r")):
        assert not wanted.has(record)


def test_times() -> None:
    now = 1_000_000_000.0
    found = [since(text, now) / 1000 for text in ("90s", "15m", "2h", "3d", "2001-09-09T01:46:40Z")]
    assert found == [now - 90, now - 900, now - 7_200, now - 259_200, now]
    for text in ("", "5", "5w", "-5m", "yesterday", "2001-09-09"):
        with pytest.raises(typer.BadParameter, match="neither"):
            since(text, now)


class Log:
    """A topic in memory, which gives only what is at and behind where it was told to go; None is a marker."""

    def __init__(self, *partitions: list[int | None]) -> None:
        self.partitions = partitions
        self._at: dict[int, int] = {}
        self.read_offsets = 0

    def go_to(self, offsets: dict[int, int]) -> None:
        self._at = dict(offsets)

    async def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        return {partition: self._at[partition] for partition in partitions}

    async def read(self, timeout_ms: int) -> list[Any]:
        found = []
        for partition, position in self._at.items():
            for offset, timestamp in enumerate(self.partitions[partition][position:], position):
                self.read_offsets += 1
                if timestamp is not None:
                    found.append(a_record(partition=partition, offset=offset, timestamp=timestamp))
            self._at[partition] = len(self.partitions[partition])
        return found


async def last(log: Log, count: int, wanted: Wanted | None = None) -> list[int]:
    starts = dict.fromkeys(range(len(log.partitions)), 0)
    ends = {number: len(records) for number, records in enumerate(log.partitions)}
    return [record.timestamp for record in await _last(log, starts, ends, wanted or Wanted(), count)]  # type: ignore[arg-type]


async def test_the_last_records_are_the_youngest_of_all_partitions() -> None:
    for partitions in (
        [[1, 4, 7], [2, 5, 8], [3, 6, 9]],
        [[1, 2, 3, 4, 5, 6, 7, 8, 9], [], []],
        [[1, None, 2, None, 3, None], [4, None, 5, None], [6, 7, 8, 9, None]],
        # What many markers hide is younger than what the other partition shows at once.
        [[7, 8, 9, *[None] * 500], [1, 2, 3, 4, 5, 6]],
    ):
        for count in range(12):
            assert await last(Log(*partitions), count) == list(range(max(1, 10 - count), 10))


async def test_the_last_records_of_a_long_log_are_not_searched_for_in_all_of_it() -> None:
    log = Log(list(range(0, 200_000, 2)), list(range(1, 200_000, 2)))
    assert await last(log, 10) == list(range(199_990, 200_000))
    assert log.read_offsets < 1_000


async def test_what_is_not_there_is_searched_for_once_in_all_of_it() -> None:
    log = Log(list(range(1_000)))
    assert await last(log, 10, Wanted(id="other")) == []
    assert log.read_offsets < 3_000
