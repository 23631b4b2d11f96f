"""The compiled extension in tests; where it is not built, they are skipped, and say why."""

from collections.abc import Sequence

import pytest

from streams.kafka.wire.runs import made_record
from streams.native.extension import Native, native_of
from streams.records import Record
from streams.settings.settings import Settings


def _found() -> Native | None:
    return native_of(Settings(native="auto"))


needs_native = pytest.mark.skipif(_found() is None, reason="the compiled extension is not built (no cargo?)")


def native() -> Native:
    """The extension, which is here."""
    found = _found()
    assert found is not None
    return found


def as_run(topic: str, records: Sequence[Record]) -> Sequence[Record]:
    """Records of one partition as the extension has them."""
    fetch = native().Fetch(b"", 1 << 30)
    for record in records:
        fetch.add(record)
    return fetch.take(topic, records[0].partition if records else 0, made_record)
