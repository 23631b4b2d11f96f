"""The worker process: Kafka, the engine and the Faust app put together, from start to a clean end."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client import start_http_server

from streams.agents import Handoff, create_app
from streams.engine import Engine
from streams.errors import Misconfigured, Unavailable, XferqError
from streams.kafka.cluster import Cluster
from streams.logs import set_up_logging
from streams.settings import Settings

_log = logging.getLogger(__name__)
_EDGE_S = 5.0
"""How long work may take to its next edge after SIGTERM; the rest of the 10 s is for leaving the group."""
_STOP_S = 2.0
_END_S = 9.5
"""After so long a worker that was told to stop ends for sure."""


def run_worker(settings: Settings, *, supervised: bool = False) -> int:
    """Run one worker process until SIGTERM or SIGINT; the exit status.

    A supervised one also ends when its standard input does: when its supervisor is gone, even by kill -9.
    """
    set_up_logging()
    # A drain makes many objects that live for one batch: with Python's own threshold the collector would look
    # at all of them hundreds of times a second, and find nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        refuse_optimised()
        return asyncio.run(_run(settings, supervised))
    except XferqError as error:
        print(f"xferq worker: {error}", file=sys.stderr)
        return 1


def refuse_optimised() -> None:
    """`python -O` removes assertions, and aiokafka's guards against illegal states are assertions.

    Raises:
        Misconfigured: Python runs optimised.
    """
    if not __debug__:
        raise Misconfigured("don't run xferq with python -O or PYTHONOPTIMIZE: it disables safety checks")


async def _run(settings: Settings, supervised: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if supervised:

        def orphaned() -> None:
            loop.remove_reader(sys.stdin.fileno())
            told_to_stop()

        loop.add_reader(sys.stdin.fileno(), orphaned)

    def told_to_stop() -> None:
        if not stop.is_set():
            _end_for_sure()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port, addr="127.0.0.1")
        except OSError as error:
            raise Misconfigured(
                f"XFERQ_METRICS_PORT: port {settings.metrics_port} can't be listened on: {error}"
            ) from error
    with TemporaryDirectory(prefix="xferq-worker-") as scratch:
        return await _work(settings, stop, scratch)


async def _work(settings: Settings, stop: asyncio.Event, scratch: str) -> int:
    async with Cluster(settings) as kafka:
        engine = Engine(kafka, settings)
        handoff = Handoff()
        app = create_app(settings, engine, kafka.connection.bootstrap_servers, handoff, scratch)
        starting = asyncio.create_task(_start(engine, app, kafka, settings))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            _log.info("worker.started bootstrap=%s group=%s", kafka.connection.bootstrap_servers, settings.worker_group)
            crashing = asyncio.create_task(app.wait_until_stopped())
            await asyncio.wait([stopping, crashing], return_when=asyncio.FIRST_COMPLETED)
        else:
            starting.cancel()
        crashed = not stop.is_set()
        _log.info("worker.stopping")
        engine.begin_stop()
        await handoff.idle(_EDGE_S)
        if app.started and not await _ended(app.stop(), _STOP_S):
            _log.warning("worker.stopping: the group was not left in time")
        await _ended(engine.stop(), _STOP_S)
        _log.info("worker.stopped")
    return 1 if crashed else 0


def _end_for_sure() -> None:
    """Kafka may hang, and with it what its libraries do at their end: then this process ends all the same.

    It may be cut off anywhere, as by a crash; what it leaves is taken over like everything else.
    """

    def cut_off() -> None:
        _log.warning("worker.cut_off")
        os._exit(1)

    timer = threading.Timer(_END_S, cut_off)
    timer.daemon = True
    timer.start()


async def _ended(work: Coroutine[Any, Any, Any], within_s: float) -> bool:
    """Whether the work ended within the time; not waited for any longer, not even for its being cancelled."""
    task = asyncio.create_task(work)
    done, _ = await asyncio.wait([task], timeout=within_s)
    if not done:
        task.cancel()
    elif not task.cancelled() and (error := task.exception()) is not None:
        _log.info("worker.stopping error=%r", error)
    return bool(done)


async def _start(engine: Engine, app: Any, kafka: Cluster, settings: Settings) -> None:
    """Start engine and app, waiting for Kafka as long as it takes.

    Raises:
        Misconfigured: a topic is missing, or has another number of partitions than the settings say.
    """
    said = False
    while True:
        try:
            await _check_topics(kafka, settings)
            await engine.start()
            break
        except Unavailable as error:
            if not said:
                _log.warning("worker.waiting bootstrap=%s error=%s", kafka.connection.bootstrap_servers, error)
                said = True
            await asyncio.sleep(2)
    await app.start()


async def _check_topics(kafka: Cluster, settings: Settings) -> None:
    for name, setting, partitions in (
        (settings.commands_topic, "COMMANDS", settings.commands_partitions),
        (settings.drains_topic, "DRAINS", settings.drains_partitions),
        (settings.ledger_topic, "LEDGER", settings.ledger_partitions),
        (settings.log_topic, "LOG", None),
    ):
        topic = await kafka.topic(name)
        if topic is None:
            raise Misconfigured(f"topic {name} (XFERQ_{setting}_TOPIC) does not exist: create it with `xferq topics`")
        if partitions is not None and topic.partitions != partitions:
            raise Misconfigured(
                f"topic {name} has {topic.partitions} partitions, but XFERQ_{setting}_PARTITIONS is {partitions}"
            )
