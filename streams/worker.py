"""The worker process: Kafka, the engine and the Faust app put together, from start to a clean end."""

import asyncio
import gc
import logging
import signal
import sys

from prometheus_client import start_http_server

from streams.agents import Handoff, create_app
from streams.engine import Engine
from streams.errors import Misconfigured, Unavailable, XferqError
from streams.kafka.cluster import Cluster
from streams.logs import set_up_logging
from streams.settings import Settings

_log = logging.getLogger(__name__)
_EDGE_S = 6.0
"""How long work may take to its next edge after SIGTERM; the rest of the 10 s is for leaving the group."""
_STOP_S = 3.0


def run_worker(settings: Settings, *, supervised: bool = False) -> int:
    """Run one worker process until SIGTERM or SIGINT; the exit status.

    A supervised one also ends when its standard input does: when its supervisor is gone, even by kill -9.
    """
    refuse_optimised()
    set_up_logging()
    # A drain makes many objects that live for one batch: with Python's own threshold the collector would look
    # at all of them hundreds of times a second, and find nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
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
            stop.set()

        loop.add_reader(sys.stdin.fileno(), orphaned)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port, addr="127.0.0.1")
        except OSError as error:
            raise Misconfigured(
                f"XFERQ_METRICS_PORT: port {settings.metrics_port} can't be listened on: {error}"
            ) from error
    async with Cluster(settings) as kafka:
        engine = Engine(kafka, settings)
        handoff = Handoff()
        if not await _start_engine(engine, kafka, settings, stop):
            return 0
        app = create_app(settings, engine, kafka.connection.bootstrap_servers, handoff)
        await app.start()
        _log.info("worker.started bootstrap=%s group=%s", kafka.connection.bootstrap_servers, settings.worker_group)
        stopped = asyncio.ensure_future(app.wait_until_stopped())
        await asyncio.wait([asyncio.ensure_future(stop.wait()), stopped], return_when=asyncio.FIRST_COMPLETED)
        crashed = not stop.is_set()
        _log.info("worker.stopping")
        engine.begin_stop()
        await handoff.idle(_EDGE_S)
        try:
            async with asyncio.timeout(_STOP_S):
                await app.stop()
        except TimeoutError:
            _log.warning("worker.stopping: the group was not left in time")
        await engine.stop()
        _log.info("worker.stopped")
    return 1 if crashed else 0


async def _start_engine(engine: Engine, kafka: Cluster, settings: Settings, stop: asyncio.Event) -> bool:
    """Start the engine, waiting for Kafka as long as it takes; False where we were told to stop meanwhile.

    Raises:
        Misconfigured: a topic is missing, or has another number of partitions than the settings say.
    """
    said = False
    while not stop.is_set():
        try:
            await _check_topics(kafka, settings)
            await engine.start()
        except Unavailable as error:
            if not said:
                _log.warning("worker.waiting bootstrap=%s error=%s", kafka.connection.bootstrap_servers, error)
                said = True
            try:
                async with asyncio.timeout(2):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            return True
    return False


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
