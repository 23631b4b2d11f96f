"""The states of a command: the table is whole, and nothing leads out of an end."""

from itertools import product
from typing import get_args

import pytest

from streams.domain.transitions import ENDED, TRANSITIONS, Event, IllegalTransition, State, advance, can_be, diagram

STATES: tuple[State | None, ...] = (None, *get_args(State))
EVENTS: tuple[Event, ...] = get_args(Event)


@pytest.mark.parametrize(("state", "event"), [*product(STATES, EVENTS)])
def test_an_event_leads_where_the_table_says_or_is_illegal(state: State | None, event: Event) -> None:
    assert can_be(state, event) == ((state, event) in TRANSITIONS)
    if can_be(state, event):
        assert advance(state, event) == TRANSITIONS[(state, event)]
    else:
        with pytest.raises(IllegalTransition, match=f"{state or 'unknown'} can't be {event}"):
            advance(state, event)


def test_the_ends_are_done_and_refused() -> None:
    assert set(ENDED) == {"done", "refused"}
    assert not any(can_be(state, event) for state in ENDED for event in EVENTS)  # type: ignore[arg-type]


def test_every_state_can_be_reached_and_every_event_happen() -> None:
    reached: set[State | None] = {None}
    for _ in STATES:
        reached |= {following for (state, _), following in TRANSITIONS.items() if state in reached}
    assert reached == set(STATES)
    assert {event for _, event in TRANSITIONS} == set(EVENTS)


@pytest.mark.parametrize("event", ["refused", "expired", "withdrawn"])
def test_what_has_begun_is_not_given_up(event: Event) -> None:
    assert [state for state in STATES if can_be(state, event)] == [None, "accepted", "waiting"]
    assert advance("waiting", event) == "refused"


def test_the_diagram_has_every_step_between_two_states() -> None:
    lines = diagram().splitlines()
    for (state, event), following in TRANSITIONS.items():
        if state != following:
            (line,) = [line for line in lines if line.startswith(f"    {state or '[*]'} --> {following}:")]
            assert event in line
