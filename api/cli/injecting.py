"""`xferq inject`: mail from files into a queue."""

import asyncio
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import typer
from rich.progress import Progress

from api.cli.kafka import open_kafka
from api.cli.output import note, progress
from api.injection import Injector, Message, open_injector
from api.mail.addresses import parse_address, parse_addresses
from api.mail.addressing import address_mail
from api.mail.envelope import make_envelope, postmaster_of
from api.mail.files import Found, LeftOut, Mail, NoMail, Place, read_path, read_stream
from streams.domain.envelope import dump_envelope
from streams.domain.queue_name import InvalidQueueName, is_xfer, validate_queue_name
from streams.domain.returned import InvalidEnvelope
from streams.domain.schedule import InvalidSchedule, Schedule
from streams.errors import Refused, XferqError
from streams.telemetry.logs import printable

_MESSAGES_AT_ONCE = 1_000
_BYTES_AT_ONCE = 8 << 20
_REMARKS_SHOWN = 20
_RATE_EVERY_S = 5.0
"""Where no terminal shows a bar."""
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
            help="An mbox, a maildir, a folder of .eml files, a file with one message; - for standard input.",
            show_default=False,
        ),
    ],
    sender: Annotated[
        str | None,
        typer.Option(
            help="The envelope's sender, an address or `Name <address>`; '' is the null sender. By default from "
            "Return-Path or else From.",
            show_default=False,
        ),
    ] = None,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            help="The envelope's recipient, likewise; may be given more than once. By default from To, or else Cc or "
            "Bcc. A message in whose headers of these names no address can be read is refused.",
            show_default=False,
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

    What can't be read as mail is named and does not stop the rest; the exit status is then 1. Drafts and trashed
    messages of a maildir, names that begin with a dot, what is empty, and files that were read by another name are left
    out and counted.

    Examples: `xferq inject mytenant@example.com mail.mbox`, `xferq inject example.net - < message.eml`
    """
    try:
        validate_queue_name(queue)
    except InvalidQueueName as error:
        raise typer.BadParameter(str(error), param_hint="QUEUE") from None
    options = _Options(
        queue=queue,
        sender=None if sender is None else _address(sender, "--sender") if sender.strip() not in ("", "<>") else "",
        recipients=[_address(text, "--recipient") for text in recipient or ()],
        schedule=_schedule(schedule),
    )
    _require_inputs(paths)
    if is_xfer(queue):
        note(f"note: {queue} is an xfer queue; a cancel can't restore what was not transferred to it")
    if not asyncio.run(_inject(options, paths)):
        raise typer.Exit(1)


class _Options(NamedTuple):
    queue: str
    sender: str | None
    recipients: Sequence[str]
    schedule: dict[str, Any] | None


class _Account:
    """What becomes of the mail, for the person who waits for it."""

    def __init__(self, queue: str, bars: Progress) -> None:
        self.written = 0
        self.failed = 0
        self.unaddressed = 0
        """Messages that name no recipient."""
        self._queue = printable(queue)
        self._bars = bars
        self._task = bars.add_task(f"into {self._queue}", total=None)
        self._left_out: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._remarks = 0
        self._began = self._said = time.monotonic()

    def refuse(self, source: str, why: str) -> None:
        """A message is not in the queue."""
        self.failed += 1
        note(f"{printable(source)} {why}")

    def leave_out(self, what: LeftOut) -> None:
        """Something is no mail to be sent."""
        self._left_out[what.what] += 1
        self._examples.setdefault(what.what, what.source)

    def remark(self, source: str, remark: str) -> None:
        """A message will be in the queue, though not quite as one might think."""
        self._remarks += 1
        if self._remarks <= _REMARKS_SHOWN:
            note(f"{printable(source)} {remark}")

    def write(self, count: int) -> None:
        """So many more messages are in the queue."""
        self.written += count
        self._bars.update(self._task, completed=self.written, description=f"into {self._queue}, {self._rate()}")
        if self._bars.disable and time.monotonic() - self._said > _RATE_EVERY_S:
            self._said = time.monotonic()
            note(f"{_are(self.written, 'message')} in {self._queue}, {self._rate()}")

    def close(self) -> None:
        """Say what there is to say in the end."""
        if self._remarks > _REMARKS_SHOWN:
            note(f"... {self._remarks - _REMARKS_SHOWN:,} more such remarks")
        if self.unaddressed:
            note(f"to the postmaster, as they name no recipient: {self.unaddressed:,}")
        for what, count in self._left_out.items():
            note(f"left out: {what}: {count:,}, such as {printable(self._examples[what])}")
        if self.written:
            note(f"it took {time.monotonic() - self._began:.1f} s: {self._rate()}")
        elif not self.failed:
            note("there is no message to be put into the queue")
        failed = f", {_are(self.failed)} not" if self.failed else ""
        print(f"{_are(self.written, 'message')} in {self._queue}{failed}")

    def _rate(self) -> str:
        return f"{self.written / max(time.monotonic() - self._began, 0.001):,.0f} messages/s"


async def _inject(options: _Options, paths: Iterable[str]) -> bool:
    """Whether there was mail, and all of it is in the queue."""
    async with AsyncExitStack() as stack:
        kafka, _ = await stack.enter_async_context(open_kafka())
        account = _Account(options.queue, stack.enter_context(progress()))
        injector = None
        try:
            for chunk in _chunks(_messages(paths, options, account)):
                if injector is None:  # what holds no mail makes no topic
                    injector = await stack.enter_async_context(await open_injector(kafka, options.queue))
                messages = list(_fitting(chunk, injector, account))
                await injector.write(messages)
                account.write(len(messages))
        except XferqError:
            note(f"{_are(account.written, 'message')} in {options.queue}, before this failed:")
            raise
    account.close()
    return account.written > 0 and not account.failed


def _fitting(chunk: Iterable[tuple[str, Message]], injector: Injector, account: _Account) -> Iterator[Message]:
    for source, message in chunk:
        if (why := injector.excess(message)) is None:
            yield message
        else:
            account.refuse(source, why)


def _are(count: int, what: str = "") -> str:
    name = f" {what}{'' if count == 1 else 's'}" if what else ""
    return f"{count}{name} {'is' if count == 1 else 'are'}"


def _messages(paths: Iterable[str], options: _Options, account: _Account) -> Iterator[tuple[str, Message]]:
    """The mail of all paths with its envelopes, each with where it comes from."""
    postmaster = postmaster_of(options.queue)
    read: set[Place] = set()
    for found in (found for path in paths for found in _read(path, read)):
        if isinstance(found, NoMail):
            account.refuse(found.source, found.why)
        elif isinstance(found, LeftOut):
            account.leave_out(found)
        else:
            try:
                yield found.source, _message(found, options, postmaster, account)
            except Refused as error:
                account.refuse(found.source, str(error))


def _message(mail: Mail, options: _Options, postmaster: str, account: _Account) -> Message:
    to = address_mail(mail.data, postmaster=postmaster, sender=options.sender, recipients=options.recipients)
    for remark in to.remarks:
        account.remark(mail.source, remark)
    account.unaddressed += to.is_unaddressed
    envelope = make_envelope(options.queue, to.sender, to.recipients, now=datetime.now(UTC), schedule=options.schedule)
    return Message(uuid.uuid4().hex, mail.data, dump_envelope(envelope))


def _read(path: str, read: set[Place]) -> Iterator[Found]:
    if path != _STDIN:
        yield from read_path(Path(path), read)
    elif sys.stdin is None:
        yield NoMail("standard input", "is closed")
    else:
        try:
            yield from read_stream(sys.stdin.buffer, "standard input")
        except OSError as error:
            yield NoMail("standard input", f"can't be read: {error.strerror or error}")


def _chunks(messages: Iterable[tuple[str, Message]]) -> Iterator[list[tuple[str, Message]]]:
    chunk: list[tuple[str, Message]] = []
    size = 0
    for source, message in messages:
        chunk.append((source, message))
        size += len(message.data)
        if len(chunk) >= _MESSAGES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _require_inputs(paths: Sequence[str]) -> None:
    """Each is there, and none is named twice: a pipe gives nothing a second time, and nobody wants mail twice."""
    named: dict[tuple[int, int], str] = {}
    for path in paths:
        try:
            status = os.fstat(0) if path == _STDIN else os.stat(path)
        except OSError as error:
            if path == _STDIN:
                continue
            raise typer.BadParameter(f"{path}: {error.strerror or error}", param_hint="PATH") from None
        place = (status.st_dev, status.st_ino)
        if place in named:
            raise typer.BadParameter(f"{named[place]} and {path} are the same input", param_hint="PATH")
        named[place] = path


def _address(text: str, option: str) -> str:
    address = parse_address(text)
    if address is None:
        several = len(parse_addresses(text).found) > 1
        what = "several addresses: give the option once for each" if several else "no address, nor `Name <address>`"
        raise typer.BadParameter(f"{text!a} is {what}", param_hint=option)
    return address


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
