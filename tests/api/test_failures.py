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
    failures.add("a", "nothing was published: why")
    for look in (fails, hangs):
        await failures.look(look)
        assert failures.problem == "commands are not taken: nothing was published: why"
    await failures.look(passes)
    assert (failures.problem, failures.notes) == (None, [])


@timeless
async def test_where_others_are_taken_it_is_a_note() -> None:
    failures = Failures()
    failures.add("a", "why")
    await asyncio.sleep(1)
    failures.succeed("b")
    assert (failures.problem, failures.notes) == (None, ["why"])
    failures.succeed("a")
    assert failures.notes == []


@timeless
async def test_what_could_not_be_published_counts_for_a_while() -> None:
    failures = Failures()
    failures.add(None, "why")
    await failures.look(fails)
    assert failures.problem is not None
    await asyncio.sleep(31)
    await failures.look(fails)
    assert failures.problem is None
