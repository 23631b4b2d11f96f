"""How an envelope must look after a transfer and after a cancel, worked out without the engine's own code."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Json = Any

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SAVED = ("queue", "routing_domain", "tenant", "campaign")
_STEP = timedelta(minutes=15)


def saved_problem(before: Mapping[str, Json], after: bytes | None, xfer_queue: str) -> str | None:
    """What is wrong with the envelope of a message that has been transferred; None if nothing."""
    found = _parsed(after)
    if found is None:
        return "its envelope is not valid JSON"
    meta = before["meta"]
    info = {name: meta[name] for name in _SAVED if name in meta}
    for name in ("schedule", "num_attempts", "due"):
        if before[name] is not None:
            info[name] = before[name]
    expected = {
        **before,
        "meta": {**{name: value for name, value in meta.items() if name not in _SAVED}, "queue": xfer_queue},
        "due": None,
        "schedule": None,
    }
    expected["meta"]["xfer_queue_info"] = info
    return _difference(expected, found)


def restored_problem(
    before: Mapping[str, Json], after: bytes | None, earliest: datetime, latest: datetime
) -> str | None:
    """What is wrong with the envelope of a message that is back; None if nothing.

    All of it must be as before but for `due`: that is a moment of the drain, which ran from `earliest` to
    `latest`, or else the first moment after it that the schedule permits.
    """
    found = _parsed(after)
    if found is None:
        return "its envelope is not valid JSON"
    due = found.get("due")
    difference = _difference({**before, "due": due}, found)
    if difference is not None:
        return difference
    if not isinstance(due, str) or not due.endswith("Z"):
        return f"its due is {due!r}"
    return due_problem(before["schedule"], datetime.fromisoformat(due), earliest, latest)


def due_problem(schedule: Mapping[str, str] | None, due: datetime, earliest: datetime, latest: datetime) -> str | None:
    """What is wrong with a restored `due`; None if nothing. All times are aware."""
    if due < earliest:
        return f"its due {due} lies before the cancel"
    if not permits(schedule, due):
        return f"its due {due} is not permitted by its schedule {schedule}"
    moment = latest
    while moment < due:
        if permits(schedule, moment):
            return f"its due {due} is later than its schedule {schedule} asks for"
        moment += _STEP
    if due > latest and permits(schedule, due - timedelta(microseconds=1)):
        return f"its due {due} is later than its schedule {schedule} asks for"
    return None


def permits(schedule: Mapping[str, str] | None, moment: datetime) -> bool:
    """Whether the schedule permits an attempt at that moment (aware)."""
    if schedule is None:
        return True
    if "first_attempt" in schedule and moment < datetime.fromisoformat(schedule["first_attempt"]):
        return False
    if "dow" not in schedule:
        return True
    local = moment.astimezone(UTC).astimezone(ZoneInfo(schedule["tz"]))
    days = {day.strip().lower()[:3] for day in schedule["dow"].split(",")}
    start, end = time.fromisoformat(schedule["start"]), time.fromisoformat(schedule["end"])
    return _DAYS[local.weekday()] in days and start <= local.time() < end


def _parsed(raw: bytes | None) -> dict[str, Json] | None:
    try:
        value = json.loads(raw or b"")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _difference(expected: Mapping[str, Json], found: Mapping[str, Json]) -> str | None:
    """The first difference, value for value: 1, 1.0 and true are three values, and so are 0.0 and -0.0."""
    for name in [*expected, *(name for name in found if name not in expected)]:
        if name not in found:
            return f"its {name} is gone"
        if name not in expected:
            return f"it has {name}, which it had not"
        if _canonical(expected[name]) != _canonical(found[name]):
            if isinstance(expected[name], dict) and isinstance(found[name], dict):
                return f"{name}: {_difference(expected[name], found[name])}"
            return f"its {name} is {found[name]!r}, not {expected[name]!r}"
    return None


def _canonical(value: Json) -> str:
    return json.dumps(value, sort_keys=True)
