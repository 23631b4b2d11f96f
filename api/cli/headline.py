"""The first line of `xferq status`: who is at work, whether commands are taken, and how many go on."""

import sys
from typing import TYPE_CHECKING

from streams.errors import Unavailable

if TYPE_CHECKING:
    from api.client import ApiClient

_DOT = "\u00b7"


def headline(client: "ApiClient") -> str:
    """For a person: `2 workers \u00b7 api ok \u00b7 1 running`; each worker process counts.

    Raises:
        Refused: the api does not let us in.
    """
    try:
        health = client.health()
    except Unavailable as error:
        return _joined("workers unknown", str(error))
    workers, running = health.get("workers"), health.get("running")
    how_many = "workers unknown" if workers is None else f"{workers} worker{'' if workers == 1 else 's'}"
    return _joined(how_many, "api ok", f"{running or 0} running")


def _joined(*parts: str) -> str:
    try:
        _DOT.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ", ".join(parts)
    return f" {_DOT} ".join(parts)
