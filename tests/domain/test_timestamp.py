from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.timestamp import (
    TIME_OPTION,
    InvalidTime,
    format_time,
    known_time,
    parse_time,
    unix_seconds,
)

from .strategies import texts

aware = st.datetimes(timezones=st.timedeltas(-timedelta(hours=23), timedelta(hours=23)).map(timezone)).filter(
    lambda time: 1 < time.year < 9999
)


@given(aware)
def test_what_is_written_is_read_back(time: datetime) -> None:
    text = format_time(time)
    assert parse_time(text) == time
    assert parse_time(text).tzinfo is UTC
    assert text.endswith("Z")
    assert ("." in text) == (time.astimezone(UTC).microsecond != 0)
    assert orjson.loads(orjson.dumps(time.astimezone(UTC), option=TIME_OPTION)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-24t10:00:00z", "2026-11-24T10:00:00Z"),
        ("2026-11-24 10:00:00+00:00", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00:00-00:00", "2026-11-24T10:00:00Z"),
        ("2026-11-24T03:00:00-07:00", "2026-11-24T10:00:00Z"),
        ("2026-11-25T00:30:00+14:30", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00:00.5Z", "2026-11-24T10:00:00.500000Z"),
        ("2026-11-24T10:00:00.1234567899999Z", "2026-11-24T10:00:00.123456Z"),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z"),
        ("2026-12-31T23:59:60.75Z", "2027-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_other_ways_to_write_the_same_time(text: str, same: str) -> None:
    assert format_time(parse_time(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-24",
        "2026-11-24T10:00:00",
        "2026-11-24T10:00Z",
        "2026-11-24T10:00:00.Z",
        "2026-11-24T10:00:00,5Z",
        "2026-11-24T10:00:00+0700",
        "2026-11-24T10:00:00+07",
        "2026-11-24T10:00:00+24:00",
        "2026-11-24T10:00:00+07:60",
        "2026-11-24T10:00:00 Z",
        " 2026-11-24T10:00:00Z",
        "2026-11-24T10:00:00Z\n",
        "2026-W48-2T10:00:00Z",
        "20261124T100000Z",
        "2026-11-24_10:00:00Z",
        "2026-02-29T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T10:60:00Z",
        "2026-11-24T10:00:61Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59-01:00",
        "\uff12\uff10\uff12\uff16-11-24T10:00:00Z",
        "\ud800026-11-24T10:00:00Z",
        "2026-11-24T10:00:00." + "0" * 60 + "Z",
    ],
)
def test_not_a_time(text: str) -> None:
    with pytest.raises(InvalidTime):
        parse_time(text)
    with pytest.raises(InvalidTime):
        known_time(text)


@given(texts | st.text("0123456789-:.TtZz+ ", max_size=40))
def test_any_text_is_a_time_or_is_not(text: str) -> None:
    try:
        time = parse_time(text)
    except InvalidTime:
        return
    assert parse_time(format_time(time)) == time == known_time(text)


@given(st.integers(-62135596800, 253402300799), st.integers(0, 999999))
def test_seconds_are_cut_off_towards_the_past(seconds: int, microseconds: int) -> None:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=microseconds)
    assert unix_seconds(time) == seconds
