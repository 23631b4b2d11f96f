"""`xferq backup`, `restore`, `acls`: what an operator prepares, and hopes never to need."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from api.cli.kafka import open_kafka
from api.cli.output import note
from streams.errors import Misconfigured
from streams.kafka.acls import Part, acl_commands
from streams.kafka.ledger_id import LedgerId
from streams.ledger.backup import dump_backup, load_backup, read_ledger, write_ledger
from streams.settings.settings import load_settings


def backup() -> None:
    """Print the ledger as it is now, for `xferq restore`.

    The backup is exact as long as no drain is running: what is drained afterwards would be drained again after a
    restore. Needs the worker's permissions.

    Example: `xferq backup > ledger.backup`
    """

    async def read() -> tuple[dict[bytes, bytes], list[str]]:
        async with open_kafka() as (kafka, settings):
            values = await read_ledger(kafka, settings)
            return values, list(dump_backup(values, settings, datetime.now(UTC)))

    values, lines = asyncio.run(read())
    for line in lines:
        print(line)
    sys.stdout.flush()
    note(f"{len(values)} records")


def restore(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The output of `xferq backup`.", exists=True, dir_okay=False)
    ] = None,
    without_backup: Annotated[
        bool, typer.Option("--without-backup", help="There is none: accept the ledger as it is. Needs no FILE.")
    ] = False,
) -> None:
    """Put a backup into a new, empty ledger, which may have another name and number of partitions.

    Stop workers and api first, and start them only after this has succeeded: they refuse a ledger that is not the one
    they have used so far, unless this has accepted it. If it was interrupted, run it again.

    Example: `xferq topics && xferq restore ledger.backup`
    """
    if (file is None) is not without_backup:
        raise Misconfigured("give either a FILE or --without-backup")
    values: dict[bytes, bytes] = {}
    try:
        if file is not None:
            with file.open(encoding="ascii") as lines:
                values = load_backup(lines)
    except OSError as error:
        raise Misconfigured(f"{file}: {error.strerror}") from error

    async def write() -> str:
        async with open_kafka() as (kafka, settings):
            if file is not None:
                await write_ledger(kafka, settings, values)
            else:
                values.update(await read_ledger(kafka, settings))
            await LedgerId(kafka, settings).accept()
            return settings.ledger_topic

    topic = asyncio.run(write())
    print(f"{len(values)} records are in {topic}")


def acls(
    part: Annotated[
        Part | None, typer.Argument(metavar="PART", help="api, worker, operator, dispatcher or reader.")
    ] = None,
) -> None:
    """Print the commands that grant a part of xferq just what it needs on Kafka; by default for all parts.

    They call Kafka's kafka-acls.sh for the topics and groups in the settings. It takes the brokers from $KAFKA and its
    own login from the file admin.properties.

    Example: `KAFKA=kafka-1:9093 sh -c "$(xferq acls worker)"`
    """
    print(acl_commands(load_settings(), part))
