"""The results as tables for the terminal."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tests.bench.drains import LIMITS, OURS


def drain_table(drain: dict[str, Any]) -> Table:
    """Each contender's messages per second, and ours against them; the fastest first."""
    title = f"{drain['messages']:,} messages of {drain['size']:,} B, {drain['queues']:,} queues"
    table = Table("contender", title=title)
    for heading in ("messages/s", "spread", "\u00b5s of processor: client + broker", "a transaction's", "xferq is"):
        table.add_column(heading, justify="right")
    table.add_column("remark")
    for name, found in ranked(drain["contenders"]):
        size = found["transaction_messages"]
        ratio = drain["ratios"].get(name)
        table.add_row(
            name,
            f"{statistics.median(found['rates']):,.0f}",
            f"{min(found['rates']):,.0f} to {max(found['rates']):,.0f}",
            f"{found['client_us']:.1f} + {found['broker_us']:.1f}",
            "" if size is None else f"{size:,.0f}",
            "" if ratio is None else f"{ratio:.0%} of it" if name in LIMITS else f"{ratio:.2f} times it",
            found["remark"],
        )
    for name, why in drain["skipped"].items():
        table.add_row(name, "", "", "", "", "", why)
    table.caption = f"the ratio to the best contender differs by {drain['ratio_spread']:.0%} between rounds"
    return table


def shapes_table(shapes: dict[str, Any]) -> Table:
    """A row for each shape and contender."""
    table = Table("shape", "contender")
    for heading in ("messages", "messages/s", "MB/s of bodies", "memory, MB"):
        table.add_column(heading, justify="right")
    for shape, drain in shapes.items():
        for name, found in drain["contenders"].items():
            rate = statistics.median(found["rates"])
            memory = found["memory_mb"]
            table.add_row(
                shape,
                name,
                f"{drain['messages']:,}",
                spread(found["rates"]),
                f"{rate * drain['size'] / 1e6:,.1f}",
                "" if memory is None else f"{memory:,.0f}",
            )
    return table


def claim_table(claims: Sequence[dict[str, Any]]) -> Table:
    """A row for each sort of cancel."""
    table = Table("cancel of")
    for heading in ("how often", "HTTP 200 to claimed, ms", "99 % below, ms", "worker's peak memory, MB"):
        table.add_column(heading, justify="right")
    for claim in claims:
        times = claim["ms"]
        table.add_row(
            claim["name"], f"{len(times)}", spread(times), f"{p99(times):,.0f}", f"{claim['worker_memory_mb']:,.0f}"
        )
    return table


def posts_table(found: Sequence[dict[str, Any]]) -> Table:
    """How many were taken, without keys and with them."""
    table = Table(f"cancels posted over {found[0]['connections']} connections")
    for one in found:
        table.add_column("with Idempotency-Key" if one["with_key"] else "without", justify="right")
    table.add_row("a second", *(f"{one['per_second']:,.0f}" for one in found))
    table.add_row("answered within, median", *(f"{one['median_ms']:.1f} ms" for one in found))
    table.add_row("99 % within", *(f"{one['p99_ms']:.1f} ms" for one in found))
    return table


def transfers_table(found: Sequence[dict[str, Any]]) -> Table:
    """A row for each number of queues and each direction."""
    table = Table("queues", "command")
    for heading in ("s", "ms a queue", "its processor time", "memory, MB", "another queue's cancel is claimed within"):
        table.add_column(heading, justify="right")
    for one in found:
        for command in ("transfer", "cancel"):
            row = one[command]
            table.add_row(
                f"{one['queues']:,}",
                command,
                f"{row['seconds']:,.1f}",
                f"{row['seconds'] / one['queues'] * 1000:.1f}",
                f"{row['cpu_s'] / one['queues'] * 1000:.1f}",
                f"{one['memory_mb']:,.0f}, {one['memory_before_mb']:,.0f} before",
                f"{row['other_claimed_ms']:,.0f} ms",
            )
    return table


def queues_table(found: dict[str, Any]) -> Table:
    """The first drain and the second."""
    table = Table(f"drain of {found['messages']:,} messages into {found['queues']:,} queues", "s")
    table.add_row("that don't exist yet", f"{found['first_s']:.1f}")
    table.add_row("that do", f"{found['second_s']:.1f}")
    table.add_row("only making as many topics", f"{found['topics_alone_s']:.1f}")
    return table


def p99(times: Sequence[float]) -> float:
    """The 99th percentile; of a single one, that one."""
    return statistics.quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]


def spread(values: Sequence[float]) -> str:
    """The median, and between what it lies."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def ranked(found: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Contenders by their medians, the fastest first; of those that are level, xferq."""
    return sorted(found.items(), key=lambda item: (-statistics.median(item[1]["rates"]), item[0] != OURS))
