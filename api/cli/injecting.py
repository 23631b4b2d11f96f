"""`xferq inject`: mail from files into a queue."""

import asyncio
import sys
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.progress import Progress

from api.cli.kafka import open_kafka
from api.cli.output import note, progress
from api.injection import Injector, Message, open_injector
from api.mail import Mail, make_envelope, read_all
from streams.domain.envelope import dump_envelope
from streams.domain.queue_name import InvalidQueueName, is_xfer, validate_queue_name
from streams.domain.returned import InvalidEnvelope
from streams.domain.schedule import InvalidSchedule, Schedule
from streams.errors import XferqError
from streams.telemetry.logs import printable

_MESSAGES_AT_ONCE = 1_000
_BYTES_AT_ONCE = 8 << 20
_STDIN = "-"


def inject(
    queue: Annotated[
        str,
        typer.Argument(
            metavar="QUEUE",
            help="A scheduled queue: campaign:tenant@domain!routing_domain, or parts of that.",
            show_default=False,
        ),
    ],
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="An mbox, a maildir, a folder of .eml files, a file with one message, or - for one on standard input.",
            show_default=False,
        ),
    ],
    sender: Annotated[
        str | None, typer.Option(help="The envelope's sender; by default from Return-Path or From.", show_default=False)
    ] = None,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            help="The envelope's recipient; may be given more than once; by default from To.", show_default=False
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help='When the mail may be sent, as JSON: {"expires": "3000-12-31T00:00:00Z"}.', show_default=False
        ),
    ] = None,
) -> None:
    """Put mail into a scheduled queue. Its topic is created if it does not exist.

    Examples: `xferq inject mytenant@example.com mail.mbox`, `xferq inject example.net - < message.eml`
    """
    try:
        validate_queue_name(queue)
    except InvalidQueueName as error:
        raise typer.BadParameter(str(error), param_hint="QUEUE") from None
    if is_xfer(queue):
        note(f"note: {queue} is an xfer queue; a cancel can't restore what was not transferred to it")
    options = {"sender": sender, "recipients": recipient or (), "schedule": _schedule(schedule)}
    for text in (sender, *(recipient or ())):
        _require_text(text)
    missing = [path for path in paths if path != _STDIN and not Path(path).exists()]
    if missing:
        raise typer.BadParameter(f"{missing[0]} does not exist", param_hint="PATH")
    failed = asyncio.run(_inject(queue, paths, options))
    if failed:
        raise typer.Exit(1)


async def _inject(queue: str, paths: Iterable[str], options: dict[str, Any]) -> int:
    """How many messages could not be injected."""
    written = failed = 0
    async with open_kafka() as (kafka, _):
        try:
            async with await open_injector(kafka, queue) as injector:
                with progress() as bars:
                    task = bars.add_task(f"into {printable(queue)}", total=None)
                    for chunk in _chunks(_read(paths)):
                        messages = list(_messages(chunk, queue, injector, options, bars))
                        await injector.write(messages)
                        written += len(messages)
                        failed += len(chunk) - len(messages)
                        bars.update(task, completed=written)
        except XferqError:
            note(f"{_are(written, 'message')} in {queue}, before this failed:")
            raise
    print(f"{_are(written, 'message')} in {printable(queue)}" + (f", {_are(failed)} not" if failed else ""))
    return failed


def _are(count: int, what: str = "") -> str:
    name = f" {what}{'' if count == 1 else 's'}" if what else ""
    return f"{count}{name} {'is' if count == 1 else 'are'}"


def _read(paths: Iterable[str]) -> Iterator[Mail]:
    for path in paths:
        if path == _STDIN:
            yield Mail("standard input", sys.stdin.buffer.read())
        else:
            yield from read_all([Path(path)])


def _chunks(mails: Iterable[Mail]) -> Iterator[list[Mail]]:
    chunk: list[Mail] = []
    size = 0
    for mail in mails:
        chunk.append(mail)
        size += len(mail.data)
        if len(chunk) >= _MESSAGES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _messages(
    mails: Iterable[Mail], queue: str, injector: Injector, options: dict[str, Any], bars: Progress
) -> Iterator[Message]:
    for mail in mails:
        envelope = make_envelope(mail.data, queue, now=datetime.now(UTC), **options)
        message = Message(uuid.uuid4().hex, mail.data, dump_envelope(envelope))
        if injector.fits(message):
            yield message
        else:
            bars.console.print(
                f"{printable(mail.source)}: larger than the topic's max.message.bytes", markup=False, highlight=False
            )


def _schedule(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        schedule = orjson.loads(text)
        Schedule.parse(schedule)
        dump_envelope(schedule)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        raise typer.BadParameter("not valid JSON", param_hint="--schedule") from None
    except (InvalidSchedule, InvalidEnvelope) as error:
        raise typer.BadParameter(str(error), param_hint="--schedule") from None
    return dict(schedule)


def _require_text(text: str | None) -> None:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("an address is not valid UTF-8", param_hint="--sender or --recipient") from None
