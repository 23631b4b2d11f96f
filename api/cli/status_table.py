"""The list of `xferq status`: a line for each command, no wider than the terminal, from 60 columns on."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from api.commands import ENDPOINTS
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.timestamp import parse_time
from streams.telemetry.logs import printable

if TYPE_CHECKING:
    from api.models import CommandStatus

MIN_WIDTH = 60
_MIN_ID, _MAX_ID = 8, 20
_HEAD = ("ID", "STATE", "MOVED", "BACK", "AGE", "WHAT")
_RIGHT = {"MOVED", "BACK", "AGE"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))
_COLOURS = {"done": "32", "refused": "31", "claimed": "33", "waiting": "33"}
_TARGET = re.compile(r"https?://([^/?#]+)/?")


def status_table(listed: "Sequence[CommandStatus]", now: datetime, width: int, *, colour: bool) -> Iterator[str]:
    """The lines, with their head. What does not fit ends in `...`; there is a column BACK where anything was returned.

    Args:
        now: what ages are counted to.
        width: the terminal's columns; less than 60 count as 60.
        colour: whether states are coloured, with escape sequences.
    """
    size = _id_size([item.id for item in listed])
    rows = [
        (item.id[:size], item.state, f"{item.restored:,}", f"{item.returned:,}", _age(item, now), _what(item))
        for item in listed
    ]
    shown = [number for number, name in enumerate(_HEAD) if name != "BACK" or any(item.returned for item in listed)]
    widths = [max(len(row[number]) for row in [_HEAD, *rows]) for number in shown[:-1]]
    rest = max(width, MIN_WIDTH) - sum(widths) - 2 * len(widths)
    for row in [_HEAD, *rows]:
        cells = [
            row[number].rjust(wide) if _HEAD[number] in _RIGHT else row[number].ljust(wide)
            for number, wide in zip(shown, widths, strict=False)
        ]
        if colour and row[1] in _COLOURS:
            cells[1] = f"\x1b[{_COLOURS[row[1]]}m{cells[1]}\x1b[0m"
        yield "  ".join([*cells, _cut(row[-1], rest)]).rstrip()


def wants_colour(stream: TextIO) -> bool:
    """Whether who reads the stream wants colours: a terminal does, but for NO_COLOR; FORCE_COLOR wants them anyway."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def _id_size(ids: Sequence[str]) -> int:
    """How much of the ids tells them apart."""
    sizes = range(_MIN_ID, _MAX_ID)
    return next((size for size in sizes if len({id[:size] for id in ids}) == len(ids)), _MAX_ID)


def _age(item: "CommandStatus", now: datetime) -> str:
    if item.requested_at is None:
        return "-"
    try:
        seconds = max(0, int((now - parse_time(item.requested_at)).total_seconds()))
    except ValueError:
        return "-"
    return next((f"{seconds // size}{unit}" for size, unit in _UNITS if seconds >= size), f"{seconds}s")


def _what(item: "CommandStatus") -> str:
    """The type of the command, and the target whose xfer queue it is about, as short as it is clear."""
    queue = (item.queue_name or "-").removesuffix(XFER_SUFFIX)
    target = _TARGET.fullmatch(queue)
    endpoint = ENDPOINTS.get(item.type or "")
    verb = endpoint.verb if endpoint else item.type or "-"
    return printable(f"{verb} {target[1] if target else queue}")


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 3]}..."
