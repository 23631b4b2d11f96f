"""Mail from files, and the envelopes that make queued messages of it."""

import email
import email.policy
import mailbox
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.utils import getaddresses
from pathlib import Path
from typing import Any

from streams.domain.envelope import Envelope, queue_of_envelope
from streams.domain.queue_name import QueueName
from streams.domain.returned import NotRestorable
from streams.domain.timestamp import format_time
from streams.errors import Refused

_FROM_LINE = b"From "


@dataclass(frozen=True, slots=True)
class Mail:
    """One message: its bytes as they are, and where they come from, for people."""

    source: str
    data: bytes


def read_mail(path: Path) -> Iterator[Mail]:
    """The messages of a file or folder: an mbox, a maildir, a folder of .eml files, or one message.

    A file is an mbox if it begins with `From `; any other file is one message. Empty ones are left out.

    Raises:
        Refused: it can't be read, or a folder holds no mail.
    """
    try:
        if path.is_dir():
            yield from _read_folder(path)
        elif _is_mbox(path):
            yield from _read_mailbox(path, mailbox.mbox(path, create=False))
        else:
            data = path.read_bytes()
            if data:
                yield Mail(str(path), data)
    except OSError as error:
        raise Refused(f"{error.filename or path}: {error.strerror or error}") from error
    except mailbox.Error as error:
        raise Refused(f"{path}: not a mailbox that can be read: {error}") from error


def make_envelope(
    data: bytes,
    queue: str,
    *,
    now: datetime,
    sender: str | None = None,
    recipients: Sequence[str] = (),
    schedule: Mapping[str, Any] | None = None,
    num_attempts: int = 0,
) -> Envelope:
    """The envelope of a message that has just been received for a scheduled queue.

    The metadata carries tenant, campaign and routing domain as the queue's name has them; `queue` only where
    the name would not follow from those and the first recipient.

    Args:
        data: the message; Return-Path or From and To fill in what is not given.
        sender: the envelope's; may be empty, for the null sender.
    """
    name = QueueName.parse(queue)
    headers = _headers(data)
    if sender is None:
        sender = _sender(headers)
    to = list(recipients) or _addresses(headers, "To") or [f"postmaster@{_as_domain(name.domain)}"]
    meta = {"tenant": name.tenant, "campaign": name.campaign, "routing_domain": name.routing_domain}
    envelope: Envelope = {
        "sender": sender,
        "recipient": to[0] if len(to) == 1 else to,
        "meta": {key: value for key, value in meta.items() if value is not None},
        "num_attempts": num_attempts,
        "created": format_time(now),
        "due": None,
        "schedule": None if schedule is None else dict(schedule),
    }
    if _own_queue(envelope) != queue:
        envelope["meta"]["queue"] = queue
    return envelope


def _read_folder(folder: Path) -> Iterator[Mail]:
    if (folder / "cur").is_dir() or (folder / "new").is_dir():
        for part in ("tmp", "new", "cur"):  # what a mailbox without one of them would stumble over
            if not (folder / part).is_dir():
                raise Refused(f"{folder}: a maildir without the folder {part}")
        yield from _read_mailbox(folder, mailbox.Maildir(folder, create=False))
        return
    files = sorted(path for path in folder.rglob("*.eml") if path.is_file())
    if not files:
        raise Refused(f"{folder}: neither a maildir nor a folder with .eml files")
    for file in files:
        data = file.read_bytes()
        if data:
            yield Mail(str(file), data)


def _read_mailbox(path: Path, box: "mailbox.Mailbox[Any]") -> Iterator[Mail]:
    try:
        for number, key in enumerate(box.iterkeys(), 1):
            data = box.get_bytes(key)
            if data:
                yield Mail(f"{path}, message {number}", data)
    finally:
        box.close()


def _is_mbox(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_FROM_LINE)) == _FROM_LINE


def _headers(data: bytes) -> Message:
    end = min((data.find(blank) for blank in (b"\n\n", b"\r\n\r\n") if blank in data), default=len(data))
    return email.message_from_bytes(data[:end] + b"\n\n", policy=email.policy.compat32)


def _sender(headers: Message) -> str:
    return_path = _text(headers.get("Return-Path"))
    if return_path.strip() == "<>":
        return ""
    return next(iter(_addresses(headers, "Return-Path") or _addresses(headers, "From")), "")


def _addresses(headers: Message, name: str) -> list[str]:
    """The addresses in a header that an envelope can carry, each once."""
    values = [_text(value) for value in headers.get_all(name, [])]
    found = dict.fromkeys(address for _, address in getaddresses(values) if _is_address(address))
    return list(found)


def _is_address(address: str) -> bool:
    local, at, domain = address.rpartition("@")
    return bool(local and at and domain) and address.isprintable() and " " not in address


def _text(value: object) -> str:
    """A header as text; bytes that are not UTF-8 become question marks."""
    return str(value or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _as_domain(text: str) -> str:
    return text if text and _is_address(f"postmaster@{text}") and "/" not in text else "localhost"


def _own_queue(envelope: Envelope) -> str | None:
    try:
        return queue_of_envelope(envelope)
    except NotRestorable:
        return None


def read_all(paths: Iterable[Path]) -> Iterator[Mail]:
    """The messages of several files or folders, one after the other. Raises as `read_mail`."""
    for path in paths:
        yield from read_mail(path)
