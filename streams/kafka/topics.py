"""Topics and their offsets, through confluent-kafka's admin client."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from streams.concurrency.coalescer import Coalescer
from streams.concurrency.deadline import comes_true
from streams.errors import Unavailable, XferqError
from streams.kafka.answers import all_answered
from streams.kafka.connection import Connection
from streams.kafka.leaders import highest_epochs, require_latest
from streams.kafka.metadata import Told, ask_all
from streams.kafka.translate import not_permitted, translated, translating
from streams.ports import Topic

KEEPS_ALL = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""A queue keeps every message until it was dispatched or moved: Kafka must not drop any by age or size."""
CLEAN_ELECTIONS = {"unclean.leader.election.enable": "false"}
"""A replica that lacks records must not become the leader, whatever the brokers' own default is."""
_ANY_MS = str(2**63 - 1)
QUEUE_CONFIG = {
    **KEEPS_ALL,
    **CLEAN_ELECTIONS,
    # A message keeps its timestamp wherever it goes, however long it has lain: Kafka's own defaults, from 4.0 on, take
    # none from more than an hour ahead, and many a cluster none from before last week.
    "message.timestamp.before.max.ms": _ANY_MS,
    "message.timestamp.after.max.ms": _ANY_MS,
}
"""All that a queue topic should have."""
_VISIBLE_S = 15.0
_AT_ONCE = 1_000
"""Partitions created in one request. Kafka turns down 10,000 and more, and all of a request with them."""
_FOR_GOOD = {
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
}
"""Why a topic can't be created, now and later. All else may pass: no answer in time, no controller."""


class Topics:
    """Looks at topics, creates them, frees their space."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._timeout_s = connection.settings.request_timeout_ms / 1000
        self._looks = Coalescer(self._describe)

    @property
    def _admin(self) -> AdminClient:
        return self._connection.admin

    async def names(self) -> list[str]:
        """The names of all topics."""
        with self._connection.asking("listing topics"):
            metadata = await asyncio.to_thread(self._admin.list_topics, timeout=self._timeout_s)
        return list(metadata.topics)

    async def names_everywhere(self) -> list[str]:
        """The names of all topics that any broker knows: one that is cut off, or just started, may not know some."""
        doing = "listing the topics of all brokers"
        told, _ = await self._told(None, doing)
        if not told:
            raise Unavailable(f"{doing}: there is no answer")
        return sorted({name for one in told for name in one.ids})

    async def ids(self, name: str) -> set[str]:
        """The ids under which brokers know the topic; see `streams.ports.Topics.ids`."""
        doing = f"asking all brokers for topic {name}"
        told, silent = await self._told([name], doing)
        if silent or not told:
            raise Unavailable(f"{doing}: of {sorted(silent) or 'any'} there is no answer")
        return {one.ids[name] for one in told if name in one.ids}

    async def _told(self, topics: Collection[str] | None, doing: str) -> tuple[Sequence[Told], set[int]]:
        with translating(doing):
            async with asyncio.timeout(self._timeout_s):
                client = await self._connection.raw()
                return await ask_all(client, topics, self._timeout_s / 2)

    async def describe(self, name: str) -> Topic | None:
        """The topic with its id, or None where it does not exist; those who ask at once share a request."""
        return await self._looks.answer(name)

    async def _describe(self, names: Collection[str]) -> dict[str, Topic | Exception | None]:
        with self._connection.asking(f"looking at {len(names)} topics"):
            futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_s)
        found: dict[str, Topic | Exception | None] = {}
        for name, future in futures.items():
            try:
                found[name] = await self._described(name, future)
            except XferqError as error:
                found[name] = error
        return found

    async def _described(self, name: str, future: Any) -> Topic | None:
        with self._connection.asking(f"looking at topic {name}", f"Describe (or Read or Write) on topic {name}"):
            try:
                found = await asyncio.wrap_future(future)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
                raise
        return Topic(name, str(found.topic_id), len(found.partitions))

    async def is_shown(self, name: str, partitions: int) -> bool:
        """Whether a topic that was created or widened is known with so many partitions: waits a while for that."""

        async def is_known() -> bool:
            found = await self.describe(name)
            return found is not None and found.partitions == partitions

        return await comes_true(is_known, _VISIBLE_S, 0.02)

    async def create(
        self, wanted: Mapping[str, int], config: Mapping[str, str], replication_factor: int
    ) -> dict[str, str]:
        """Create topics (name to partition count) in few requests; why each failed that can't be created.

        Raises:
            Unavailable: some may have been created, and the others can be later.
        """
        topics = [NewTopic(name, count, replication_factor, config=dict(config)) for name, count in wanted.items()]
        failures: dict[str, str] = {}
        while topics:
            chunk = [topics.pop()]
            room = _AT_ONCE - chunk[0].num_partitions
            while topics and topics[-1].num_partitions <= room:
                room -= topics[-1].num_partitions
                chunk.append(topics.pop())
            failures |= await self._create(chunk)
        return failures

    async def _create(self, topics: list[NewTopic]) -> dict[str, str]:
        failures = {}
        with self._connection.asking(f"creating {len(topics)} topics"):
            futures = self._admin.create_topics(topics, operation_timeout=self._timeout_s)
            for name, future in futures.items():
                try:
                    await asyncio.wrap_future(future)
                except KafkaException as error:
                    code = error.args[0].code()
                    if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
                        failures[name] = not_permitted(f"Create on topic {name}")
                    elif code in _FOR_GOOD:
                        failures[name] = str(error.args[0].str())
                    elif code != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
        return failures

    async def is_free(self, name: str, replication_factor: int) -> bool:
        """Whether a topic of this name could be created, as far as names go: brokers pass this on to the controller.

        What else may stand in the way of that, the controller looks at only where there is no such topic.
        """
        needs = f"Create on topic {name}"
        with self._connection.asking(f"asking the controller for topic {name}", needs):
            wanted = NewTopic(name, 1, replication_factor)
            futures = self._admin.create_topics([wanted], operation_timeout=self._timeout_s, validate_only=True)
            try:
                await asyncio.wrap_future(futures[name])
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_ALREADY_EXISTS:
                    return False
                if code not in _FOR_GOOD:
                    raise
        return True

    async def config(self, name: str) -> dict[str, str]:
        """A topic's settings in force, defaults included."""
        found = await self.configs([name])
        if name not in found:
            raise Unavailable(f"reading the settings of topic {name}: it does not exist")
        return found[name]

    async def configs(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        """The settings in force of many topics in one request; topics that don't exist are left out."""
        if not names:
            return {}
        found = {}
        with self._connection.asking(f"reading the settings of {len(names)} topics"):
            resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
            futures = self._admin.describe_configs(resources, request_timeout=self._timeout_s)
            for resource, future in futures.items():
                try:
                    entries = await asyncio.wrap_future(future)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        doing = f"reading the settings of topic {resource.name}"
                        needs = f"DescribeConfigs (or AlterConfigs) on topic {resource.name}"
                        raise translated(error, doing, needs) from error
                else:
                    found[str(resource.name)] = {key: entry.value for key, entry in entries.items()}
        return found

    async def alter(self, name: str, config: Mapping[str, str]) -> None:
        """Change some of a topic's settings; the others stay."""
        changes = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
        with self._connection.asking(f"changing the settings of topic {name}", f"AlterConfigs on topic {name}"):
            futures = self._admin.incremental_alter_configs([resource], request_timeout=self._timeout_s)
            for future in futures.values():
                await asyncio.wrap_future(future)

    async def offsets(
        self, topic: str, partitions: Iterable[int], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[int, int]:
        """One offset per partition: the first one, or the end of what `isolation` lets a reader see."""
        return {p: offset for p, (offset, _) in (await self._offsets(topic, partitions, spec, isolation)).items()}

    async def _offsets(
        self, topic: str, partitions: Iterable[int], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[int, tuple[int, int]]:
        """The same, with the epochs of the leaders that have answered (-1 where it is not told)."""
        request = {TopicPartition(topic, partition): spec for partition in partitions}
        if not request:
            return {}
        with self._connection.asking(
            f"reading the offsets of topic {topic}", f"Describe (or Read or Write) on topic {topic}"
        ):
            futures = self._admin.list_offsets(request, isolation_level=isolation, request_timeout=self._timeout_s)
            await all_answered(futures.values())
            found = {}
            for where, future in futures.items():
                answer = future.result()
                if answer.offset < 0:  # librdkafka's "none" (-1001), with no error, where a leader gave no answer
                    raise Unavailable(f"reading the offsets of topic {topic}: none of partition {where.partition}")
                epoch = -1 if answer.leader_epoch is None else answer.leader_epoch
                found[where.partition] = int(answer.offset), int(epoch)
            return found

    async def starts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The lowest offsets that are still there."""
        return await self.offsets(topic, partitions, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)

    async def ends(
        self, topic: str, partitions: Iterable[int], *, stable: bool, latest_of: str | None = None
    ) -> dict[int, int]:
        """The last stable offsets, or the high watermarks; see `streams.ports.Log.stable_ends` for `latest_of`.

        A leader that is cut off goes on answering with the end that it knew at the cut:
        1. A new one is elected, under a higher epoch, and acknowledges messages; the old one does not know.
        2. A claimer asks the old one. The claim would leave out what the new one has acknowledged, without a word.
        So its epoch must be the highest that any broker tells, asked at the same time. The new leader is a replica, so
        all of those that are alive must have told; what comes after it has come after the call.
        """
        isolation = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
        if latest_of is None:
            return await self.offsets(topic, partitions, OffsetSpec.latest(), isolation)
        doing = f"reading the ends of topic {topic}"
        with self._connection.asking(doing):
            found, (told, silent) = await asyncio.gather(
                self._offsets(topic, partitions, OffsetSpec.latest(), isolation), self._told([topic], doing)
            )
            if others := {one.ids[topic] for one in told if topic in one.ids} - {latest_of}:
                raise Unavailable(f"{doing}: brokers know it under several ids ({latest_of}, {', '.join(others)})")
            require_latest(doing, {p: epoch for p, (_, epoch) in found.items()}, highest_epochs(topic, told), silent)
        return {partition: offset for partition, (offset, _) in found.items()}

    async def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Free what lies below `offsets`, by partition."""
        if not offsets:
            return
        with self._connection.asking(f"freeing space in topic {topic}", f"Delete on topic {topic}"):
            futures = self._admin.delete_records(
                [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()],
                request_timeout=self._timeout_s,
            )
            for future in futures.values():
                await asyncio.wrap_future(future)

    async def delete(self, names: Collection[str]) -> None:
        """Delete topics; those that don't exist are passed over."""
        if not names:
            return
        with self._connection.asking("deleting topics", f"Delete on topic {' and '.join(sorted(names))}"):
            for future in self._admin.delete_topics(list(names), operation_timeout=self._timeout_s).values():
                try:
                    await asyncio.wrap_future(future)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
