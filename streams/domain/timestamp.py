"""RFC 3339 times: read strictly, written in UTC with `Z`."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

MAX_TIME_LENGTH = 64
"""The longest text that is read as a time, in characters: bounds what a cache of them can hold."""

TIME_OPTION = orjson.OPT_UTC_Z
"""With this, orjson writes a datetime in UTC as `format_time` does."""

# datetime.fromisoformat reads all of this, and a good deal that is no RFC 3339 (week dates, no offset, ...).
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
TIME_SCHEMA: dict[str, Any] = {
    "format": "date-time",
    "maxLength": MAX_TIME_LENGTH,
    "pattern": f"^{_RFC3339.pattern}$",
}
"""What JSON Schema can say of a time that is read; that there is such a day it can't."""

_SECONDS = slice(17, 19)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_SECONDS_A_DAY = 86400


class InvalidTime(ValueError):
    """The text is not an RFC 3339 time between the years 1 and 9999 (in UTC)."""


def parse_time(text: str) -> datetime:
    """The time, aware and in UTC; digits beyond microseconds are dropped.

    `T`, `t` or a space stand between date and time, as RFC 3339 and chrono have it. A leap second (`:60`) is
    the first moment of the next minute, which is also how POSIX counts it.

    Raises:
        InvalidTime: the text is not such a time.
    """
    match = _RFC3339.fullmatch(text) if len(text) <= MAX_TIME_LENGTH else None
    if match is None:
        raise InvalidTime("not an RFC 3339 time")
    leap = match[1] == "60"
    if leap:
        text = f"{text[: _SECONDS.start]}59{text[_SECONDS.stop :]}"
    try:
        # Only the upper-case Z is known to fromisoformat.
        time = datetime.fromisoformat(text.upper()).astimezone(UTC)
        return time.replace(microsecond=0) + _SECOND if leap else time
    except (ValueError, OverflowError):
        raise InvalidTime("not a time that exists, or out of range") from None


@lru_cache(maxsize=16384)
def known_time(text: str) -> datetime:
    """`parse_time` for texts that are asked about more than once: a message's, while it is worked on.

    Raises:
        InvalidTime: the text is not such a time.
    """
    return parse_time(text)


@lru_cache(maxsize=64)
def format_time(time: datetime) -> str:
    """The time (aware) in UTC with `Z`: whole seconds, or six digits after them where they are not whole."""
    # A fifth of what isoformat takes; TIME_OPTION makes orjson write a time in a record just the same.
    return orjson.dumps(time.astimezone(UTC), option=TIME_OPTION)[1:-1].decode()


def unix_seconds(time: datetime) -> int:
    """Whole seconds since 1970 (negative before); what is below a second is cut off towards the past."""
    since = time - _EPOCH
    return since.days * _SECONDS_A_DAY + since.seconds
