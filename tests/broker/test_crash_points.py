"""A worker is killed, or stands still until others have finished its work, at each step of claim and drain.

Several queues side by side, each with a chain of workers: one meets its fate, the next one takes over and meets
another, and so on; the last one lives. Then those that were stopped wake up. Nothing is lost, nothing is twice.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from streams.broker import EmbeddedBroker
from streams.broker.probe import live_nodes
from tests.broker import mortal
from tests.broker.moments import dispatcher, meanwhile
from tests.broker.scene import Scene
from tests.faults.links import LinkedCluster, links_of
from tests.support.examples import some
from tests.support.patience import WAIT_S, deadline, wait_until

pytestmark = pytest.mark.alone

Point = tuple[str, mortal.When, int]
Fate = tuple[str, mortal.When, int, mortal.Signal]

CLAIM: Sequence[Point] = (
    ("claim.fence", "after", 1),
    ("claim.barrier", "after", 1),
    ("claim.stable_ends", "after", 1),  # settled
    ("claim.hold", "after", 1),
    ("claim.committed", "after", 2),  # the snapshot
    ("claim.transact", "before", 1),
    ("claim.ledger", "after", 1),
    ("claim.offsets", "after", 1),
    ("claim.look", "after", 1),
    ("claim.topic", "after", 2),  # the last look
    ("claim.end", "before", 1),
    ("claim.end", "during", 1),
    ("claim.end", "after", 1),
    ("claim.committed", "after", 3),  # the second look
    ("claim.members", "after", 1),
    ("claim.evict", "after", 1),
    ("claim.release", "before", 1),
    ("claim.close", "before", 1),
    ("command.tasks", "before", 1),
    ("command.tasks", "after", 1),
    ("command", "after", 1),
    ("ack", "after", 1),
)
DRAIN: Sequence[Point] = (
    ("task", "before", 1),
    ("drain.fence", "after", 1),
    ("drain.barrier", "after", 1),
    ("drain.reader", "after", 1),
    ("drain.read", "after", 1),
    ("drain.topic", "after", 2),
    ("drain.partitions", "after", 1),
    ("drain.create", "after", 1),
    ("drain.transact", "before", 2),
    ("drain.part", "before", 2),
    ("drain.part", "after", 1),
    ("drain.send", "after", 1),
    ("drain.ledger", "before", 2),
    ("drain.ledger", "after", 1),
    ("drain.end", "before", 2),
    ("drain.end", "during", 1),
    ("drain.end", "after", 3),
    ("drain.close", "before", 1),
    ("finish.fence", "after", 1),
    ("finish.barrier", "after", 1),
    ("finish.transact", "before", 1),
    ("finish.ledger", "after", 1),
    ("finish.end", "before", 1),
    ("finish.end", "during", 1),
    ("finish.end", "after", 1),
    ("finish.close", "before", 1),
    ("task.delete_before", "after", 1),
)
POINTS: Sequence[Point] = (*CLAIM, *DRAIN)
_CHAINS = 14
_CHAINS_OF_THREE = 8
_SETTINGS = {"transaction_messages": 5, "transaction_timeout_ms": 600_000, "drain_bytes": 1}
"""Drains of many transactions, each of two parts; and no time-out helps: what is left open is ended by whoever takes
over."""
_DONE_S = 3 * WAIT_S
"""What a chain has left open, the last worker ends command by command, while thirteen others do the same."""


class _OnThree(Scene):
    replication = 3


@contextmanager
def members(scenes: Sequence[Scene]) -> Iterator[None]:
    """Each queue's group has a member, so that there is somebody to hold out; it dispatches nothing."""
    consumers = []
    for scene in scenes:
        consumer = dispatcher(scene)
        consumer.subscribe([scene.topic], on_assign=lambda consumer, partitions: consumer.pause(partitions))
        consumers.append(consumer)

    def poll() -> None:
        for consumer in consumers:
            consumer.poll(0)

    try:
        with meanwhile(poll, 0.1):
            yield
    finally:
        for consumer in consumers:
            consumer.close()


def chain(scene: Scene, fates: Sequence[Fate]) -> None:
    """One worker after the other meets its fate; a last one finishes, then the stopped ones wake up."""
    asleep = []
    for number, (step, when, nth, how) in enumerate(fates):
        # One destination that was not there before, for those that die creating it.
        scene.put(48, queues=3 + number)
        worker = scene.worker(*mortal.OPTIONS, variables=mortal.fate(step, when, nth, how))
        scene.cancel(f"c{number}")
        mortal.meets(worker)
        if how == "STOP":
            asleep.append(worker)
    scene.worker()
    scene.done(timeout_s=_DONE_S)
    for worker in asleep:
        times = worker.log.count("worker.assigned")
        worker.resume()
        worker.says("worker.assigned", times + 1)
    scene.put(48)
    scene.cancel("last")
    scene.done(timeout_s=_DONE_S)
    assert all(worker.is_running for worker in asleep)


def in_chains(
    scenes: Sequence[Scene],
    fates: Sequence[Fate],
    trouble: AbstractContextManager[None] | None = None,
    settled: Callable[[], None] = lambda: None,
) -> None:
    """Let all of these be met, in each scene some, during the trouble; look what came of it once all is `settled`.

    Not before: a node that is cut off shows the checker as well what it knew at the cut.
    """
    try:
        for scene in scenes:
            scene.__enter__()
        with members(scenes), trouble or nullcontext(), ThreadPoolExecutor(len(scenes)) as pool:
            chains = [pool.submit(chain, scene, fates[number :: len(scenes)]) for number, scene in enumerate(scenes)]
            for done in chains:
                done.result()
        settled()
        for scene in scenes:
            # A node that has just come back may show what it knew before; what is wrong stays wrong.
            until = deadline()
            while (problems := scene.problems()) and trouble is not None and not until.is_over:
                time.sleep(1)
            assert problems == []
            ledger = scene.ledger()
            assert sum((ledger.status(id) or {})["total"] for id in scene.ids) == len(scene.sent)
    finally:
        for scene in scenes:
            scene.__exit__(None, None, None)


def test_killed_or_stopped_at_every_step(broker: EmbeddedBroker) -> None:
    # Whoever stands still is taken over like whoever is dead, and comes back besides. So that is tried at each point,
    # and death at other points in each run.
    fates: list[Fate] = [(*point, "STOP") for point in POINTS]
    fates += [(*point, "KILL") for point in random.sample(POINTS, len(POINTS) // 3)]
    random.shuffle(fates)
    in_chains([Scene(broker.bootstrap_servers, **_SETTINGS) for _ in range(_CHAINS)], some(fates))


def test_killed_or_stopped_while_links_between_kafkas_nodes_are_cut(cluster: LinkedCluster) -> None:
    """At other steps in each run; one node after the other is cut off from the controllers, from all, or from one."""
    whats = random.choices(["STOP", "KILL"], k=len(POINTS))
    fates: list[Fate] = random.sample(
        [(*point, what) for point, what in zip(POINTS, whats, strict=True)], _CHAINS_OF_THREE
    )
    scenes = [_OnThree(cluster.bootstrap_servers, **_SETTINGS) for _ in range(_CHAINS_OF_THREE)]

    def part() -> None:
        node = random.choice((1, 2, 3))
        links = random.choice([links_of(node), [link for link in links_of(node) if link[2] == "controller"]])
        cluster.cut(random.choice([links, random.sample(links, 1)]), silently=random.random() < 0.5)
        time.sleep(random.uniform(1, 8))
        cluster.mend()

    def settled() -> None:
        wait_until(lambda: all(live_nodes(node.port) == {1, 2, 3} for node in cluster.nodes))

    in_chains(scenes, fates, meanwhile(part, 4), settled)


def test_every_step_of_claim_and_drain_is_among_them() -> None:
    # A transfer's, and of commands that were known before.
    of_cancels = {"command", "command.tasks"}
    assert {step for step, *_ in (*CLAIM, *DRAIN)} == {
        step for step in mortal.STEPS if step in of_cancels or not step.startswith(("command", "guard."))
    }


@pytest.mark.parametrize("step", ["claim.end", "drain.end"])
def test_a_worker_that_is_started_again_waits_for_no_time_out_of_a_transaction(
    broker: EmbeddedBroker, step: str
) -> None:
    # 1. A worker dies with a transaction open; it has written to the ledger, whose readers wait there.
    # 2. Another one, or the same again, starts. It would read the ledger to its end before it does anything.
    # 3. Only what it does next, the fence, ends that transaction before its time-out.
    with Scene(broker.bootstrap_servers, **_SETTINGS) as scene:
        scene.put(400)
        scene.cancel("a")
        mortal.meets(scene.worker(*mortal.OPTIONS, variables=mortal.fate(step, "before")))
        assert scene.open_transactions() != []
        scene.worker()
        scene.done()
        assert scene.problems() == []
