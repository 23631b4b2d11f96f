"""The fields of a JSON object that anybody may have written: what counts of it, and what is wrong with a name.

As KumoMTA does (crates/kumo-api-types), a field twice is refused. Unlike there, one that is not known is, too: a
criterion with a typo would select everything.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import orjson

OWN_PREFIX = "x_"
"""What the names begin with that a service keeps for itself: they are left alone."""

OTHER_FIELDS: Mapping[str, Any] = {
    "patternProperties": {f"^{OWN_PREFIX}": {}},
    "additionalProperties": {"type": "null"},
}
"""JSON Schema for the fields that an object may have besides those that are known."""

_MOST_SHOWN = 60
_MOST_UNKNOWN = 10
"""Unknown fields of one object that are looked at: one is enough to refuse it."""


class FieldTwice(ValueError):
    """An object has this field twice: which of the two is meant, nobody can tell. `fields` has the last ones."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.name = name[:_MOST_SHOWN]
        self.fields = fields
        super().__init__(f"{self.name} is there twice")


def read_json(text: bytes) -> Any:
    """The JSON value in UTF-8.

    Raises:
        orjson.JSONDecodeError: it is none.
        FieldTwice: it is an object that has a field twice.
    """
    value = orjson.loads(text)
    if type(value) is dict:
        try:
            pairs = json.loads(text, object_pairs_hook=list)
        except RecursionError:
            raise orjson.JSONDecodeError("it is nested too deeply", "", 0) from None
        if len(pairs) != len(value):
            raise FieldTwice(first_twice(name for name, _ in pairs) or "", value)
    return value


def first_twice(names: Iterable[str]) -> str | None:
    """The first name that comes a second time; None where each comes once."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def counted(fields: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The fields that count: null is as good as absent (kcli sends its criteria as null), and `x_` is a service's own.

    Of those that are not `known` only some are left.
    """
    found = {name: value for name, value in fields.items() if value is not None and not name.startswith(OWN_PREFIX)}
    strange = [name for name in found if name not in known]
    for name in strange[_MOST_UNKNOWN:]:
        del found[name]
    return found


def unknown(name: str, known: Collection[str], kind: str = "field") -> str:
    """One sentence about a name that is not known, with the one that was probably meant."""
    name = name[:_MOST_SHOWN]
    close = get_close_matches(name.lower(), known, n=1)
    if close:
        return f"{name} is not a known {kind}; {close[0]}?"
    return f"{name} is not a known {kind}; " + (f"known are {', '.join(known)}" if known else "there are none")
