"""Deletes a group with its offsets, as if they had expired: `python -m tests.faults.forget_group SERVERS GROUP`.

A process of its own, because librdkafka's admin client ends the process when a broker answers such a request too late
(https://github.com/confluentinc/librdkafka/issues/4605). Exit status 0 if Kafka did it.
"""

import sys

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def main() -> int:
    """The process."""
    servers, group = sys.argv[1:]
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    try:
        admin.delete_consumer_groups([group])[group].result(8)
    except (KafkaException, TimeoutError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
