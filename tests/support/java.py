"""Kafka nodes that start in a third of the time: from Java's ahead-of-time cache, made once by a node that has run.

A run of the tests starts some hundred nodes, and most of the processor time of one that lives for seconds goes into
loading and compiling the same classes. (JEP 483 and 514; where Java has no such thing, or finds the cache unfit, it
starts as always. The cache lies in .venv.)
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from streams.broker import EmbeddedBroker, data_folder, node
from streams.broker.jars import kafka_jars
from streams.broker.java import java_command, java_executable

_MAINS = ("kafka.Kafka", "kafka.tools.StorageTool")
_QUICK = "-XX:TieredStopAtLevel=1"
"""Most nodes live for seconds, and Java's second compiler would take longer than what it compiles is run for."""
_STOP_S = 120.0
"""The cache is written as the node ends, which takes a while."""


def _cache_of(main_class: str, jars: Sequence[Path]) -> Path:
    java = java_executable()
    parts = [_QUICK, str(java), str(java.stat().st_mtime_ns), *(str(jar) for jar in jars)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return Path(sys.prefix) / "kafka-aot" / f"{main_class}-{key}.aot"


def _starting(option: str) -> None:
    """From now on nodes of this process are started with this option and the cache's file in it."""

    def command(main_class: str, jars: Sequence[Path], *, heap_mb: int, options: Sequence[str]) -> list[str]:
        cache = _cache_of(main_class, jars)
        more = [f"{option}={cache}"] if option.endswith("Output") or cache.exists() else []
        return java_command(main_class, jars, heap_mb=heap_mb, options=[_QUICK, *more, *options])

    node.java_command = command
    data_folder.java_command = command


def start_from_cache() -> None:
    """Let nodes of this process start from the cache, if there is one."""
    _starting("-XX:AOTCache")


def make_cache() -> None:
    """Make the cache, unless there is one; takes half a minute."""
    jars = kafka_jars(lambda text: print(f"[{text}]", flush=True))
    if all(_cache_of(main, jars).exists() for main in _MAINS):
        return
    print("[making Java's cache of Kafka's classes: half a minute, once]", flush=True)
    _cache_of(_MAINS[0], jars).parent.mkdir(exist_ok=True)
    _starting("-XX:AOTCacheOutput")
    broker = EmbeddedBroker()
    broker.start()
    broker.stop(_STOP_S)
    start_from_cache()
