"""The worker process: Kafka, the engine and the Faust app put together, from start to a clean end."""

import asyncio
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine
from tempfile import TemporaryDirectory
from typing import Any

from streams.children import end_with_parent
from streams.errors import Misconfigured, Unavailable, XferqError
from streams.kafka.cluster import Cluster
from streams.kafka.elections import require_clean_elections
from streams.kafka.layout import require_sound, require_topics
from streams.kafka.ledger_id import LedgerId
from streams.kafka.permissions import require_permissions
from streams.kafka.reachable import require_reachable
from streams.kafka.worker_group import require_one_version
from streams.lookup import believe
from streams.native.extension import native_of
from streams.settings.settings import Settings, load_settings
from streams.telemetry.health import Health
from streams.telemetry.logs import complain, set_up_logging
from streams.telemetry.metrics import NATIVE, show_health
from streams.telemetry.traces import close_traces, open_traces
from streams.worker.agents import AckQueue, create_app
from streams.worker.engine import Engine
from streams.worker.memory import tune_memory
from streams.worker.probes import Probes, serve_probes
from streams.worker.queue_watch import QueueWatch
from streams.worker.supervisor import CAN_T_START

_log = logging.getLogger(__name__)
CRASHED = 75
"""The exit status where another start may well help (EX_TEMPFAIL)."""
_EDGE_S = 5.0
"""How long work may take to its next edge after SIGTERM; the rest of the 10 s is for leaving the group."""
_STOP_S = 2.0
_START_S = 60.0
"""How long Faust may take to start: more, and it hangs."""
_TURN_S = 1.0
_LOOK_S = 2.0
"""The pause between two looks whether Kafka answers."""
_IDLE_LOOK_S = 5.0
"""The same where nothing has come for a while."""
_SOUND_S = 60.0
"""The pause between two looks whether the settings of topics are still what the guarantees rest on."""
_RENEW_S = 6 * 3600.0
"""The pause between two notes of which ledger this cluster has."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_END_S = 9.5
"""After so long a worker that was told to stop ends for sure."""
_TRACES_S = 2.0
"""How long the last spans may take, of the time that is left."""


def main() -> None:
    """One of a supervisor's processes; not for people."""
    end_with_parent()
    sys.exit(run_worker(load_settings()))


def run_worker(settings: Settings) -> int:
    """Run one worker process until SIGTERM or SIGINT; the exit status, `CAN_T_START` and `CRASHED` among others."""
    set_up_logging(settings.log_level, settings.log_format)
    tune_memory()
    try:
        refuse_optimised()
        native = native_of(settings)
        NATIVE.set(native is not None)
        _log.info("worker.starting native=%s", "no" if native is None else "yes")
        return asyncio.run(_run(settings))
    except XferqError as error:
        complain("xferq worker", error)
        return CAN_T_START
    except Exception:  # noqa: BLE001 - a bug, xferq's or Faust's: said, and told from what no start can mend
        _log.exception("worker.crashed")
        return CRASHED


def refuse_optimised() -> None:
    """`python -O` removes assertions, and aiokafka's guards against illegal states are assertions.

    Raises:
        Misconfigured: Python runs optimised.
    """
    if not __debug__:
        raise Misconfigured("don't run xferq with python -O or PYTHONOPTIMIZE: it disables safety checks")


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    open_traces(settings, "xferq-worker")
    ends_at = math.inf

    def told_to_stop() -> None:
        nonlocal ends_at
        if not stop.is_set():
            ends_at = loop.time() + _END_S
            _end_for_sure()
        stop.set()

    def on_signal(*_: object) -> None:
        loop.call_soon_threadsafe(told_to_stop)

    # Not by the loop's own handlers: it removes them as it closes, and a second SIGTERM would kill an orderly end.
    for number in _SIGNALS:
        signal.signal(number, on_signal)
    health = Health()
    probes = Probes(health)
    if settings.metrics_port:
        serve_probes(probes, settings.metrics_host, settings.metrics_port)
        show_health(health)
    turning = asyncio.create_task(_turn(probes))
    try:
        with _scratch_folder() as scratch:
            return await _work(settings, stop, health, scratch)
    finally:
        turning.cancel()
        await close_traces(min(_TRACES_S, max(0.0, ends_at - loop.time() - 0.2)))
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # this process ends


def _scratch_folder() -> "TemporaryDirectory[str]":
    """A folder for Faust, which wants one.

    Raises:
        Misconfigured: none can be made.
    """
    try:
        return TemporaryDirectory(prefix="xferq-worker-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Misconfigured(f"TMPDIR has to name a folder that can be written: {error.strerror}") from error


async def _turn(probes: Probes) -> None:
    while True:
        probes.turn()
        await asyncio.sleep(_TURN_S)


async def _work(settings: Settings, stop: asyncio.Event, health: Health, scratch: str) -> int:
    async with Cluster(settings) as kafka:
        health.lacks("kafka", f"still connecting to Kafka at {kafka.connection.bootstrap_servers}")
        health.lacks("group", f"waiting for a place in group {settings.worker_group}")
        engine = Engine(kafka, settings, health=health)
        acks = AckQueue()
        app = create_app(settings, engine, kafka.connection, acks, scratch)
        ledger_id = LedgerId(kafka, settings)
        starting = asyncio.create_task(_start(engine, app, kafka, settings, ledger_id))
        stopping = asyncio.create_task(stop.wait())
        looking: asyncio.Task[None] | None = None
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            _log.info("worker.started bootstrap=%s group=%s", kafka.connection.bootstrap_servers, settings.worker_group)
            looking = asyncio.create_task(_check(engine, kafka, settings, ledger_id))
            watching = asyncio.create_task(QueueWatch(kafka, settings, engine.owns_queue).run(lambda: engine.shares))
            crashing = asyncio.create_task(app.wait_until_stopped())
            await asyncio.wait([stopping, crashing, looking], return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
        else:
            starting.cancel()
        wrong = looking.exception() if looking is not None and looking.done() else None
        crashed = not stop.is_set() and wrong is None
        if crashed:
            _log.error("worker.crashed error=%r: Faust has ended by itself", app.crash_reason)
        if looking is not None:
            looking.cancel()
        _log.info("worker.stopping")
        engine.begin_stop()
        await asyncio.gather(acks.idle(_EDGE_S), engine.drains.idle(_EDGE_S), engine.pending.idle(_EDGE_S))
        if app.started and not await _ended(app.stop(), _STOP_S):
            _log.warning("worker.stopping: the group was not left in time")
        await _ended(engine.stop(), _STOP_S)
        _log.info("worker.stopped")
    if wrong is not None:
        raise wrong
    return CRASHED if crashed else 0


def _end_for_sure() -> None:
    """Kafka may hang, and with it what its libraries do at their end: then this process ends all the same.

    It may be cut off anywhere, as by a crash; what it leaves is taken over like everything else.
    """

    def cut_off() -> None:
        _log.warning("worker.cut_off")
        os._exit(CRASHED)

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


async def _start(engine: Engine, app: Any, kafka: Cluster, settings: Settings, ledger_id: LedgerId) -> None:
    """Start engine and app, waiting for Kafka as long as it takes.

    Raises:
        Misconfigured: a topic is missing, or is not as it must be.
        TimeoutError: Faust hangs.
    """
    said = ""
    while True:
        try:
            await require_reachable(kafka.connection)
            await require_permissions(kafka, settings, "worker")
            await require_topics(kafka, settings)
            await require_clean_elections(kafka.connection)
            await require_one_version(kafka, settings)
            await ledger_id.open(remember=True)
            await engine.start()
            await ledger_id.look()  # what was read is that topic's, and none that took its place meanwhile
            break
        except Unavailable as error:
            if str(error) != said:
                _log.warning("worker.waiting bootstrap=%s error=%s", kafka.connection.bootstrap_servers, error)
                said = str(error)
            engine.health.lacks("kafka", _no_answer(kafka, error))
            await asyncio.sleep(2)
    engine.health.has("kafka")
    async with asyncio.timeout(_START_S):
        await app.start()


async def _check(engine: Engine, kafka: Cluster, settings: Settings, ledger_id: LedgerId) -> None:
    """See again and again whether Kafka answers, also when there is nothing to do: the probes then tell in time.

    Raises:
        Misconfigured: the ledger is another one now, or topics have settings that the guarantees don't bear.
    """
    renewed = sound = time.monotonic()
    while True:
        try:
            await ledger_id.look()
            if time.monotonic() - renewed > _RENEW_S:
                await ledger_id.renew()
                renewed = time.monotonic()
            if time.monotonic() - sound > _SOUND_S:
                await _require_sound(kafka, settings)
                sound = time.monotonic()
            await engine.look()
        except Misconfigured:
            raise
        except XferqError as error:
            engine.health.lacks("kafka", _no_answer(kafka, await _reason(kafka, error)))
        else:
            engine.health.has("kafka")
        await asyncio.sleep(_IDLE_LOOK_S if engine.health.is_idle else _LOOK_S)


async def _require_sound(kafka: Cluster, settings: Settings) -> None:
    """See that topics' settings are still what the guarantees rest on; a broker may tell old ones for a while.

    Raises:
        Misconfigured: they are not, however often one looks.
    """

    async def check() -> None:
        await require_sound(kafka.connection, settings)
        await require_clean_elections(kafka.connection)

    await believe(check)


async def _reason(kafka: Cluster, error: XferqError) -> XferqError:
    """Why Kafka does not answer: Kafka's libraries don't say what is wrong with a certificate or a login."""
    try:
        await require_reachable(kafka.connection)
    except Unavailable as reason:
        return reason
    return error


def _no_answer(kafka: Cluster, error: XferqError) -> str:
    return f"Kafka at {kafka.connection.bootstrap_servers} (XFERQ_BOOTSTRAP_SERVERS): {error}"
