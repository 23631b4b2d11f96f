"""Moments of a scene at which something may happen, and what goes on meanwhile."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer

from streams.claim.claimer import Claimer
from streams.claim.request import ClaimRequest
from streams.domain.claim import Claim
from streams.domain.command import CancelCommand
from streams.domain.status import Status
from streams.kafka.cluster import Cluster
from streams.ledger.ledger import Ledger
from streams.ledger.results import Results
from streams.telemetry.health import Health
from streams.worker.engine import utc_now
from tests.broker.scene import Scene
from tests.support.patience import stretched_ms


def in_the_middle(scene: Scene, at_least: float = 0.1) -> None:
    """Wait until the drain is on its way."""
    wanted = max(1, int(len(scene.sent) * at_least))
    scene.until(lambda ledger: scene.restored(ledger) >= wanted)


def left_over(scene: Scene) -> int:
    """How many messages are not restored yet: a test of an interruption needs some."""
    for _ in range(20):
        ledger = scene.ledger(0.02)
    return len(scene.sent) - scene.restored(ledger)


def request(scene: Scene, id: str) -> ClaimRequest:
    """The claim that a cancel of the queue asks for."""
    command = CancelCommand(queue_name=scene.queue, reason="test", id=id)
    status = Status.of(command, state="waiting", requested_at="2026-11-24T10:00:00Z")
    return ClaimRequest(id, "xfer.cancel", scene.queue, scene.topic, scene.queue, "test", lambda: status)


async def claimed(scene: Scene, id: str) -> Claim:
    """Claim the queue without a worker, and without publishing any drain task."""
    async with Cluster(scene.settings) as kafka:
        ledger = Ledger(kafka, scene.settings)
        await ledger.start()
        claimer = Claimer(kafka, ledger, Results(kafka, scene.settings, Health()), scene.settings, utc_now)
        claim = await claimer.claim(request(scene, id))
        await claimer.stop()
        await ledger.stop()
    scene.ids.append(id)
    return claim


def dispatcher(scene: Scene) -> Consumer:
    """A dispatcher's consumer that has not joined its group."""
    return Consumer(
        {
            "bootstrap.servers": scene.servers,
            "group.id": scene.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": stretched_ms(6_000, 60_000),
            "heartbeat.interval.ms": 500,
            "log_level": 0,
        }
    )


@contextmanager
def meanwhile(act: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do something again and again, in a thread of its own, for as long as the block lasts."""
    stop = threading.Event()

    errors: list[Exception] = []

    def again() -> None:
        try:
            while not stop.wait(every_s):
                act()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
