"""Names that no other process of tests has, so that one can tell whose a topic is; and how their topics go again."""

import itertools
import os
import socket
import time
from contextlib import suppress

RUN = f"{os.getpid()}x{int(time.time())}"
"""Is in every name that this process makes."""
given: list[str] = []
"""All names that were made so far."""
_numbers = itertools.count(1)


def own_name(what: str = "t") -> str:
    """A new name; letters, digits and dots, so that it stands unchanged in the topic of a queue of that name."""
    given.append(f"{what}{next(_numbers)}.{RUN}")
    return given[-1]


def topics_with(servers: str, *names: str) -> list[str]:
    """The topics in whose names one of these is; none where nobody answers: that Kafka ends with who started it."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    if not names or not _answers(servers):
        return []
    try:
        there = AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=10).topics
    except KafkaException:
        return []
    return sorted(topic for topic in there if any(name in topic for name in names))


def remove_topics(servers: str, *names: str) -> None:
    """Delete all topics with one of these names in theirs, in one request; brokers forget them a moment later."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    if left := topics_with(servers, *names):
        admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        for future in admin.delete_topics(left, request_timeout=30).values():
            with suppress(KafkaException):  # gone already, or Kafka has gone away: what is left is found
                future.result(60)


def _answers(servers: str) -> bool:
    for server in servers.split(","):
        host, _, port = server.rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
    return False
