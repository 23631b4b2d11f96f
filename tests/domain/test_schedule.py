from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.schedule import InvalidSchedule, Schedule, adjust
from streams.domain.timestamp import format_time, parse_time

from .strategies import DAY_NAMES, json_values, restrictions, schedules, times

EVERY_DAY = ",".join(DAY_NAMES)
OFFICE = {"dow": "Mon,Wed", "tz": "America/Phoenix", "start": "09:00:00", "end": "17:00:00"}
NEW_YORK = {"dow": EVERY_DAY, "tz": "America/New_York"}


def adjusted(schedule: dict[str, Any], now: str) -> str:
    return format_time(Schedule.parse(schedule).adjust(parse_time(now)))


def is_permitted(schedule: dict[str, Any], moment: datetime) -> bool:
    """By the clock on the wall; written without looking at how the schedule does it."""
    if "first_attempt" in schedule and moment < datetime.fromisoformat(schedule["first_attempt"]):
        return False
    if "dow" not in schedule:
        return True
    zone = ZoneInfo(schedule["tz"])
    local = moment.astimezone(zone)
    ends = [time.fromisoformat(schedule[end]) for end in ("start", "end")]
    for end in ends:
        # A moment that is one and the same in both directions exists once.
        naive = datetime.combine(local.date(), end)
        moments = {naive.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)}
        if len(moments) > 1:
            return False
    stamps = [datetime.combine(local.date(), end, zone).timestamp() for end in ends]
    return DAY_NAMES[local.weekday()] in schedule["dow"] and stamps[0] <= moment.timestamp() < stamps[1]


@given(schedules() | restrictions(), times, st.lists(st.floats(0, 1, exclude_max=True), max_size=20))
def test_due_is_the_first_permitted_moment(schedule: dict[str, Any], now: datetime, between: list[float]) -> None:
    due = Schedule.parse(schedule).adjust(now)
    assert due >= now
    assert due.tzinfo is UTC
    assert is_permitted(schedule, due)
    assert due == now or not is_permitted(schedule, due - timedelta(microseconds=1))
    for part in between:
        assert now + (due - now) * part == due or not is_permitted(schedule, now + (due - now) * part)


@given(restrictions(), times)
def test_what_is_permitted_stays(restriction: dict[str, Any], now: datetime) -> None:
    schedule = Schedule.parse(restriction)
    due = schedule.adjust(now)
    assert schedule.adjust(due) == due


@given(times)
def test_without_a_schedule_due_is_now(now: datetime) -> None:
    assert adjust(None, now) == now == Schedule.parse({}).adjust(now)
    assert adjust(Schedule.parse({"expires": "1999-01-01T00:00:00Z"}), now) == now


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-11-23T15:59:59Z", "2026-11-23T16:00:00Z"),
        ("2026-11-23T16:00:00Z", "2026-11-23T16:00:00Z"),
        ("2026-11-23T23:59:59.999999Z", "2026-11-23T23:59:59.999999Z"),
        ("2026-11-24T00:00:00Z", "2026-11-25T16:00:00Z"),
        ("2026-11-24T18:00:00Z", "2026-11-25T16:00:00Z"),
        ("2026-11-26T00:00:00Z", "2026-11-30T16:00:00Z"),
        # Monday in UTC, still Sunday in Phoenix.
        ("2026-11-23T06:59:00Z", "2026-11-23T16:00:00Z"),
    ],
)
def test_office_hours(now: str, due: str) -> None:
    assert adjusted(OFFICE, now) == due


@pytest.mark.parametrize(
    ("first_attempt", "due"),
    [
        ("2026-11-24T11:00:00+01:00", "2026-11-25T16:00:00Z"),
        ("2026-11-25T20:00:00Z", "2026-11-25T20:00:00Z"),
        ("2026-11-25T17:30:00-07:00", "2026-11-30T16:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-11-25T16:00:00Z"),
    ],
)
def test_not_before_the_first_attempt(first_attempt: str, due: str) -> None:
    assert adjusted(OFFICE | {"first_attempt": first_attempt}, "2026-11-24T10:00:00Z") == due


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        # New York: from 02:00 to 03:00 on March 8, back from 02:00 to 01:00 on November 1.
        # A start that does not exist: that day is left out.
        ({"start": "02:30:00", "end": "04:00:00"}, "2026-03-08T05:00:00Z", "2026-03-09T06:30:00Z"),
        # An end that does not exist.
        ({"start": "01:00:00", "end": "02:30:00"}, "2026-03-08T05:00:00Z", "2026-03-09T05:00:00Z"),
        # A start, an end that exists twice.
        ({"start": "01:30:00", "end": "04:00:00"}, "2026-11-01T04:00:00Z", "2026-11-02T06:30:00Z"),
        ({"start": "00:30:00", "end": "01:30:00"}, "2026-11-01T04:00:00Z", "2026-11-02T05:30:00Z"),
        # The change within the window: the day has one.
        ({"start": "01:00:00", "end": "04:00:00"}, "2026-03-08T07:10:00Z", "2026-03-08T07:10:00Z"),
        ({"start": "00:30:00", "end": "04:00:00"}, "2026-11-01T06:30:00Z", "2026-11-01T06:30:00Z"),
        # A day of 25 hours, of which 24 later is still the same one.
        ({"start": "00:30:00", "end": "00:45:00"}, "2026-11-01T20:00:00Z", "2026-11-02T05:30:00Z"),
        # A day of 23 hours, of which 24 later is the one after the next.
        ({"start": "23:30:00", "end": "23:45:00"}, "2026-03-08T04:50:00Z", "2026-03-09T03:30:00Z"),
        # Left out in the evening: the next day's window opens in its morning.
        ({"start": "02:30:00", "end": "04:00:00"}, "2026-03-08T22:00:00Z", "2026-03-09T06:30:00Z"),
        # The only day within a week is left out: the week after, never outside the window.
        (
            {"dow": "Sun", "start": "02:30:00", "end": "04:00:00"},
            "2026-03-01T12:00:00Z",
            "2026-03-15T06:30:00Z",
        ),
    ],
)
def test_when_the_clocks_change(schedule: dict[str, Any], now: str, due: str) -> None:
    assert adjusted(NEW_YORK | schedule, now) == due


def test_a_day_that_a_zone_skipped() -> None:
    # Samoa went from December 29 to 31, 2011, across the date line: there was no Friday.
    schedule = {"dow": "Fri", "tz": "Pacific/Apia", "start": "09:00:00", "end": "10:00:00"}
    assert adjusted(schedule, "2011-12-29T12:00:00Z") == "2012-01-05T19:00:00Z"


def test_an_empty_window_permits_its_start() -> None:
    schedule = OFFICE | {"end": "09:00:00"}
    assert adjusted(schedule, "2026-11-23T15:00:00Z") == "2026-11-23T16:00:00Z"
    assert adjusted(schedule, "2026-11-23T16:00:00Z") == "2026-11-25T16:00:00Z"


@pytest.mark.parametrize("zone", ["UTC", "America/Phoenix", "Pacific/Kiritimati"])
@pytest.mark.parametrize("first_attempt", ["9999-12-31T23:59:59Z", "9999-12-29T23:59:59Z"])
def test_no_permitted_time_before_the_calendar_ends(zone: str, first_attempt: str) -> None:
    day = {"dow": "Sun", "tz": zone, "start": "09:00:00", "end": "09:01:00"}
    schedule = Schedule.parse(day | {"first_attempt": first_attempt})
    with pytest.raises(InvalidSchedule, match="no time"):
        schedule.adjust(parse_time("2026-11-24T10:00:00Z"))


@pytest.mark.parametrize("dow", ["mon,WED", "Monday,wednesday", "Wed,Mon,Mon", "WEDNESDAY,Mon"])
@pytest.mark.parametrize(("start", "end"), [("9:00", "17:0:0"), ("09:00:00.250", "17:00:00.000000001")])
def test_other_ways_to_write_the_same_schedule(dow: str, start: str, end: str) -> None:
    schedule = OFFICE | {"dow": dow, "start": start, "end": end}
    for now in ("2026-11-23T10:00:00Z", "2026-11-24T00:00:00Z"):
        assert adjusted(schedule, now) == adjusted(OFFICE, now)


@pytest.mark.parametrize(
    ("schedule", "detail"),
    [
        ("Mon", "must be an object"),
        (["Mon"], "must be an object"),
        (None, "must be an object"),
        ({"days": "Mon"}, "unknown field"),
        (OFFICE | {"x": "y"}, "unknown field"),
        ({"dow": "Mon"}, "lacks tz, start, end"),
        ({"first_attempt": "09:00:00"}, "first_attempt"),
        ({"first_attempt": None}, "must be a string"),
        ({"expires": 5}, "must be a string"),
        ({"expires": "2026-11-24"}, "expires"),
        (OFFICE | {"dow": ""}, "day"),
        (OFFICE | {"dow": "Mon, Wed"}, "day"),
        (OFFICE | {"dow": "Mon,"}, "day"),
        (OFFICE | {"dow": "Wed,Sumday"}, "day"),
        (OFFICE | {"dow": "Mo"}, "day"),
        (OFFICE | {"dow": "Mond"}, "day"),
        (OFFICE | {"dow": ["Mon"]}, "must be a string"),
        (OFFICE | {"dow": None}, "must be a string"),
        (OFFICE | {"start": "17:00:01"}, "must not be after its end"),
        (OFFICE | {"start": "17:00:00.5"}, "must not be after its end"),
        (OFFICE | {"end": "24:00:00"}, "time of day"),
        (OFFICE | {"end": "17:60:00"}, "time of day"),
        (OFFICE | {"end": "17:00:60"}, "time of day"),
        (OFFICE | {"end": "17"}, "time of day"),
        (OFFICE | {"end": "17:00:00Z"}, "time of day"),
        (OFFICE | {"end": "17:00:00\n"}, "time of day"),
        (OFFICE | {"end": 61200}, "must be a string"),
    ],
)
def test_not_a_schedule(schedule: object, detail: str) -> None:
    with pytest.raises(InvalidSchedule, match=detail):
        Schedule.parse(schedule)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "../../../../../../etc/passwd",
        "/etc/localtime",
        "Europe",
        "Europe/",
        "./UTC",
        "America//Phoenix",
        "america/phoenix",
        " UTC",
        "UTC\n",
        "UTC\0",
        "\0",
        "\ud800",
        "Mars/Base",
        "a" * 100_000,
        "localtime",
        "posixrules",
        "right/UTC",
        "zone.tab",
        "tzdata.zi",
        "__init__.py",
    ],
)
def test_not_a_time_zone(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="not a known time zone"):
        Schedule.parse(OFFICE | {"tz": name})


@given(json_values | st.dictionaries(st.sampled_from([*OFFICE, "first_attempt", "expires"]), json_values))
def test_any_json_is_a_schedule_or_is_not(value: object) -> None:
    try:
        schedule = Schedule.parse(value)
    except InvalidSchedule:
        return
    now = parse_time("2026-11-24T10:00:00Z")
    assert schedule.adjust(now) >= now
