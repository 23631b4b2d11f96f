"""A worker of a fault run, the real one, that frees no space and may be weakened: `python -m tests.faults.worker`.

It frees no space, and forgets no claim, so that the checker finds every place that a message ever had. And with the
space goes what else would keep a claimed message from being dispatched again: here only the claims' own steps do.

TEST_XFERQ_WEAKNESS=transactions: every write is a transaction of its own, the offsets too.
TEST_XFERQ_WEAKNESS=second-look: a claim is done once it is committed. And each stands still before its transaction,
until the file is there that TEST_XFERQ_GO_ON names.
TEST_XFERQ_FATE: see `tests.broker.mortal`.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from streams.claim.confirmation import Confirmation
from streams.domain.claim import Claim
from streams.kafka.cluster import Cluster
from streams.kafka.transaction import TransactionalProducer
from streams.ports import GroupOffsets
from streams.records import Write
from streams.worker.forgetting import Forgetting
from tests.broker import mortal

Weakness = Literal["transactions", "second-look"]
WEAKNESS = "TEST_XFERQ_WEAKNESS"
OPTIONS = ("-m", "tests.faults.worker")
GO_ON = "TEST_XFERQ_GO_ON"
STANDS_STILL = "weak.stands_still"


async def _free_nothing(_: Cluster, __: str, ___: Mapping[int, int]) -> None:
    pass


async def _forget_nothing(_: Forgetting) -> None:
    pass


def _without_transactions() -> None:
    whole = TransactionalProducer.transact

    async def one_by_one(
        self: TransactionalProducer,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        for write in writes:
            await whole(self, [write])
        if offsets is not None:
            await whole(self, [], offsets, before_commit)

    setattr(TransactionalProducer, "transact", one_by_one)  # noqa: B010 - a method of a class that is not ours here


def _without_second_look() -> None:
    async def trusting(self: Confirmation, claim: Claim, *_: object) -> None:
        self._note_confirmed([claim])

    setattr(Confirmation, "confirm", trusting)  # noqa: B010
    whole = TransactionalProducer.transact

    async def slow(
        self: TransactionalProducer,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if offsets is not None:
            print(STANDS_STILL, flush=True)
            while not Path(os.environ[GO_ON]).exists():
                await asyncio.sleep(0.05)
        await whole(self, writes, offsets, before_commit)

    setattr(TransactionalProducer, "transact", slow)  # noqa: B010


def main() -> int:
    """The process."""
    setattr(Cluster, "delete_before", _free_nothing)  # noqa: B010
    setattr(Forgetting, "forget_commands", _forget_nothing)  # noqa: B010
    weakness = os.environ.get(WEAKNESS)
    if weakness == "transactions":
        _without_transactions()
    elif weakness == "second-look":
        _without_second_look()
    return mortal.main()


if __name__ == "__main__":
    sys.exit(main())
