"""What the command line shows: data on standard output, everything else on standard error."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from streams.domain.depth import Depth
from streams.telemetry.logs import printable

_BLANKS = dict.fromkeys(map(ord, "\t\r\n"), " ")
_OF = re.compile(r"(\d+) of (\d+)")


def note(text: str) -> None:
    """A line or more for the person at the terminal; never mixed with data."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """JSON in ASCII: nothing in it steers a terminal."""
    print(json.dumps(value))


def json_line(raw: bytes) -> str:
    """A record that should be JSON, as it is, on one line and without anything that could steer a terminal.

    Valid JSON has such characters within strings only, where an escape stands for the same one.
    """
    text = raw.decode(errors="replace").translate(_BLANKS)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def print_columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table of aligned columns, nothing cut off; numbers stand to the right."""
    cells = [[printable("-" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [head, *cells]) for column in range(len(head))]
    numeric = [
        bool(rows) and all(row[column] is None or isinstance(row[column], int | Depth) for row in rows)
        for column in range(len(head))
    ]
    for row in [head, *cells]:
        line = "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        print(line.rstrip())


def progress() -> Progress:
    """Progress bars on standard error; none where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def broker_progress() -> Iterator[Callable[[str], None]]:
    """Shows what a broker says while it starts: a bar on a terminal, a few lines elsewhere."""
    with progress() as bars:
        task = bars.add_task("starting Kafka", total=None)
        said = ""

        def show(text: str) -> None:
            nonlocal said
            count = _OF.search(text)
            if count is not None:
                bars.update(task, description=text, completed=int(count[1]), total=int(count[2]))
            else:
                bars.update(task, description=text)
            phase = text.partition(":")[0]
            if bars.disable and phase != said:
                note(phase)
            said = phase

        yield show
