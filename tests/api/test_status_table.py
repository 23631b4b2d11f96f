"""The list of `xferq status`: what fits on a narrow terminal, and what tells commands apart."""

import io
from datetime import UTC, datetime

import pytest

from api.cli.status_table import MIN_WIDTH, status_table, wants_colour
from api.models import EXAMPLE_STATUSES, CommandStatus

NOW = datetime(2026, 11, 24, 10, 0, 5, tzinfo=UTC)


def a_status(**changes: object) -> CommandStatus:
    return CommandStatus.model_validate(EXAMPLE_STATUSES[0] | changes)


def lines(*listed: CommandStatus, width: int = MIN_WIDTH, colour: bool = False) -> list[str]:
    return list(status_table(listed, NOW, width, colour=colour))


def test_what_it_shows() -> None:
    transfer = a_status(id="b" * 32, type="xfer.start", state="waiting", restored=0, returned=0)
    assert lines(a_status(), transfer, width=80) == [
        "ID        STATE    MOVED  BACK  AGE  WHAT",
        "6f1f6d1c  done     3,999     1   5s  cancel mx2.example.com",
        "bbbbbbbb  waiting      0     0   5s  transfer mx2.example.com",
    ]
    assert lines() == ["ID  STATE  MOVED  AGE  WHAT"]


def test_it_fits_into_60_columns() -> None:
    long = a_status(
        id="cancel-2026-11-24-at-ten-o-clock", queue_name="https://" + "x" * 500, restored=123_456_789, returned=987_654
    )
    for width in (0, 60, 80):
        found = lines(long, a_status(id=long.id[:-1]), width=width)
        assert max(map(len, found)) <= max(width, 60)
        assert found[1].endswith("...")
    assert "x" * 500 in lines(long, width=700)[1]


def test_ids_are_as_long_as_tells_them_apart() -> None:
    ids = ["cancel-2026-11-24", "cancel-2026-11-25", "6f1f6d1c8a554c3f9f0a6f3a8a3f4a0e"]
    assert [line.split()[0] for line in lines(*(a_status(id=id) for id in ids))[1:]] == [*ids[:2], ids[2][:17]]


@pytest.mark.parametrize(
    ("requested_at", "age"),
    [
        ("2026-11-24T10:00:05Z", "0s"),
        ("2026-11-24T10:00:59Z", "0s"),  # another machine's clock
        ("2026-11-24T09:59:06Z", "59s"),
        ("2026-11-24T09:59:05Z", "1m"),
        ("2026-11-24T09:00:05Z", "1h"),
        ("2026-11-23T10:00:05Z", "1d"),
        ("2025-11-24T10:00:05+01:00", "365d"),
        ("yesterday", "-"),
        (None, "-"),
    ],
)
def test_ages(requested_at: str | None, age: str) -> None:
    assert lines(a_status(requested_at=requested_at, returned=0))[1].split()[3] == age


@pytest.mark.parametrize(
    ("type", "queue_name", "what"),
    [
        ("xfer.cancel", "http://mx2.example.com/.xfer.kumomta.internal", "cancel mx2.example.com"),
        ("xfer.start", "https://mx2.example.com:8000/.xfer.kumomta.internal", "transfer mx2.example.com:8000"),
        ("xfer.start", "https://h/a?b.xfer.kumomta.internal", "transfer https://h/a?b"),
        ("xfer.later", "x.xfer.kumomta.internal", "xfer.later x"),
        ("xfer.cancel", "\x1b[2J.xfer.kumomta.internal", "cancel \\x1b[2J"),
        (None, None, "- -"),
    ],
)
def test_what_a_command_is_about(type: str | None, queue_name: str | None, what: str) -> None:
    assert lines(a_status(type=type, queue_name=queue_name), width=80)[1].endswith(f"5s  {what}")


def test_colours_take_no_room() -> None:
    plain, coloured = lines(a_status()), lines(a_status(), colour=True)
    assert coloured[1] == plain[1].replace("done ", "\x1b[32mdone \x1b[0m")


def test_who_wants_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert (wants_colour(Terminal()), wants_colour(io.StringIO())) == (True, False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
