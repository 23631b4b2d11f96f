"""The ledger's topic is deleted and made again, as a topic operator does by itself: nobody goes by an empty ledger."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.link import KafkaLink
from streams.broker import EmbeddedBroker
from streams.domain.ledger_partitions import ledger_width
from streams.errors import Misconfigured
from streams.kafka.cluster import Cluster
from streams.kafka.ledger_id import LedgerId
from streams.ledger.backup import read_ledger, write_ledger
from tests.broker import checker
from tests.broker.checker import LedgerView
from tests.broker.moments import claimed
from tests.broker.scene import WAIT_S, Scene, wait_until

SAID = "is not the one that was used so far, but one that was made in its place"


@pytest.fixture
def scene(broker: EmbeddedBroker) -> Iterator[Scene]:
    with Scene(broker.bootstrap_servers, space_s=0.2, stalled_ms=2_000) as scene:
        yield scene


@contextmanager
def operator(scene: Scene) -> Iterator[None]:
    """What makes the ledger's topic again as soon as it is missing."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            if scene.settings.ledger_topic not in scene.admin.list_topics(timeout=10).topics:
                scene.create({scene.settings.ledger_topic: ledger_width(scene.settings.ledger_partitions)})
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join(WAIT_S)
        stop.set()


def replaced(scene: Scene) -> None:
    """The topic is lost and there again; what was known of it is forgotten."""
    with operator(scene):
        scene.admin.delete_topics([scene.settings.ledger_topic])[scene.settings.ledger_topic].result(WAIT_S)
    wait_until(lambda: checker.is_ready(scene.servers, scene.settings.ledger_topic))
    if scene._follower is not None:
        scene._follower.close()
    scene._follower, scene._view = None, LedgerView()


async def test_what_was_claimed_is_not_freed_by_the_next_worker_and_a_restore_brings_it_back(scene: Scene) -> None:
    scene.put(40)
    worker = await asyncio.to_thread(scene.worker().started)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait) == 0
    await claimed(scene, "a")
    async with Cluster(scene.settings) as kafka:
        values = await read_ledger(kafka, scene.settings)
        await asyncio.to_thread(replaced, scene)
        for _ in range(2):
            worker = scene.worker()
            assert await asyncio.to_thread(worker.wait) == 1
            assert SAID in worker.log
            assert "xferq restore FILE" in worker.log
        assert set(checker.log_starts(scene.servers, scene.topic).values()) == {0}
        await write_ledger(kafka, scene.settings, values)
        await LedgerId(kafka, scene.settings).accept()
    await asyncio.to_thread(scene.worker().started)
    await asyncio.to_thread(scene.done)
    assert scene.problems() == []


async def test_a_worker_and_an_api_stop_that_run_meanwhile(scene: Scene) -> None:
    worker = await asyncio.to_thread(scene.worker().started)
    async with Cluster(scene.settings) as kafka:
        link = KafkaLink(kafka, scene.settings)
        link.start()
        try:
            async with asyncio.timeout(WAIT_S):
                while link.missing is not None:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(replaced, scene)
                while SAID not in (link.missing or ""):
                    await asyncio.sleep(0.05)
        finally:
            await link.stop()
        assert await asyncio.to_thread(worker.wait) == 1
        assert SAID in worker.log
        with pytest.raises(Misconfigured, match=SAID):
            await LedgerId(kafka, scene.settings).open(remember=False)


@pytest.mark.parametrize("lost", ["commands_topic", "drains_topic", "log_topic", None])
async def test_it_is_remembered_as_long_as_one_other_topic_is_there(scene: Scene, lost: str | None) -> None:
    """And a start of a worker, before which there was none, does not make the new one the right one."""
    settings = scene.settings
    async with Cluster(settings) as kafka:
        await LedgerId(kafka, settings).open(remember=False)  # the first one is any
        await LedgerId(kafka, settings).open(remember=True)
        await LedgerId(kafka, settings).open(remember=True)
        if lost is not None:
            name = getattr(settings, lost)
            scene.delete(name)
            await LedgerId(kafka, settings).open(remember=True)
            scene.create({name: 4})
        await asyncio.to_thread(replaced, scene)
        for remember in (False, True, True):
            with pytest.raises(Misconfigured, match=SAID):
                await LedgerId(kafka, settings).open(remember=remember)
        await LedgerId(kafka, settings).accept()
        await LedgerId(kafka, settings).open(remember=False)
