"""Kafka nodes that die, hang, and come back."""

import json
import random

from confluent_kafka import KafkaException

from streams.broker import BrokerError, EmbeddedBroker
from tests.broker.scene import WAIT_S
from tests.faults.trouble import Fault, Trouble
from tests.support.patience import deadline

_INTERNAL_PARTITIONS = 5
"""Of Kafka's topics for offsets and transactions, on the embedded one."""


class BrokerTrouble(Trouble):
    """See the module."""

    def _broker(self, fault: Fault) -> EmbeddedBroker:
        """A random one, or the one with a role."""
        nodes = self.stage.cluster.nodes
        role = fault.dice.choice(["any", "any", "controller", "transactions", "group", "ledger"])
        node_id = self._holder_of(role, fault.dice)
        self.say(f"brokers: {role} is {node_id}")
        return nodes[node_id - 1] if node_id else fault.dice.choice(nodes)

    def _holder_of(self, role: str, dice: random.Random) -> int:
        """The id of the node that has this role now, 0 for any."""
        settings, names = self.stage.settings, self.stage.names
        if role == "controller":
            for folder in sorted(self.stage.folder.glob("kafka/node-*")):
                for state in folder.rglob("quorum-state"):
                    return max(0, int(json.loads(state.read_text()).get("leaderId", 0)))
        if role == "any" or role == "controller":
            return 0
        try:
            listed = self.stage.admin.list_topics(timeout=WAIT_S).topics
        except KafkaException:
            return 0
        if role == "ledger":
            topic, partition = settings.ledger_topic, dice.randrange(settings.ledger_partitions)
        elif role == "group":
            topic, partition = "__consumer_offsets", _java_hash(settings.worker_group) % _INTERNAL_PARTITIONS
        else:
            id = f"xferq.claim.{dice.choice(names.topics)}"
            topic, partition = "__transaction_state", _java_hash(id) % _INTERNAL_PARTITIONS
        found = listed.get(topic)
        return max(0, int(found.partitions[partition].leader)) if found and partition in found.partitions else 0

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


def _java_hash(text: str) -> int:
    """What Kafka finds the coordinator of a group or a transactional id by, made positive as it does."""
    value = 0
    for char in text:
        value = (31 * value + ord(char)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
