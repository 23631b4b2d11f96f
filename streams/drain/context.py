"""What all drains of a worker share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from streams.drain.memory import Memory
from streams.ledger.ledger import Ledger
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.health import Health


@dataclass(frozen=True, slots=True)
class DrainContext:
    """The worker that drains; `now` gives an aware time."""

    kafka: Kafka
    ledger: Ledger
    settings: Settings
    now: Callable[[], datetime]
    health: Health
    memory: Memory
