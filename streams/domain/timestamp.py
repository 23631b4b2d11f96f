"""RFC 3339 times: read strictly, written in UTC with `Z`."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

MAX_TIME_LENGTH = 64
"""The longest text that is read as a time, in characters: bounds what a cache of them can hold."""

# datetime.fromisoformat reads all of this, and a good deal that is no RFC 3339 (week dates, no offset, ...).
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_SECONDS = slice(17, 19)


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
        return time.replace(microsecond=0) + timedelta(seconds=1) if leap else time
    except (ValueError, OverflowError):
        raise InvalidTime("not a time that exists, or out of range") from None


@lru_cache(maxsize=64)
def format_time(time: datetime) -> str:
    """The time (aware) in UTC with `Z`: whole seconds, or six digits after them where they are not whole."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
