"""What time it is to the broker: a worker's own clock may be wrong by months."""

from streams.ledger import Ledger

_KEY = "clock"
"""Of a record that says nothing but its time; whoever reads the ledger passes it over."""


async def broker_time_s(ledger: Ledger, name: str) -> float:
    """Seconds since the epoch, by a record that is written for it to the ledger partition of `name`.

    The broker's time, as `xferq topics` sets it up (LogAppendTime); on a topic of CreateTime it is our own.

    Raises:
        XferqError: it can't be written, or read.
    """
    await ledger.record(name, [(_KEY, None)])
    await ledger.barrier(name)
    return ledger.last_ms.get(ledger.partition_of(name), 0) / 1000
