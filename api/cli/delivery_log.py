"""`xferq log`: the delivery log, from its beginning, a time or its end, and of it what somebody asks for."""

import asyncio
import math
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.output import json_line
from streams.domain.timestamp import parse_time
from streams.errors import Misconfigured
from streams.telemetry.logs import printable

if TYPE_CHECKING:
    from streams.kafka.reader import TopicTail
    from streams.records import Record

_AGO = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_GROWTH = 8
"""How much further back a search for the last records goes each time: transaction markers take offsets, too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are printed; None: it does not matter."""

    queue: str | None = None
    command: str | None = None
    id: str | None = None
    recipient: str | None = None

    def has(self, record: "Record") -> bool:
        """Whether the record is one of them."""
        if self == Wanted():
            return True
        fields, headers = _fields(record), {name: value.decode(errors="replace") for name, value in record.headers}
        return (
            fields is not None
            and self.command in (None, headers.get("command_id"))
            and self.id in (None, fields.get("id"))
            and (self.queue is None or self._is_of_queue(fields, headers))
            and (self.recipient is None or self._is_recipient(fields.get("recipient")))
        )

    def _is_of_queue(self, fields: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        """Whether the message was in the queue before or is in it afterwards."""
        response = fields.get("response")
        content = response.get("content") if isinstance(response, dict) else None
        return self.queue in (fields.get("queue"), headers.get("source"), headers.get("destination")) or (
            isinstance(content, str) and content.startswith(f"Rebound from {self.queue} to ")
        )

    def _is_recipient(self, value: object) -> bool:
        """Whether it is one of them; `@example.com` is everybody there. Case does not matter."""
        wanted = (self.recipient or "").casefold()
        found = [str(one).casefold() for one in (value if isinstance(value, list) else [value])]
        return any(one.endswith(wanted) if wanted.startswith("@") else one == wanted for one in found)


def since(text: str, now: float) -> int:
    """The time in ms since 1970 that is meant: `90s`, `15m`, `2h`, `3d` before now, or RFC 3339.

    Raises:
        typer.BadParameter: it is neither.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return int((now - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        return int(parse_time(text).timestamp() * 1000)
    except ValueError:
        raise typer.BadParameter(
            f"{text} is neither 90s, 15m, 2h or 3d nor a time like 2026-11-24T10:00:00Z", param_hint="--since"
        ) from None


def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what is written from now on.")] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="With --follow: first print everything that is there.")
    ] = False,
    since_: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Begin 90s, 15m, 2h or 3d ago, or at an RFC 3339 time."),
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, help="Of what is there, print the last so many records.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="Only messages that were moved from or into this queue.")
    ] = None,
    command: Annotated[str | None, typer.Option("--command", help="Only what the command with this id moved.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="Only the message with this id.")] = None,
    recipient: Annotated[
        str | None, typer.Option("--recipient", help="Only messages to this address; @example.com: to all there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as they are, one per line.")] = False,
) -> None:
    """Print the delivery log: one AdminRebind record per moved message.

    Without options it prints everything that is there; with --follow, what comes from now on, until Ctrl-C. --since and
    --tail say what is printed of what is there, also before --follow goes on.

    Examples: `xferq log --since 1h --recipient @example.com`, `xferq log --follow --json | jq .queue`
    """
    begin_ms = None if since_ is None else since(since_, time.time())
    if follow and tail is None and begin_ms is None and not from_beginning:
        tail = 0
    wanted = Wanted(queue, command, id, recipient)
    with suppress(KeyboardInterrupt):
        asyncio.run(_log(wanted, begin_ms, tail, follow=follow, as_json=as_json))


async def _log(wanted: Wanted, begin_ms: int | None, last: int | None, *, follow: bool, as_json: bool) -> None:
    from api.cli.kafka import open_kafka  # Kafka's libraries: not for --help
    from streams.kafka.reader import open_tail

    async with open_kafka() as (kafka, settings):
        name = settings.log_topic
        topic = await kafka.topic(name)
        if topic is None:
            raise Misconfigured(f"topic {name} (XFERQ_LOG_TOPIC) does not exist: create it with `xferq topics`")
        ends = await kafka.stable_ends(name, range(topic.partitions))
        starts = await kafka.log_starts(name, range(topic.partitions))
        tail = await open_tail(kafka.connection, name, starts, goes_on_at="earliest")
        try:
            if begin_ms is not None:
                starts = await tail.offsets_since(begin_ms, ends)
            if last is None:
                async for record in _between(tail, starts, ends):
                    if wanted.has(record):
                        _print_record(record, as_json=as_json)
            else:
                for record in await _last(tail, starts, ends, wanted, last):
                    _print_record(record, as_json=as_json)
            tail.go_to(ends)
            sys.stdout.flush()
            while follow:
                for record in await tail.read(timeout_ms=500):
                    if wanted.has(record):
                        _print_record(record, as_json=as_json)
                sys.stdout.flush()
        finally:
            await tail.close()


async def _between(tail: "TopicTail", starts: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator["Record"]:
    from streams.lookup import read_to

    tail.go_to(starts)
    async for record in read_to(tail, ends):
        if record.offset < ends[record.partition]:
            yield record


async def _last(
    tail: "TopicTail", starts: Mapping[int, int], ends: Mapping[int, int], wanted: Wanted, count: int
) -> "list[Record]":
    """The last so many of them, in the order of their times: read from further and further back."""
    distance = 2 * count
    while count:
        begins = {partition: max(start, ends[partition] - distance) for partition, start in starts.items()}
        found, oldest = [], dict.fromkeys(begins, math.inf)
        async for record in _between(tail, begins, ends):
            oldest[record.partition] = min(oldest[record.partition], record.timestamp)
            if wanted.has(record):
                found.append(record)
        found = sorted(found, key=lambda record: record.timestamp)[-count:]
        # What lies before the oldest that was read of a partition may still be younger than what others have.
        horizon = max((oldest[partition] for partition in begins if begins[partition] > starts[partition]), default=0)
        if begins == starts or (len(found) == count and found[0].timestamp >= horizon):
            return found
        distance *= _GROWTH
    return []


def _fields(record: "Record") -> Mapping[str, Any] | None:
    import orjson

    try:
        fields = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _print_record(record: "Record", *, as_json: bool) -> None:
    if as_json:
        print(json_line(record.value or b""))
        return
    fields = _fields(record) or {}
    try:
        line = f"{fields['event_time']}  {fields['type']}  {fields['id']}  {fields['response']['content']}"
    except (KeyError, TypeError):
        line = f"(partition {record.partition}, offset {record.offset}: not a log record)"
    print(printable(line))
