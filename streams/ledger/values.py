"""The values of the ledger's records, and dictionaries in which a record sets or removes one."""

from collections.abc import Hashable
from typing import TypeVar

from pydantic import BaseModel

_Outer = TypeVar("_Outer", bound=Hashable)
_Inner = TypeVar("_Inner", bound=Hashable)
_Value = TypeVar("_Value")
_Said = TypeVar("_Said", bound=BaseModel)


def read(model: type[_Said], value: bytes | None) -> _Said | None:
    """What a record says; None for one that removes."""
    return None if value is None else model.model_validate_json(value)


def set_value(view: dict[_Inner, _Value], key: _Inner, value: _Value | None) -> None:
    """Set or, with None, remove `view[key]`."""
    if value is None:
        view.pop(key, None)
    else:
        view[key] = value


def put(view: dict[_Outer, dict[_Inner, _Value]], outer: _Outer, inner: _Inner, value: _Value | None) -> None:
    """Set or, with None, remove `view[outer][inner]`; no empty dictionaries stay behind."""
    if value is not None:
        view.setdefault(outer, {})[inner] = value
    elif outer in view:
        view[outer].pop(inner, None)
        if not view[outer]:
            del view[outer]
