"""What the demo says: a line or two for each step, a bar for what takes long, and the account at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.demo.evidence import Command
from api.demo.tally import Row, Tally

_PLAIN_WIDTH = 110
_NAME_WIDTH = 38
_PROBLEMS_SHOWN = 12
Advance = Callable[[int, int | None], None]

_COLUMNS: Sequence[tuple[str, Callable[[Row], int]]] = (
    ("in", lambda row: row.put_in),
    ("trans-\nferred", lambda row: row.transferred),
    ("dis-\npatched", lambda row: row.dispatched),
    ("back", lambda row: row.back),
    ("twice", lambda row: row.doubled),
    ("lost", lambda row: row.lost),
    ("chan-\nged", lambda row: row.changed),
    ("logged\nthere", lambda row: row.logged_transfers),
    ("logged\nback", lambda row: row.logged_cancels),
)
_FAULTS = ("lost", "chan-\nged")


class Report:
    """Writes to the console; where that is no terminal, without bars and colours."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = _PLAIN_WIDTH
        self._step = 0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the report began."""
        return time.monotonic() - self._started

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        since = f"  [dim]({self.seconds:.0f} s)[/dim]" if self._step > 1 else ""
        self.console.print(f"\n[bold]{self._step}  {escape(title)}[/bold]{since}")

    def say(self, text: str) -> None:
        """A line within a step."""
        self.console.print(Padding(escape(text), (0, 0, 0, 3)))

    @contextmanager
    def doing(self) -> Iterator[Callable[[str], None]]:
        """What is just going on, in words that replace each other; all of them where there is no terminal."""
        if self.console.is_terminal:
            with self.console.status("") as status:
                yield lambda text: status.update(f" {escape(text)}")
            return
        shown_at = 0.0

        def show(text: str) -> None:
            nonlocal shown_at
            # A first download reports every file.
            if not text.startswith(("fetching", "resolving")) or time.monotonic() - shown_at > 2:
                shown_at = time.monotonic()
                self.say(text)

        yield show

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[Advance]:
        """A progress bar that is gone when it is full; yields what sets it to (done, total)."""
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(title, total=total)

            def advance(done: int, now_total: int | None) -> None:
                progress.update(task, completed=done, total=now_total or total)

            yield advance

    def table(self, tally: Tally) -> None:
        """The account by scheduled queue."""
        table = Table(
            title="\nEvery message's way, counted in Kafka itself",
            title_justify="left",
            title_style="bold",
            box=None,
            padding=(0, 0, 0, 1),
            pad_edge=False,
        )
        # The numbers always have their place, the names what is left: 20 characters of a terminal's usual 80.
        numbers = sum(1 + max(len(f"{tally.total(column):,}"), *map(len, name.split())) for name, column in _COLUMNS)
        name_width = max(8, min(_NAME_WIDTH, self.console.width - numbers))
        table.add_column("scheduled queue", no_wrap=True, overflow="ellipsis", max_width=name_width)
        for name, _ in _COLUMNS:
            table.add_column(name, justify="right", no_wrap=True)
        for row in tally.rows:
            table.add_row(escape(row.queue), *(_cell(name, column(row)) for name, column in _COLUMNS))
        table.add_row()
        sums = (_cell(name, tally.total(column)) for name, column in _COLUMNS)
        table.add_row(f"{len(tally.rows)} queues", *sums, style="bold")
        self.console.print(table)

    def failure(self, why: str) -> None:
        """The demo could not go on."""
        self.console.print(f"\n[bold red]xferq demo:[/bold red] {escape(why)}", soft_wrap=True)

    def figures(self, tally: Tally, cancel: Command, *, claim_ms: float, seen_ms: float) -> None:
        """The numbers that the table has no place for."""
        drained, drain_s = cancel.restored, (cancel.finished_at - cancel.claimed_at).total_seconds()
        rows, total = tally.rows, tally.total
        doubled = total(lambda row: row.doubled)
        transfers, cancels = total(lambda row: row.logged_transfers), total(lambda row: row.logged_cancels)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for name, value, meaning in (
            (
                "duplicates",
                f"{doubled:,}",
                f"at most {tally.bound:,}: {tally.bound_at_claim:,} that dispatchers had polled but not committed at "
                f"the claim, {tally.bound_after:,} polled until they saw their eviction",
            ),
            ("losses", f"{total(lambda row: row.lost):,}", "neither dispatched nor back; must be 0"),
            (
                "changed",
                f"{total(lambda row: row.changed):,}",
                "with another key, byte, time, header or envelope than before; must be 0",
            ),
            (
                "AdminRebind",
                f"{transfers + cancels:,}",
                f"records: {transfers:,} of {sum(row.transferred for row in rows):,} moves by the transfer, "
                f"{cancels:,} of {sum(row.back for row in rows):,} by the cancel",
            ),
            (
                "claim",
                f"{claim_ms:.0f} ms",
                f"from HTTP 200 to the claim's own time, taken as it is written; seen over HTTP after {seen_ms:.0f} ms",
            ),
            ("drain", f"{drained / max(drain_s, 1e-3):,.0f}/s", f"{drained:,} messages in {drain_s:.2f} s"),
        ):
            table.add_row(f"[bold]{name}[/bold]", value, escape(meaning))
        self.console.print()
        self.console.print(table)

    def verdict(self, tally: Tally) -> None:
        """One line, and what is wrong where something is."""
        problems = tally.problems
        if not problems:
            back, gone = tally.total(lambda row: row.back), tally.total(lambda row: row.dispatched)
            doubled = tally.total(lambda row: row.doubled)
            self.console.print(
                f"\n[bold green]OK[/bold green]  {tally.total(lambda row: row.put_in):,} messages: {back:,} are back, "
                f"{gone:,} were dispatched, "
                f"{doubled:,} are both; none is lost, none changed. {self.seconds:.0f} s in all."
            )
            return
        self.console.print(f"\n[bold red]FAILED[/bold red]  {len(problems)} things are not as they must be:")
        for problem in problems[:_PROBLEMS_SHOWN]:
            self.console.print(f"   - {escape(problem)}", soft_wrap=True)
        if len(problems) > _PROBLEMS_SHOWN:
            self.console.print(f"   and {len(problems) - _PROBLEMS_SHOWN} more")


def _cell(column: str, value: int) -> str:
    text = f"{value:,}"
    if column in _FAULTS:
        return f"[green]{text}[/green]" if value == 0 else f"[bold red]{text}[/bold red]"
    return text
