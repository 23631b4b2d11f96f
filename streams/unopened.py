"""What a reader gives in place of records that it does not unpack."""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.records import Batch, Header


@dataclass(frozen=True, slots=True)
class Unopened:
    """A batch that would unpack to more than a worker may hold: in place of its records, where a reader meets it whole.

    `offset` is that of its last record, `count` how many there are; `batch` can be written anywhere.
    """

    partition: int
    offset: int
    timestamp: int
    count: int
    batch: Batch
    key: None = None
    value: None = None
    headers: Sequence[Header] = ()
