"""The names that are most like one that nobody knows: for who may have misspelt it. Milliseconds among 10,000."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, islice

from streams.domain.queue_name import QueueName

_MOST_NAMES = 20_000
_LOOKED_AT = 128
"""Characters of a name that are looked at."""
_PIECE = 3
"""Letters of which a piece is made."""
_RARE_IN = 1 << 17
"""Characters of the names in which pieces are looked for first, to see which are rare."""
_SEARCHED = 20_000_000
"""Characters that are searched, counted once for each piece: where it would be more, the rarest pieces have to do."""
_HITS = 3_000
"""Places where a piece occurs, the rarest piece first, that are looked at."""
_COMPARED = 40
"""Names that share the rarest pieces with the wanted one: they are compared letter by letter, which takes long."""
_EDGED: Mapping[str, str] = {"campaign": "\n{}:", "tenant": "\n{}@", "domain": "\n{}\n@{}!", "routing_domain": "!{}\n"}
"""What stands around a part of a queue's name."""


def nearest(wanted: str, names: Iterable[str], *, most: int = 3, least: float = 0.0) -> list[str]:
    """The names that are most like the wanted one, the likest first; from `least` (1 is the same) on."""
    likeness = {name: _likeness(wanted, name) for name in _sharing("\n{}\n", wanted, list(islice(names, _MOST_NAMES)))}
    close = [name for name in likeness if likeness[name] >= least]
    return sorted(close, key=lambda name: (-likeness[name], name))[:most]


def nearest_queues(criteria: Mapping[str, str], queues: Iterable[str], *, most: int = 3) -> list[str]:
    """The queues whose parts are most like the wanted ones, the likest first; `criteria` by part of a queue's name."""
    listed = list(islice(queues, _MOST_NAMES))
    close = {queue for part, wanted in criteria.items() for queue in _sharing(_EDGED[part], wanted, listed)}
    likeness = {
        queue: sum(_likeness(wanted, getattr(QueueName.parse(queue), part) or "") for part, wanted in criteria.items())
        for queue in close
    }
    return sorted(likeness, key=lambda queue: (-likeness[queue], queue))[:most]


def _likeness(wanted: str, name: str) -> float:
    return SequenceMatcher(None, wanted[:_LOOKED_AT].lower(), name[:_LOOKED_AT].lower(), autojunk=False).ratio()


def _sharing(edged: str, wanted: str, names: Sequence[str]) -> list[str]:
    """Names that share pieces with the wanted one.

    All of them are searched as one text, which takes no step of ours for each.
    """
    lowered = [name[:_LOOKED_AT].lower() for name in names]
    starts = list(accumulate((len(name) + 1 for name in lowered), initial=0))
    text = "\n".join(["", *lowered, ""])
    wanted = edged.replace("{}", wanted[:_LOOKED_AT].lower())
    pieces = {wanted[start : start + _PIECE] for start in range(len(wanted) - _PIECE + 1)}
    if len(pieces) * len(text) > _SEARCHED:
        rare = sorted(pieces, key=lambda piece: (text.count(piece, 0, _RARE_IN), piece))
        pieces = set(rare[: max(1, _SEARCHED // len(text))])
    shared: dict[int, float] = defaultdict(float)
    left = _HITS
    for count, piece in sorted((count, piece) for piece in pieces if (count := text.count(piece))):
        for hit in islice(re.finditer(re.escape(piece), text), left):
            shared[bisect_right(starts, hit.start()) - 1] += 1 / count
        left = max(left - count, 0)
    found = sorted(shared, key=lambda number: -shared[number]) or range(len(names))
    return [names[number] for number in found[:_COMPARED]]
