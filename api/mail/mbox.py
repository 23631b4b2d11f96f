"""The messages of an mbox, in one pass: what is read may be a pipe, and larger than the memory.

All four kinds are read, as no file says which it is. mboxo and mboxrd put a `>` before lines of a body that begin with
`From `: it stays, as nothing says whether the message had it before. mboxcl and mboxcl2 have `Content-Length`: it is
believed where the next message, or the end of the file, is found behind so many bytes.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from streams.domain.mail_headers import HEADERS_END, HeaderNames

MOST_BYTES = 128 << 20
"""Of one message: it is held in memory, and Kafka takes none as large by far."""

FROM = b"From "
_AT_ONCE = 1 << 20
_FROM_LINE_BYTES = 2_048
"""A line that begins a message has fewer, with the beginning of the header behind it."""

# A line of a body may begin with `From `, too. One that begins a message is followed by a header, and has a date and a
# time as ctime() writes them, or stands behind an empty line and has but an address, and perhaps some date.
_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? "
_DATED = (
    rb"(?:[^\r\n]{0,320} )?%b *(?:[A-Z][a-z]{2} +\d{1,2}|\d{1,2} +[A-Z][a-z]{2})"
    rb"(?: +\d{4})? +\d{1,2}:\d\d(?::\d\d)?(?: [^\r\n]{0,100})?" % _DAY
)
_BARE = rb"(?:(?<=\n\nFrom )|(?<=\n\r\nFrom ))[^ \r\n]{0,320}[ \t]*(?:%b[^\r\n]{0,100})?" % _DAY
_NEXT = re.compile(rb"\nFrom (?!:)(?:%b|%b)\r?\n(?:>?From |[!-9;-~]{1,100}[ \t]*:)" % (_DATED, _BARE))
_HEADERS_OR_NEXT = re.compile(rb"(?:%b)|(?P<next>%b)" % (HEADERS_END.pattern, _NEXT.pattern))
"""What comes first: where headers have no end, the next message has."""
_FROM_LINE = re.compile(rb"(?:\r?\n)*(From [^\n]*(?:\n|\Z))?")
_LENGTH = HeaderNames(["Content-Length"])
_HEADERS_BYTES = 256 << 10


class Mbox:
    """Reads the messages of an mbox from a file that is open, and need not be one that can be sought in."""

    def __init__(self, file: BinaryIO, head: bytes = b"") -> None:
        """Of this file, from which `head` has been read already."""
        self._file = file
        self._buffer = bytearray(head)
        self._is_read = False

    def messages(self) -> Iterator[bytes | None]:
        """Byte for byte, without the line `From ` and the blank line at the end; None for one that is too large.

        Raises:
            OSError: reading failed.
        """
        while self._begins():
            end = self._end_by_length()
            if end is not None:
                yield self._take(end)
                continue
            end, is_whole = self._end_by_next()
            message = self._take(end)
            yield _without_last_line(message) if is_whole else None

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self, size: int) -> bool:
        """Have so many bytes in the buffer; whether there are."""
        while len(self._buffer) < size and not self._is_read:
            more = self._file.read(max(_AT_ONCE, size - len(self._buffer)))
            self._buffer += more
            self._is_read = not more
        return len(self._buffer) >= size

    def _begins(self) -> bool:
        """Pass over the line that begins a message, if there is one."""
        self._fill(_FROM_LINE_BYTES)
        line = _FROM_LINE.match(self._buffer)
        if line is None:
            return False
        self._take(line.end())
        return line.group(1) is not None or self._fill(1)

    def _end_by_length(self) -> int | None:
        """Where the message ends by its Content-Length; None where it has none, or another message is there."""
        self._fill(_HEADERS_BYTES)
        head = _HEADERS_OR_NEXT.search(self._buffer, 0, _HEADERS_BYTES)
        if head is None or head["next"]:
            return None
        lengths = [value.strip() for _, value in _LENGTH.fields(bytes(self._buffer[: head.end()]))]
        if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 9:
            return None
        end = head.end() + int(lengths[0])
        if end > MOST_BYTES:
            return None
        self._fill(end + _FROM_LINE_BYTES)
        behind = self._buffer[end - 1 : end + _FROM_LINE_BYTES]
        rest = behind[1:].lstrip(b"\r\n")
        is_end = end <= len(self._buffer) and (not rest or (b"\n" in behind[:3] and _NEXT.match(b"\n\n" + rest, 1)))
        return end if is_end else None

    def _end_by_next(self) -> tuple[int, bool]:
        """Where the message ends as the next one begins, or the file ends; whether all of it is still there."""
        is_whole, seen = True, 0
        while True:
            begins = _NEXT.search(self._buffer, seen)
            if begins or self._is_read:
                return (begins.start() + 1 if begins else len(self._buffer)), is_whole
            seen = max(0, len(self._buffer) - _FROM_LINE_BYTES)
            if len(self._buffer) > MOST_BYTES:
                is_whole = False
            if not is_whole:
                del self._buffer[:seen]
                seen = 0
            self._fill(len(self._buffer) + _AT_ONCE)


def _without_last_line(message: bytes) -> bytes:
    """Without the blank line that an mbox has behind each message, if it isn't the one that ends the headers."""
    for end in (b"\r\n", b"\n"):
        if message.endswith(b"\n" + end):
            rest = message.removesuffix(end)
            return rest if HEADERS_END.search(rest) else message
    return message
