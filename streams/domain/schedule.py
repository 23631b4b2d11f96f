"""When a message may be sent: days and hours in a time zone, a first attempt, an expiry.

As KumoMTA has it (crates/message/src/scheduling.rs), with two differences, both where its arithmetic leaves
the window (see `Schedule.adjust`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import orjson

from streams.domain.timestamp import InvalidTime, format_time, parse_time

DAYS_TRIED = 8
"""KumoMTA looks at today and the 7 days after it."""

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY_NUMBER = {text: number for number, day in enumerate(_DAYS) for text in (day, day[:3])}
LOCAL_TIME = re.compile(r"([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:\.([0-9]{1,9}))?)?")
RESTRICTION = ("dow", "tz", "start", "end")
_MAX_CACHED_BYTES = 1024
_Result = TypeVar("_Result")


class InvalidSchedule(ValueError):
    """The value is not a schedule, or one that never permits anything."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """The permitted hours: on `days` (0: Monday), from `start` (inclusive) to `end` (exclusive) in `zone`."""

    days: frozenset[int]
    zone: ZoneInfo
    start: time
    end: time

    def window_on(self, day: date) -> tuple[datetime, datetime] | None:
        """That day's window in UTC; None on a day that is not allowed.

        None also where one of its ends does not exist in the zone or exists twice.
        """
        if day.weekday() not in self.days:
            return None
        start, end = self._moment(day, self.start), self._moment(day, self.end)
        return None if start is None or end is None else (start, end)

    def _moment(self, day: date, at: time) -> datetime | None:
        # KumoMTA leaves out what is below a second here.
        early = datetime.combine(day, at.replace(microsecond=0), self.zone)
        # PEP 495: the two folds differ in a gap as well as where the time is ambiguous.
        if early.utcoffset() != early.replace(fold=1).utcoffset():
            return None
        return early.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A message's scheduling information; times are aware and in UTC, None is no limit."""

    restriction: Restriction | None = None
    first_attempt: datetime | None = None
    expires: datetime | None = None

    @classmethod
    def parse(cls, value: object) -> "Schedule":
        """The schedule in a JSON value.

        Raises:
            InvalidSchedule: it is not an object, has an unknown field, one that is not valid (null included),
                only a part of the restriction, or a start after its end.
        """
        if not isinstance(value, Mapping):
            raise InvalidSchedule("a schedule must be an object")
        for field in value:
            if field not in (*RESTRICTION, "first_attempt", "expires"):
                raise InvalidSchedule("a schedule has an unknown field")
            if not isinstance(value[field], str):
                raise InvalidSchedule(f"{field} of a schedule must be a string")
        missing = [field for field in RESTRICTION if field not in value]
        if missing and len(missing) < len(RESTRICTION):
            raise InvalidSchedule(f"a schedule restricts days and hours but lacks {', '.join(missing)}")
        return cls(
            restriction=None if missing else _restriction(value),
            first_attempt=_moment_in(value, "first_attempt"),
            expires=_moment_in(value, "expires"),
        )

    def adjust(self, now: datetime) -> datetime:
        """The first moment that is permitted and not before `now` (aware); in UTC.

        Where start and end are the same, that moment still is permitted, as in KumoMTA. Unlike there, days
        are counted by the calendar and not by adding 24 hours, which misses the window of a day that a
        change of the clocks has made longer or shorter; and where none of the 8 days has a window (its one
        day of the week is skipped because of such a change), the week after is looked at too, rather than
        the message sent at a time that is not permitted.

        Raises:
            InvalidSchedule: there is none before the year 10000.
        """
        moment = now.astimezone(UTC)
        if self.first_attempt is not None and moment < self.first_attempt:
            moment = self.first_attempt
        if self.restriction is None:
            return moment
        try:
            today = moment.astimezone(self.restriction.zone).date()
            for ahead in range(DAYS_TRIED + 7):
                window = self.restriction.window_on(today + timedelta(days=ahead))
                if window is not None and moment < window[0]:
                    return window[0]
                if window is not None and moment < window[1]:
                    return moment
        except OverflowError:
            pass
        raise InvalidSchedule("a schedule permits no time")


def adjust(schedule: Schedule | None, now: datetime) -> datetime:
    """`now` (aware) moved forward to the first moment that the schedule permits, if there is one; in UTC.

    Raises:
        InvalidSchedule: the schedule permits no time before the year 10000.
    """
    return now.astimezone(UTC) if schedule is None else schedule.adjust(now)


def json_of(schedule: object) -> bytes:
    """The schedule's JSON.

    Raises:
        InvalidSchedule: it is nested more deeply than orjson writes.
    """
    try:
        return orjson.dumps(schedule)
    except orjson.JSONEncodeError:
        raise InvalidSchedule("a schedule is nested too deeply") from None


def due_by(schedule: bytes, now: datetime) -> str:
    """When a message with this schedule is due that is restored now (aware).

    Args:
        schedule: JSON as orjson writes it.

    Raises:
        InvalidSchedule: it is no schedule, or permits no time.
    """
    return _cached(_due_of_json, schedule, now)


def require_schedule(schedule: bytes) -> None:
    """See that this JSON, as orjson writes it, is a schedule.

    Raises:
        InvalidSchedule: it is none.
    """
    _cached(_parse_schedule, schedule)


def _cached(function: "Callable[..., _Result]", key: bytes, *args: object) -> _Result:
    """Calls a function that is cached by the schedule's JSON, past the cache where that would fill memory."""
    if len(key) <= _MAX_CACHED_BYTES:
        return function(key, *args)
    uncached: Callable[..., _Result] = getattr(function, "__wrapped__")  # noqa: B009 (no attribute of Callable)
    return uncached(key, *args)


@lru_cache(maxsize=4096)
def _parse_schedule(key: bytes) -> Schedule:
    return Schedule.parse(orjson.loads(key))


@lru_cache(maxsize=4096)
def _due_of_json(key: bytes, now: datetime) -> str:
    return format_time(Schedule.parse(orjson.loads(key)).adjust(now))


def _restriction(value: Mapping[str, Any]) -> Restriction:
    start, end = _local_time(value, "start"), _local_time(value, "end")
    if start > end:
        raise InvalidSchedule("start of a schedule must not be after its end")
    return Restriction(days=_days(value["dow"]), zone=_zone(value["tz"]), start=start, end=end)


def _days(text: str) -> frozenset[int]:
    days = {DAY_NUMBER.get(day.lower() if day.isascii() else day) for day in text.split(",")}
    if None in days:
        raise InvalidSchedule("dow of a schedule has an unknown day")
    return frozenset(day for day in days if day is not None)


def _zone(name: str) -> ZoneInfo:
    # Only names of the tz database: what else ZoneInfo finds in its folders differs between machines.
    if name not in _zone_names():
        raise InvalidSchedule("tz of a schedule is not a known time zone")
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError):
        raise InvalidSchedule("tz of a schedule is not a known time zone") from None


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def _local_time(value: Mapping[str, Any], field: str) -> time:
    match = LOCAL_TIME.fullmatch(value[field])
    if match is None:
        raise InvalidSchedule(f"{field} of a schedule is not a time of day")
    hour, minute, second, fraction = match.groups(default="0")
    try:
        return time(int(hour), int(minute), int(second), int(fraction.ljust(6, "0")[:6]))
    except ValueError:
        raise InvalidSchedule(f"{field} of a schedule is not a time of day") from None


def _moment_in(value: Mapping[str, Any], field: str) -> datetime | None:
    if field not in value:
        return None
    try:
        return parse_time(value[field])
    except InvalidTime as error:
        raise InvalidSchedule(f"{field} of a schedule is {error}") from None
