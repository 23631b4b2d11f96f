"""What holds back commands and drain tasks: a transaction that a producer has open in their topics.

Workers read committed records only. So what lies behind such a transaction in its partition waits for its end, which
is up to that producer. Every worker says so, but that is no reason to give a worker up.
"""

from streams.lookup import LogEnds
from streams.ports import Kafka
from streams.settings.topics import TopicSettings
from streams.telemetry.health import Health
from streams.telemetry.metrics import OPEN_SECONDS
from streams.telemetry.open_transactions import OpenTransactionAge

_SAID_AFTER_S = 4.0
"""Transactions that end within this time are nobody's business."""


class HeldBack:
    """Looks at the topics that workers consume; tells metrics and `health`."""

    def __init__(self, kafka: Kafka, settings: TopicSettings, health: Health) -> None:
        self._health = health
        inputs = (
            ("commands", settings.commands_topic, settings.commands_partitions),
            ("drains", settings.drains_topic, settings.drains_partitions),
        )
        self._inputs = [
            (where, topic, LogEnds(kafka, topic, range(count)), OpenTransactionAge[int]())
            for where, topic, count in inputs
        ]

    async def look(self) -> None:
        """To be called every few seconds.

        Raises:
            Unavailable: Kafka does not answer.
        """
        for where, topic, ends, open_age in self._inputs:
            await ends.look()
            OPEN_SECONDS.labels(where=where).set(open_age.look(ends.stable, ends.written))
            held = sorted(open_age.open_for(_SAID_AFTER_S))
            if held:
                places = ", ".join(f"{partition} from offset {ends.stable[partition]}" for partition in held)
                self._health.notes(where, f"a transaction is open in {topic}: what lies behind it waits ({places})")
            else:
                self._health.notes(where, None)
