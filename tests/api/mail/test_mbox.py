"""An mbox gives back the messages that were put into it, in whatever pieces it comes."""

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.mail import mbox
from api.mail.mbox import Mbox

_LINES = st.sampled_from(
    [
        b"",
        b"x",
        b"From here on we are closed",
        b">From there",
        b"From",
        b"From ",
        b"Subject: x",
        b"\xff\x00",
        b"\r",
        b"Mon",
    ]
)
_BODIES = st.lists(_LINES, max_size=6)
_FROMS = st.sampled_from(
    [b"From a@b Thu Nov 26 10:00:00 2026", b"From - Thu Nov 26 10:00:00 2026", b"From MAILER-DAEMON"]
)


def quoted(line: bytes) -> bytes:
    """As mboxrd has it, where a reader could take it for a separator."""
    return b">" + line if line in (b"From", b"From ") else line


def boxed(messages: Sequence[Sequence[bytes]], froms: Sequence[bytes], end: bytes) -> tuple[bytes, list[bytes]]:
    """An mbox, and the messages in it."""
    wanted = [end.join([b"To: a@b", b"", *map(quoted, lines)]) + end for lines in messages]
    return b"".join(line + end + message + end for line, message in zip(froms, wanted, strict=False)), wanted


class Dribble(io.RawIOBase):
    """Gives a few bytes at a time, and can't be sought in: a pipe."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._size if size < 0 else min(size, self._size))


@given(st.lists(_BODIES, min_size=1, max_size=4), st.data(), st.sampled_from([b"\n", b"\r\n"]), st.integers(1, 5_000))
def test_what_was_put_in_comes_out(bodies: list[list[bytes]], data: st.DataObject, end: bytes, size: int) -> None:
    froms = data.draw(st.lists(_FROMS, min_size=len(bodies), max_size=len(bodies)))
    file, wanted = boxed(bodies, froms, end)
    assert list(Mbox(Dribble(file, size)).messages()) == wanted  # type: ignore[arg-type]
    for cut in (5, len(file) // 2):
        assert list(Mbox(Dribble(file[cut:], size), file[:cut]).messages()) == wanted  # type: ignore[arg-type]


@given(
    st.binary(max_size=400) | st.lists(st.sampled_from([b"From a\n", b"\n", b"A: b\n", b"\r\n", b"x"])).map(b"".join)
)
def test_every_message_is_a_piece_of_the_file_behind_the_one_before(data: bytes) -> None:
    file = b"From a\n" + data
    at = 0
    for message in Mbox(io.BytesIO(file)).messages():
        assert message is not None
        at = file.index(message, at) + len(message)


def test_as_many_headers_without_an_end_as_anybody_writes() -> None:
    file = b"From a Thu Nov 26 10:00:00 2026\nTo: a@b\n" * 30_000
    assert list(Mbox(io.BytesIO(file)).messages()) == [b"To: a@b\n"] * 30_000


def test_one_that_is_too_large_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox, "MOST_BYTES", 3 << 20)
    large = b"From a\nTo: a@b\n\n" + b"line\n" * (1 << 20) + b"\n"
    small = b"From b Thu Nov 26 10:00:00 2026\nTo: c@d\n\nsmall\n\n"
    found = list(Mbox(io.BytesIO(large + small + large)).messages())
    assert found == [None, b"To: c@d\n\nsmall\n", None]


def test_what_has_no_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox, "MOST_BYTES", 1 << 20)
    box = Mbox(io.BytesIO(b"From a\n" + b"\0" * (40 << 20)))
    most = 0
    fill = box._fill

    def watched(size: int) -> bool:
        nonlocal most
        filled = fill(size)
        most = max(most, len(box._buffer))
        return filled

    monkeypatch.setattr(box, "_fill", watched)
    assert list(box.messages()) == [None]
    assert most < 4 << 20
