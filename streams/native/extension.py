"""The compiled extension: whether it is here, fits, and is wanted."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal, Protocol, cast

import orjson

from streams.errors import Misconfigured
from streams.records import Batch, Record

_NAME = "streams.native._native"
INTERFACE = 2
"""What is expected of the extension: another number than its own, and it was built from other sources than these."""
UNUSUAL = (
    *(
        "duplicate_key",
        "fault",
        "float",
        "infinite",
        "invalid_json",
        "key",
        "large_integer",
        "limits",
        "many_keys",
        "name",
    ),
    *("nested_deeply", "no_envelope", "not_sound", "schedule", "time"),
)
"""Why the extension leaves a message to Python."""
# Where writers of floats differ: signs of exponents, where an exponent begins, the last digit.
_FLOATS = (
    *(
        0.0,
        -0.0,
        0.1,
        1.0,
        -1.5,
        100.0,
        123456.789,
        1e15,
        1e16,
        1.5e16,
        1e17,
        1e21,
        1e22,
        1e100,
        1.7976931348623157e308,
    ),
    *(1e-4, 1e-5, 1.5e-5, 1e-6, 1e-7, 1.5e-7, 1e-10, 5e-324, 2.2250738585072014e-308, 9007199254740993.0, 2.5e-5),
    *(5e-324, 12345678901234567.0, 0.30000000000000004, 4.35, 1e23, 9.5e-7, 3.0517578125e-05, 123456789012345.6),
)


class Fetch(Protocol):
    """Reads what one fetch has brought."""

    @property
    def at(self) -> int:
        """Where in the data the next batch begins."""
        ...

    def __len__(self) -> int:
        """How many records were read and not taken."""
        ...

    def read(self, next: int, aborted: list[tuple[int, int]], aborting: set[int]) -> tuple[int, int | None]:
        """Read from the offset `next` on; the offset behind it, and where the batch ends that is left to Python."""
        ...

    def add(self, record: Record) -> None:
        """Add one that Python has read."""
        ...

    def go_to(self, at: int) -> None:
        """Go on there in the data."""
        ...

    def take(self, topic: str, partition: int, make: Callable[..., Record]) -> Sequence[Record]:
        """What was read, as a `Run`; `make` makes a record for Python."""
        ...


class NativeMover(Protocol):
    """Moves records of runs."""

    def set_time(self, now: bytes, log_times: bytes, ms: int) -> None:
        """It is that time: as JSON, as the log has it, in ms."""
        ...

    def move(
        self, run: Sequence[Record], start: int, slots: object, transaction: object, may_wait: bool
    ) -> tuple[int, int, int, list[tuple[int, str]], str | None]:
        """Move a run's records from one on: where it stopped, how many were moved, the bytes of their values, which
        ones wait for which topic, and why it stopped before the end: see `UNUSUAL`, or `unknown` where one would have
        to wait and may not."""
        ...


class Native(Protocol):
    """The extension: streams/native/src/ has the sources."""

    __hash__: Callable[[], int]
    INTERFACE: int
    Batch: Callable[[int, int, Callable[[bytes], bytes] | None], Batch]
    Fetch: Callable[[bytes, int], Fetch]
    Mover: Callable[..., NativeMover]
    Slots: Callable[[], object]
    Run: Any
    float_text: Callable[[float, bool], str]


class Wish(Protocol):
    """The settings, as far as they concern it."""

    @property
    def native(self) -> Literal["auto", "yes", "no"]: ...


def native_of(settings: Wish) -> Native | None:
    """The extension, if it is to be used; it is here then.

    Raises:
        Misconfigured: it has to be used, and is not here.
    """
    if settings.native == "no":
        return None
    found, why = _extension()
    if found is None and settings.native == "yes":
        raise Misconfigured(
            f"XFERQ_NATIVE is yes, but {why}: install a wheel of xferq for this platform, or build it by "
            "`make install` where cargo is, or set XFERQ_NATIVE to auto"
        )
    return found


def is_here() -> bool:
    """Whether it is here and fits."""
    return _extension()[0] is not None


def is_used(settings: Wish) -> bool:
    """Whether it is here and wanted."""
    return settings.native != "no" and is_here()


@lru_cache(1)
def _extension() -> tuple[Native | None, str]:
    try:
        found = cast(Native, import_module(_NAME))
    except ImportError as error:
        return None, f"the compiled extension is not here ({error})"
    if getattr(found, "INTERFACE", None) != INTERFACE:
        return None, "the compiled extension was built from other sources"
    return found, ""


@lru_cache(1)
def floats_of(native: Any) -> bool | None:
    """Whether the installed orjson writes exponents with a plus, and all else as the extension; None: it does not."""
    for plus in (True, False):
        if all(native.float_text(number, plus) == orjson.dumps(number).decode() for number in _FLOATS):
            return plus
    return None
