"""Dispatchers that die, hang, come and go; and heads that somebody rewinds."""

from confluent_kafka import KafkaException

from tests.faults.mail import Names
from tests.faults.trouble import Fault, Trouble

PER_SECOND = 40.0
"""How many messages a dispatcher sends."""


def dispatched(names: Names) -> dict[str, str]:
    """The dispatchers that are always there, with their topics."""
    topics = {"x1": names.source_topics[1], "x2": names.source_topics[2]}
    return topics | {"t0": names.home_topics[0], "t1": names.home_topics[1]}


class DispatcherTrouble(Trouble):
    """Dispatchers that die, hang, come and go."""

    def _dispatcher(self, fault: Fault) -> tuple[str, str]:
        return fault.dice.choice(sorted(dispatched(self.stage.names).items()))

    def kill(self, fault: Fault) -> None:
        name, topic = self._dispatcher(fault)
        self.stage.dispatchers[name].close()
        self.last(fault)
        self.stage.start_dispatcher(name, topic, PER_SECOND)

    def pause(self, fault: Fault) -> None:
        name, _ = self._dispatcher(fault)
        process = self.stage.dispatchers[name]
        process.pause()
        self.last(fault)
        process.resume()

    def visit(self, fault: Fault) -> None:
        name, topic = self._dispatcher(fault)
        visitor = self.stage.start_dispatcher(f"{name}-visitor", topic, PER_SECOND, direct=True)
        self.last(fault)
        visitor.close()


class OffsetTrouble(Trouble):
    """Heads of a queue without dispatchers that are rewound, or gone."""

    def rewind(self, fault: Fault) -> None:
        """Of a queue without dispatchers, so that the heads are known: they are the claims'."""
        topic = self.stage.names.source_topics[0]
        try:
            there = self.stage.committed(topic)
        except KafkaException:
            return  # its coordinator is away: another fault's doing
        if there and self.stage.rewind(topic, {p: fault.dice.randrange(0, o + 1) for p, o in there.items()}):
            self.done["offsets: rewound"] += 1

    def forget(self, _: Fault) -> None:
        if self.stage.forget_group(self.stage.names.source_topics[0]):
            self.done["offsets: forgotten"] += 1
