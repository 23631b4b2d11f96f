"""`xferq queues`, `topics`: what is in Kafka."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.kafka import open_kafka
from api.cli.output import note, print_columns, print_json
from streams.claim.heads import read_claimed
from streams.domain.depth import Claimed, QueueDepth
from streams.domain.queue_name import is_xfer
from streams.domain.timestamp import format_time
from streams.domain.topic import is_queue_topic, queue_of
from streams.errors import XferqError
from streams.kafka.layout import TopicReport, apply_layout, read_layout

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def queues(
    xfer: Annotated[bool, typer.Option("--xfer", help="List only xfer queues.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the queues, and how full they are.

    DEPTH is how many messages are in a queue, HELD how many more of it commands have claimed and
    not moved yet. What is too much to be counted (more than about 1 MiB, and 1,000 messages)
    shows as <=N: at most so many. Both are - (null in JSON) where one of the queue's partitions
    has no leader just now.

    Example: `xferq queues --xfer`
    """

    def is_wanted(topic: str) -> bool:
        name = queue_of(topic)
        return not xfer or (name is not None and is_xfer(name))

    as_of = format_time(datetime.now(UTC))
    found = asyncio.run(_queues(is_wanted))
    if as_json:
        print_json([_as_json_queue(queue, as_of) for queue in found])
        return
    # A topic that only has a digest of a long name does not tell it.
    rows = [[queue_of(queue.topic) or queue.topic, queue.depth, queue.held] for queue in found]
    print_columns(["QUEUE", "DEPTH", "HELD"], rows)


def _as_json_queue(queue: QueueDepth, as_of: str) -> dict[str, object]:
    shown = {name: depth and depth.as_json(as_of) for name, depth in (("depth", queue.depth), ("held", queue.held))}
    return {"queue_name": queue_of(queue.topic), "topic": queue.topic, "partitions": queue.partitions, **shown}


async def _queues(is_wanted: Callable[[str], bool]) -> list[QueueDepth]:
    async with open_kafka() as (kafka, settings):
        claimed: Claimed = {}
        try:
            claimed = await read_claimed(kafka, settings)
        except XferqError as error:
            note(f"xferq queues: by the offsets of the queues' groups alone, as the ledger can't be read: {error}")
        return await kafka.depths(claimed, is_wanted)


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
