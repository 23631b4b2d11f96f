"""What schemathesis has to know of the API that JSON Schema can't say; it loads this module itself.

- `format: uri` alone does not say http or https.
- `maxLength` counts characters, the API bytes of UTF-8. What lies between the two is left out here, and tested
  in tests/api/test_commands.py.
- `everything` and a criterion exclude each other; false and no criterion do, too.
"""

from collections.abc import Iterable
from typing import Any

import schemathesis
from hypothesis import strategies as st

from streams.domain.command import CRITERIA, MAX_TEXT_BYTES

_URL = r"https?://[a-z][a-z0-9-]{0,20}\.example(:[1-9][0-9]{0,3})?/[a-z0-9/._~%20-]{0,40}"

schemathesis.openapi.format("uri", st.from_regex(_URL, fullmatch=True))


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Whether all texts that are short enough in characters are so in bytes."""
    return all(len(text) > MAX_TEXT_BYTES or _size(text) <= MAX_TEXT_BYTES for text in _texts(body))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leave `everything` out where it does not go with the rest: no filter sees the bodies that cover the schema."""
    body = case.body
    everything = body.get("everything") if isinstance(body, dict) else None
    if isinstance(everything, bool) and everything is any(body.get(name) is not None for name in CRITERIA):
        case.body = {name: value for name, value in body.items() if name != "everything"}


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
