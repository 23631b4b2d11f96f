"""Which node has a part just now that is worth a fault."""

import json
import random

from confluent_kafka import KafkaException

from streams.domain.ledger_partitions import ledger_width
from tests.broker.scene import WAIT_S
from tests.faults.stage import Stage

_INTERNAL_PARTITIONS = 5
"""Of Kafka's topics for offsets and transactions, on the embedded one."""
_ROLES = ("any", "any", "controller", "transactions", "group", "ledger")


def node_with_a_role(stage: Stage, dice: random.Random) -> tuple[str, int]:
    """A role, and the id of the node that has it; of any node where nobody can tell."""
    role = dice.choice(_ROLES)
    return role, _holder_of(stage, role, dice) or dice.choice((1, 2, 3))


def _holder_of(stage: Stage, role: str, dice: random.Random) -> int:
    """The id of the node that has this role now, 0 for any."""
    settings, names = stage.settings, stage.names
    if role == "controller":
        for folder in sorted(stage.folder.glob("kafka/node-*")):
            for state in folder.rglob("quorum-state"):
                return max(0, int(json.loads(state.read_text()).get("leaderId", 0)))
    if role == "any" or role == "controller":
        return 0
    try:
        listed = stage.admin.list_topics(timeout=WAIT_S).topics
    except KafkaException:
        return 0
    if role == "ledger":
        topic, partition = settings.ledger_topic, dice.randrange(ledger_width(settings.ledger_partitions))
    elif role == "group":
        topic, partition = "__consumer_offsets", _java_hash(settings.worker_group) % _INTERNAL_PARTITIONS
    else:
        id = f"xferq.claim.{dice.choice(names.topics)}"
        topic, partition = "__transaction_state", _java_hash(id) % _INTERNAL_PARTITIONS
    found = listed.get(topic)
    return max(0, int(found.partitions[partition].leader)) if found and partition in found.partitions else 0


def _java_hash(text: str) -> int:
    """What Kafka finds the coordinator of a group or a transactional id by, made positive as it does."""
    value = 0
    for char in text:
        value = (31 * value + ord(char)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
