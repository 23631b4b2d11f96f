"""The states of a command, what happens to it, and which state follows: one table.

A state is judged by what stands in the ledger, when it is read (`streams.ledger.view`), and before an end is written,
under the command's fence (`streams.commands.outcomes`): a worker that stood still writes what looked legal to it.
"""

from collections.abc import Mapping
from typing import Literal, get_args

State = Literal["accepted", "waiting", "claimed", "done", "refused"]
Event = Literal["accepted", "waits", "claimed", "drained", "refused", "expired", "withdrawn"]

_UNBEGUN: tuple[State | None, ...] = (None, "accepted", "waiting")
"""Nothing is claimed or selected; None where the ledger does not know the command."""

TRANSITIONS: Mapping[tuple[State | None, Event], State] = {
    (None, "accepted"): "accepted",
    **{(state, "waits"): "waiting" for state in _UNBEGUN},
    **{(state, "claimed"): "claimed" for state in _UNBEGUN},
    **{(state, "refused"): "refused" for state in _UNBEGUN},
    **{(state, "expired"): "refused" for state in _UNBEGUN},
    **{(state, "withdrawn"): "refused" for state in _UNBEGUN},
    ("claimed", "waits"): "claimed",
    ("claimed", "claimed"): "claimed",
    ("claimed", "drained"): "done",
}
"""What follows; all else is illegal. `claimed`: one queue of the command, or all that a transfer selects."""

ENDED: frozenset[str] = frozenset(set(get_args(State)) - {state for state, _ in TRANSITIONS})
"""The final states: nothing leads out of them."""


class IllegalTransition(ValueError):
    """The event can't happen in this state."""


def advance(state: State | None, event: Event) -> State:
    """The state that follows.

    Raises:
        IllegalTransition: none does.
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise IllegalTransition(f"a command that is {state or 'unknown'} can't be {event}")
    return following


def can_be(state: State | None, event: Event) -> bool:
    """Whether the event can happen in this state."""
    return (state, event) in TRANSITIONS


def diagram() -> str:
    """The table as a Mermaid state diagram, one line per pair of states, with all events between them."""
    events: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in TRANSITIONS.items():
        if state != following:
            events.setdefault((state or "[*]", following), []).append(event)
    lines = [f"    {state} --> {following}: {', '.join(names)}" for (state, following), names in events.items()]
    lines += [f"    {state} --> [*]" for state in sorted(ENDED)]
    return "\n".join(["stateDiagram-v2", *lines])


if __name__ == "__main__":
    print(diagram())
