"""What carrying out commands rests on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from streams.claim.claimer import Claimer
from streams.ledger.ledger import Ledger
from streams.ledger.results import Results
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.health import Health


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The worker that carries out commands; `now` gives an aware time."""

    kafka: Kafka
    ledger: Ledger
    claimer: Claimer
    results: Results
    settings: Settings
    now: Callable[[], datetime]
    health: Health
