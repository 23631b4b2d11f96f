"""The public record of a command's state (`streams.ledger.results`)."""

import orjson

from streams.domain.status import Status
from streams.domain.transitions import State

_UNSHOWN = {"command"}


LAST = 2
"""The revision of an end behind a claim; also of any end that is told once more: not below the first time's."""


def shown(status: Status) -> dict[str, object]:
    """What people and other services see of a status: all but the hash of the command's content."""
    return status.model_dump(exclude=_UNSHOWN)


def revision_after(state: State | None) -> int:
    """The number of what is written next of a command that is in this state in the ledger: it rises with each record.

    1 for the claim, or for an end without one; 2 for the end of what was claimed.
    """
    return LAST if state == "claimed" else 1


def result_of(status: Status, revision: int) -> bytes:
    """The record's value as JSON: the status as HTTP shows it, and its `revision`."""
    return orjson.dumps({**shown(status), "revision": revision})
