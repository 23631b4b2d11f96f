"""RabbitMQ's dynamic shovel: a peer that moves a queue from one place to another."""

import asyncio
from typing import TYPE_CHECKING

from tests.bench.contenders.child import run_children
from tests.bench.contenders.contender import Drained, Job
from tests.bench.contenders.java import compiled, java_loop_command
from tests.bench.contenders.rabbitmq import rabbitmq, server_script
from tests.bench.stopwatch import Stopwatch

if TYPE_CHECKING:
    from tests.bench.world import World


class Shovel:
    """A shovel for each of as many durable classic queues as the source has partitions, acknowledging on confirm.

    What moves is the same messages, which are read from Kafka before the clock runs. They stay as they are, and
    where RabbitMQ ends in the middle of it some of them are there twice: it knows no transactions over queues.
    """

    name = "rabbitmq-shovel"
    remark = "copies only, at least once"

    def why_not(self) -> str | None:
        """Where there is no RabbitMQ."""
        return "rabbitmq-server is not installed" if server_script() is None else None

    def prepare(self) -> None:
        """Fetch its client and compile."""
        compiled()

    async def drain(self, world: "World") -> Drained:
        """Start a RabbitMQ, fill it, and move."""
        return await asyncio.to_thread(_shovelled, await world.job(self.name), world.stopwatch)


def _shovelled(job: Job, stopwatch: Stopwatch) -> Drained:
    with rabbitmq() as ports:
        command = java_loop_command("ShovelLoop", f"-Dbench.amqp={ports.amqp}", f"-Dbench.http={ports.http}")
        return run_children([(command, job)], stopwatch)
