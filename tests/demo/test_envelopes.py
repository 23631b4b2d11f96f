"""When a restored message may be due, worked out apart from the engine."""

from datetime import UTC, datetime, timedelta

import pytest

from api.demo.envelopes import due_problem, permits

OFFICE = {"dow": "Mon,Tue,Wed,Thu,Fri", "tz": "America/Phoenix", "start": "09:00:00", "end": "17:00:00"}
# Phoenix is 7 hours behind UTC, the whole year: the office is open from 16:00 to 00:00 UTC.
FRIDAY_EVENING = datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC)
FRIDAY_NIGHT = datetime(2026, 11, 28, 0, 0, 0, tzinfo=UTC)
MONDAY_MORNING = datetime(2026, 11, 30, 16, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("moment", "permitted"),
    [
        (FRIDAY_EVENING, True),
        (FRIDAY_NIGHT, False),
        (MONDAY_MORNING - SECOND, False),
        (MONDAY_MORNING, True),
        (MONDAY_MORNING - timedelta(days=1), False),
    ],
)
def test_hours_of_an_office(moment: datetime, permitted: bool) -> None:
    assert permits(OFFICE, moment) is permitted


def test_nothing_is_permitted_before_the_first_attempt() -> None:
    schedule = {"first_attempt": "2026-11-24T10:00:00Z"}
    first = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
    assert permits(schedule, first)
    assert not permits(schedule, first - SECOND)
    assert not permits({**OFFICE, "first_attempt": "2026-12-31T00:00:00Z"}, MONDAY_MORNING)


NIGHT = (FRIDAY_NIGHT, FRIDAY_NIGHT + SECOND)
DAY = (MONDAY_MORNING + SECOND, MONDAY_MORNING + 2 * SECOND)


@pytest.mark.parametrize(
    ("schedule", "due", "drain", "problem"),
    [
        (None, DAY[0], DAY, None),
        (None, DAY[1], DAY, None),
        (None, DAY[0] - SECOND, DAY, "before the cancel"),
        (None, DAY[1] + SECOND, DAY, "later than"),
        ({"expires": "2027-01-01T00:00:00Z"}, DAY[1], DAY, None),
        (OFFICE, DAY[0], DAY, None),
        (OFFICE, MONDAY_MORNING, NIGHT, None),
        (OFFICE, MONDAY_MORNING + SECOND, NIGHT, "later than"),
        (OFFICE, MONDAY_MORNING + timedelta(days=1), NIGHT, "later than"),
        (OFFICE, FRIDAY_NIGHT + SECOND, NIGHT, "not permitted"),
        (OFFICE, MONDAY_MORNING - SECOND, NIGHT, "not permitted"),
        ({"first_attempt": "2027-01-01T00:00:00Z"}, datetime(2027, 1, 1, tzinfo=UTC), DAY, None),
        ({"first_attempt": "2027-01-01T00:00:00Z"}, datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC), DAY, "later than"),
        ({"first_attempt": "2020-01-01T00:00:00Z"}, DAY[1], DAY, None),
    ],
)
def test_when_a_message_is_due(
    schedule: dict[str, str] | None, due: datetime, drain: tuple[datetime, datetime], problem: str | None
) -> None:
    found = due_problem(schedule, due, *drain)
    assert (found is None) if problem is None else (problem in (found or ""))
