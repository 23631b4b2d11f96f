"""What the command line shows: data on standard output, everything else on standard error."""

import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from streams.domain.depth import Depth
from streams.telemetry.logs import complain, printable

if TYPE_CHECKING:
    from rich.progress import Progress


_OF_OUTPUT = (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EBADF)
"""What can be wrong with standard output: a full disk, and the like."""
_BLANKS = dict.fromkeys(map(ord, "\t\r\n"), " ")
_OF = re.compile(r"(\d+) of (\d+)")


def open_output() -> None:
    """See that standard output and error take every character: one that their encoding lacks is written as an escape.

    One that is closed (`>&-`) takes it, too, and drops it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def flushed() -> Iterator[None]:
    """See that all that the block prints is written; what the system refuses is said in a line, with exit status 1.

    Whoever reads it may have read enough (`| head`); that is said to nobody.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what could not be written is not tried again at the end
        if error.errno != errno.EPIPE:
            what = "can't write to standard output" if error.errno in _OF_OUTPUT else "failed"
            complain("xferq", f"{error.filename or what}: {error.strerror or error}")
        sys.exit(1)


def note(text: str) -> None:
    """A line or more for the person at the terminal; never mixed with data."""
    with suppress(OSError):  # it is no reason to fail that nobody can be told
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """JSON in ASCII: nothing in it steers a terminal."""
    print(json.dumps(value))


def json_line(raw: bytes) -> str:
    """A record that should be JSON, as it is, on one line and without anything that could steer a terminal.

    Valid JSON has such characters within strings only, where an escape stands for the same one.
    """
    text = raw.decode(errors="replace").translate(_BLANKS)
    # What an encoding lacks, standard output would write as Python escapes it, which is no JSON.
    takes_all = (sys.stdout.encoding or "ascii").lower().startswith("utf")
    return "".join(
        char if char.isprintable() and (takes_all or char.isascii()) else json.dumps(char)[1:-1] for char in text
    )


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


def progress(*, by_share: bool = False) -> "Progress":
    """Progress bars on standard error, with counts or, `by_share`, in percent; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn() if by_share else MofNCompleteColumn(),
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
