"""The comparison for README.md: `python -m tests.bench.report` prints a table and writes a plot of the newest results.

The plot is SVG, written by hand: bars need no library.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.bench.drains import LIMITS, OURS
from tests.bench.tables import ranked

_RESULTS = Path("bench-results")
_ROW = 30
_BAR = 18
_TOP = 34
_NAMES = 150
_BARS = 420
_NUMBERS = 150
_COLOURS = {OURS: "#1a7f5a", **dict.fromkeys(LIMITS, "#c9c9c9")}
_COLOUR = "#6b8fb8"


def newest(folder: Path) -> Path:
    """The newest results with a comparison in them; those of a quick run only where there are no others.

    Raises:
        FileNotFoundError: there are none.
    """
    found = [path for path in sorted(folder.glob("*.json"), reverse=True) if _has_contenders(path)]
    found.sort(key=_is_quick)
    if not found:
        raise FileNotFoundError(f"no results of `python -m tests.bench --only drain` in {folder}/")
    return found[0]


def markdown(results: dict[str, Any]) -> str:
    """The tables in Markdown: the drain's, and the shapes' where they were measured too."""
    drain = results["drain"]
    lines = [
        f"{drain['messages']:,} messages of {drain['size']:,} bytes from {drain['partitions']} partitions to "
        f"{drain['queues']:,} queues, at most {drain['transaction']:,} in a transaction; {results['machine']}, Kafka "
        f"{results['kafka']} on the same cores; medians of {len(_first(drain)['rates'])}, with the least and the most.",
        "",
        "| | messages/s | least to most | \u00b5s: client + broker | xferq is | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, found in ranked(drain["contenders"]):
        rates = found["rates"]
        ratio = drain["ratios"].get(name)
        shown = "" if ratio is None else f"{ratio:.0%} of it" if name in LIMITS else f"{ratio:.2f} times it"
        label = f"**{name}**" if name == OURS else name
        lines.append(
            f"| {label} | {statistics.median(rates):,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {found['client_us']:.0f} + {found['broker_us']:.0f} | {shown} | {found['remark']} |"
        )
    if shapes := results.get("shapes"):
        lines += ["", "| shape | | messages/s | MB/s of bodies |", "|---|---|---:|---:|"]
        for shape, measured in shapes.items():
            for name, found in measured["contenders"].items():
                rate = statistics.median(found["rates"])
                lines.append(f"| {shape} | {name} | {rate:,.0f} | {rate * measured['size'] / 1e6:,.1f} |")
    return "\n".join(lines)


def svg(results: dict[str, Any]) -> str:
    """The drain's medians as bars, with a line from the least to the most."""
    drain = results["drain"]
    rows = ranked(drain["contenders"])
    scale = _BARS / max(max(found["rates"]) for _, found in rows)
    width, height = _NAMES + _BARS + _NUMBERS, _TOP + _ROW * len(rows) + 10
    title = f"messages per second, {drain['messages']:,} messages of {drain['size']:,} bytes"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_NAMES}" y="20" fill="#444444">{escape(title)}</text>',
    ]
    for number, (name, found) in enumerate(rows):
        top = _TOP + number * _ROW
        middle = top + _BAR / 2
        rates = found["rates"]
        median = statistics.median(rates)
        least, most = (_NAMES + scale * rate for rate in (min(rates), max(rates)))
        weight = ' font-weight="bold"' if name == OURS else ""
        parts += [
            f'<text x="{_NAMES - 8}" y="{middle + 4:.1f}" text-anchor="end"{weight}>{escape(name)}</text>',
            f'<rect x="{_NAMES}" y="{top}" width="{scale * median:.1f}" height="{_BAR}" '
            f'fill="{_COLOURS.get(name, _COLOUR)}"/>',
            f'<line x1="{least:.1f}" y1="{middle:.1f}" x2="{most:.1f}" y2="{middle:.1f}" stroke="#222222"/>',
            f'<text x="{most + 8:.1f}" y="{middle + 4:.1f}">{median:,.0f}'
            f"{' (' + escape(found['remark'].partition(',')[0]) + ')' if found['remark'] else ''}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Print the Markdown, write the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, help="a JSON file; the newest one by default")
    parser.add_argument("--svg", type=Path, help="where the plot goes; beside the results by default")
    options = parser.parse_args()
    try:
        path = options.results or newest(_RESULTS)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    results = json.loads(path.read_text(encoding="utf-8"))
    print(markdown(results))
    plot = options.svg or path.with_suffix(".svg")
    plot.write_text(svg(results), encoding="utf-8")


def _has_contenders(path: Path) -> bool:
    return bool(json.loads(path.read_text(encoding="utf-8")).get("drain", {}).get("contenders"))


def _is_quick(path: Path) -> bool:
    return bool(json.loads(path.read_text(encoding="utf-8")).get("quick"))


def _first(drain: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(drain["contenders"].values()))
    return found


if __name__ == "__main__":
    main()
