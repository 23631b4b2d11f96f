"""/readyz of the api says what POSTs fail for, for as long as they do."""

import asyncio

from api.failures import Failures
from streams.errors import Unavailable
from tests.fakes.clock import timeless


async def passes(name: str) -> None:
    """It does not have to be waited for."""


async def fails(name: str) -> None:
    """It goes on failing."""
    raise Unavailable("by script")


async def hangs(name: str) -> None:
    """It goes on being waited for."""
    await asyncio.sleep(1_000)


@timeless
async def test_what_fails_is_a_problem_until_it_passes_again() -> None:
    failures = Failures()
    assert failures.problem is None
    for number in range(1_000):
        failures.add(number % 3, f"name{number}", "nothing was published: why")
    for look in (fails, hangs):
        await failures.look(look)
        assert failures.problem == "commands are not taken: nothing was published: why"
    await failures.look(passes)
    assert (failures.problem, failures.notes) == (None, [])


@timeless
async def test_where_others_are_taken_it_is_a_note_and_a_problem_when_they_are_not_any_more() -> None:
    failures = Failures()
    failures.add(1, "a", "why")
    await asyncio.sleep(1)
    failures.succeed(2)
    assert (failures.problem, failures.notes) == (None, ["why"])
    await asyncio.sleep(20)
    failures.add(2, "b", "another")
    assert failures.problem is not None
    for partition in (1, 2):
        failures.succeed(partition)
    assert failures.notes == []


@timeless
async def test_what_could_not_be_published_counts_for_a_while() -> None:
    failures = Failures()
    failures.add_unpublished("why")
    await failures.look(fails)
    assert failures.problem is not None
    await asyncio.sleep(31)
    await failures.look(fails)
    assert failures.problem is None
