"""`xferq queues`, `topics`: what is in Kafka."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.kafka import open_kafka
from api.cli.output import note, print_columns, print_json
from streams.claim.heads import claimed_heads
from streams.domain.queue_name import is_xfer
from streams.domain.topic import is_queue_topic, queue_of
from streams.errors import XferqError
from streams.kafka.depths import Claimed, queue_depths
from streams.kafka.layout import TopicReport, apply_layout, read_layout

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def queues(
    xfer: Annotated[bool, typer.Option("--xfer", help="List only xfer queues.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the queues, and how full they are.

    The depth counts Kafka's offsets from the queue's head to its end: at least the number of
    messages, as transaction markers take offsets too. It is - (null in JSON) where one of the
    queue's partitions has no leader just now.

    Example: `xferq queues --xfer`
    """
    found = asyncio.run(_queues())
    rows = [(queue_of(topic), topic, partitions, depth) for topic, partitions, depth in found]
    if xfer:
        rows = [row for row in rows if row[0] is not None and is_xfer(row[0])]
    if as_json:
        keys = ("queue_name", "topic", "partitions", "depth")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    # A topic that only has a digest of a long name does not tell it.
    print_columns(["QUEUE", "DEPTH"], [[name or topic, depth] for name, topic, _, depth in rows])


async def _queues() -> list[tuple[str, int, int | None]]:
    async with open_kafka() as (kafka, settings):
        claimed: Claimed = {}
        try:
            claimed = await claimed_heads(kafka, settings)
        except XferqError as error:
            note(f"xferq queues: by the offsets of the queues' groups alone, as the ledger can't be read: {error}")
        depths = await queue_depths(kafka.connection, settings, claimed)
    return [(item.topic, item.partitions, item.depth) for item in depths]


def topics(
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit status 1 if something differs.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="More settings, as in deploy/topics.toml.", exists=True, dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create xferq's topics, and give all of them, queues included, the settings they need.

    It leaves topics that are already right alone, so you can run it at any time.

    Examples: `xferq topics`, `xferq topics --file deploy/topics.toml --check`
    """
    layout = read_layout(file) if file is not None else None

    async def apply() -> list[TopicReport]:
        async with open_kafka() as (kafka, settings):
            return await apply_layout(kafka.connection, settings, layout, check=check)

    reports = asyncio.run(apply())
    if as_json:
        print_json([_as_json(report) for report in reports])
    else:
        shown = [report for report in reports if report.outcome != "ok" or not is_queue_topic(report.topic)]
        print_columns(
            ["TOPIC", "OUTCOME", "DETAILS"],
            [[report.topic, report.outcome, "; ".join(report.details)] for report in shown],
        )
        if len(shown) < len(reports):
            print(f"{len(reports) - len(shown)} queues are as they should be")
    bad = sum(not report.is_good for report in reports)
    if bad:
        note(f"xferq topics: {bad} of {len(reports)} topics are not as they should be")
        raise typer.Exit(1)


def _as_json(report: TopicReport) -> Mapping[str, Any]:
    return {"topic": report.topic, "outcome": report.outcome, "details": list(report.details)}
