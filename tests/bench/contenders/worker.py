"""xferq itself: a worker as it comes, told to cancel a transfer."""

from typing import TYPE_CHECKING

from tests.bench.contenders.contender import Drained

if TYPE_CHECKING:
    from tests.bench.world import World


class XferqWorker:
    """`xferq worker` with its settings as they come, but for the messages of a transaction."""

    name = "xferq"
    remark = ""

    def why_not(self) -> str | None:
        """Nothing stands in the way."""
        return None

    def prepare(self) -> None:
        """Nothing to do."""

    async def drain(self, world: "World") -> Drained:
        """Cancel the warm-up's transfer, then the one that is measured: from the claim until all is done."""
        with world.worker() as worker:
            await world.cancel("warm-up", queue=world.warm_up_queue)
            await world.shared_out()
            logged = await world.log_end()
            status, measured = await world.cancel("drain", worker=worker)
            memory = worker.peak_memory_mb()
        if status.returned:
            raise SystemExit(f"{status.returned} messages were returned: {status.returned_reasons}")
        # A drain's transaction writes to one partition of the log, where it leaves one marker behind the records.
        markers = await world.log_end() - logged - status.restored
        return Drained(measured, status.restored, markers, memory)
