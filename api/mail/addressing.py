"""Who a message is from and for, as its envelope says: as it is asked for, or else as its headers say."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from api.mail.addresses import parse_addresses
from streams.domain.mail_headers import HeaderNames, unfolded
from streams.errors import Refused

_SHOWN = 80
_SENDERS = ("Return-Path", "From")
_RECIPIENTS = ("To", "Cc", "Bcc")
_HEADERS = HeaderNames((*_SENDERS, *_RECIPIENTS))


class Addressing(NamedTuple):
    """An envelope's sender, which may be empty, and its recipients; what had to be guessed or left out, for people.

    `is_unaddressed` where the message names no recipient at all.
    """

    sender: str
    recipients: list[str]
    remarks: list[str]
    is_unaddressed: bool = False


def address_mail(
    data: bytes, *, postmaster: str, sender: str | None = None, recipients: Sequence[str] = ()
) -> Addressing:
    """Who a message is from and for.

    Args:
        data: the message. Return-Path has the sender or, where there is none, From; To or else Cc or else Bcc has the
            recipients.
        postmaster: who gets it where it has no header with recipients at all.
        sender: instead of what the headers say; may be empty, for the null sender.
        recipients: likewise.

    Raises:
        Refused: it has such headers, and no address can be read in them.
    """
    values: dict[str, list[str]] = defaultdict(list)
    for name, value in _HEADERS.fields(data):
        values[name.title()].append(unfolded(value))
    # Each stop puts its own Return-Path above those of earlier ones.
    fields = {name: found[0] if name == "Return-Path" else ", ".join(found) for name, found in values.items()}
    remarks: list[str] = []
    if sender is None:
        sender = _sender(fields, remarks)
    is_unaddressed = not recipients and not any(name in fields for name in _RECIPIENTS)
    found = list(recipients) or _recipients(fields, postmaster, remarks)
    return Addressing(sender, found, remarks, is_unaddressed)


def _sender(fields: dict[str, str], remarks: list[str]) -> str:
    name = next((name for name in _SENDERS if name in fields), "")
    if found := parse_addresses(fields.get(name, "")).found:
        return found[0]
    # Not From where a Return-Path says nothing: a report about a report would have no end (RFC 5321, 4.5.5).
    if name == "Return-Path" and fields[name].replace(" ", "") == "<>":
        return ""
    remarks.append("has no sender that can be read: the null sender")
    return ""


def _recipients(fields: dict[str, str], postmaster: str, remarks: list[str]) -> list[str]:
    named = [name for name in _RECIPIENTS if name in fields]
    for name in named:
        found, unreadable = parse_addresses(fields[name])
        if found:
            remarks += [f"does not go to {text[:_SHOWN]!a}, which is no address" for text in unreadable]
            return found
    if named:
        raise Refused(f"has no recipient that can be read in {', '.join(named)}; --recipient names one")
    remarks.append(f"names no recipient: to {postmaster}")
    return [postmaster]
