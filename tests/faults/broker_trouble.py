"""Kafka nodes that die, hang, and come back."""

from streams.broker import BrokerError, EmbeddedBroker
from tests.broker.scene import WAIT_S
from tests.faults.roles import node_with_a_role
from tests.faults.trouble import Fault, Trouble
from tests.support.patience import deadline


class BrokerTrouble(Trouble):
    """See the module."""

    def _broker(self, fault: Fault) -> EmbeddedBroker:
        """A random one, or the one with a role."""
        role, node_id = node_with_a_role(self.stage, fault.dice)
        self.say(f"brokers: {role} is {node_id}")
        return self.stage.cluster.nodes[node_id - 1]

    def kill(self, fault: Fault) -> None:
        node = self._broker(fault)
        node.kill()
        self.last(fault)
        self._restart(node)

    def stop(self, fault: Fault) -> None:
        node = self._broker(fault)
        node.stop()
        self.last(fault)
        self._restart(node)

    def _restart(self, node: EmbeddedBroker) -> None:
        end = deadline(3 * WAIT_S)
        while True:
            try:
                node.start()
                return
            except BrokerError:
                if end.is_over:
                    raise

    def pause(self, fault: Fault) -> None:
        node = self._broker(fault)
        node.pause()
        self.last(fault)
        node.resume()

    def pause_two(self, fault: Fault) -> None:
        """No majority, for a while."""
        nodes = fault.dice.sample(self.stage.cluster.nodes, 2)
        for node in nodes:
            node.pause()
        self.last(fault)
        for node in nodes:
            node.resume()
