"""The contenders in Python: each as many processes as an xferq worker has, every one with its share of partitions."""

import asyncio
from typing import TYPE_CHECKING

from tests.bench.contenders.child import python_command, run_children
from tests.bench.contenders.contender import Drained

if TYPE_CHECKING:
    from tests.bench.world import World


class PythonLoop:
    """A module with a `drain`, in as many processes as the job has threads."""

    name: str
    remark = ""
    module: str
    arguments: tuple[str, ...] = ()

    def why_not(self) -> str | None:
        """Nothing stands in the way: what it needs is what xferq needs."""
        return None

    def prepare(self) -> None:
        """Nothing to do."""

    async def drain(self, world: "World") -> Drained:
        """Run the processes."""
        job = await world.job(self.name)
        command = [*python_command(self.module), *self.arguments]
        return await asyncio.to_thread(run_children, [(command, share) for share in job.shares()], world.stopwatch)


class AiokafkaLoop(PythonLoop):
    """aiokafka, one send per record."""

    name = "aiokafka"
    module = "tests.bench.contenders.aiokafka_loop"


class ConfluentLoop(PythonLoop):
    """confluent-kafka (librdkafka), one produce per record."""

    name = "confluent-kafka"
    module = "tests.bench.contenders.confluent_loop"
