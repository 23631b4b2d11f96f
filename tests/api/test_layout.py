"""The topics' layout: created, compared, put right, refused where it would break a guarantee."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from streams.domain.ledger_partitions import partition_of_record
from streams.domain.topic import topic_of
from streams.errors import Misconfigured
from streams.kafka.cluster import Cluster
from streams.kafka.layout import Layout, TopicReport, apply_layout, read_layout, require_topics
from streams.kafka.topics import Topics
from streams.settings.settings import Settings
from tests.support.patience import WAIT_S, deadline

ROOT = Path(__file__).parent.parent.parent


async def reports_of(
    kafka: Cluster, settings: Settings, *topics: str, layout: Layout | None = None, check: bool = False
) -> dict[str, TopicReport]:
    """What applying the layout says about these topics: other tests have topics on the broker as well."""
    found = await apply_layout(kafka.connection, settings, layout, check=check)
    return {report.topic: report for report in found if report.topic in topics}


def internal(settings: Settings) -> list[str]:
    return [settings.commands_topic, settings.drains_topic, settings.ledger_topic, settings.log_topic]


async def seen(kafka: Cluster, topic: str) -> None:
    """Until the broker shows a topic that the controller has made."""
    async with asyncio.timeout(WAIT_S):
        while await kafka.topic(topic) is None:
            await asyncio.sleep(0.02)


async def test_missing_topics_are_created(settings: Settings) -> None:
    names = internal(settings)
    async with Cluster(settings) as kafka:
        found = await reports_of(kafka, settings, *names, check=True)
        assert {name: report.outcome for name, report in found.items()} == dict.fromkeys(names, "missing")
        with pytest.raises(Misconfigured, match=r"XFERQ_COMMANDS_TOPIC\) does not exist"):
            await require_topics(kafka, settings)

        found = await reports_of(kafka, settings, *names)
        assert {name: report.outcome for name, report in found.items()} == dict.fromkeys(names, "created")
        await require_topics(kafka, settings)
        found = await reports_of(kafka, settings, *names)
        assert {name: report.outcome for name, report in found.items()} == dict.fromkeys(names, "ok")

        configs = await Topics(kafka.connection).configs(names)
        assert [configs[name]["cleanup.policy"] for name in names] == ["delete", "delete", "compact", "delete"]
        assert configs[settings.commands_topic]["retention.ms"] == str(7 * 86_400_000)
        counts = [(await kafka.topic(name)).partitions for name in names]  # type: ignore[union-attr]
        assert counts == [2, 2, 6, 2]


# Others run `xferq topics` on the same Kafka, which puts all queues' settings right.
@pytest.mark.alone
async def test_what_differs_is_reported_and_put_right(settings: Settings, kafka: Cluster, queue: str) -> None:
    topic, topics = topic_of(queue), Topics(kafka.connection)
    config = {"retention.ms": "1000", "cleanup.policy": "delete", "segment.ms": "5000"}
    await topics.create({topic: 1}, config | {"message.timestamp.after.max.ms": str(2**63 - 1)}, -1)
    await seen(kafka, topic)
    await topics.alter(settings.ledger_topic, {"cleanup.policy": "delete"})

    drift = await reports_of(kafka, settings, topic, settings.ledger_topic, check=True)
    assert drift[topic].outcome == drift[settings.ledger_topic].outcome == "drift"
    assert drift[topic].details == ("retention.ms is 1000, should be -1",)
    assert drift[settings.ledger_topic].details == ("cleanup.policy is delete, should be compact",)
    assert (await topics.config(topic))["retention.ms"] == "1000"  # only looked at

    changed = await reports_of(kafka, settings, topic, settings.ledger_topic)
    assert changed[topic].details == ("retention.ms: 1000 -> -1",)
    assert all(report.is_good for report in changed.values())
    assert await _settled(topics, topic, "retention.ms", "-1")
    assert (await topics.config(topic))["segment.ms"] == "5000"  # somebody's own, and no concern of ours
    assert await _settled(topics, settings.ledger_topic, "cleanup.policy", "compact")


async def _settled(topics: Topics, topic: str, key: str, value: str) -> bool:
    """Whether the setting gets there: a broker takes a moment to learn of it."""
    end = deadline()
    while (await topics.config(topic))[key] != value:
        if end.is_over:
            return False
        await asyncio.sleep(0.05)
    return True


async def test_a_partition_count_that_must_not_differ(settings: Settings, kafka: Cluster) -> None:
    more = settings.model_copy(update={"drains_partitions": 7, "log_partitions": 7})
    found = await reports_of(kafka, more, *internal(settings))
    assert found[settings.drains_topic].outcome == "drift"
    assert "has 2 partitions, but XFERQ_DRAINS_PARTITIONS is 7" in found[settings.drains_topic].details[0]
    assert found[settings.log_topic].is_good  # a log may have as many as its owner likes
    with pytest.raises(Misconfigured, match="XFERQ_DRAINS_PARTITIONS is 7"):
        await require_topics(kafka, more)


async def test_a_ledger_of_an_earlier_version_gets_its_partitions_once_no_worker_is_left(settings: Settings) -> None:
    count = settings.ledger_partitions
    async with Cluster(settings) as kafka:
        assert await Topics(kafka.connection).create({settings.ledger_topic: count}, {}, -1) == {}
        await seen(kafka, settings.ledger_topic)
        worker = Consumer(
            {"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.worker_group, "log_level": 0}
        )
        worker.subscribe([settings.ledger_topic])
        await asyncio.to_thread(worker.poll, 0)
        async with asyncio.timeout(WAIT_S):
            while not await kafka.members(settings.worker_group):
                await asyncio.to_thread(worker.poll, 0.1)
        found = await reports_of(kafka, settings, settings.ledger_topic)
        assert found[settings.ledger_topic].outcome == "drift"
        assert "stop all workers, then run `xferq topics`" in found[settings.ledger_topic].details[0]
        await asyncio.to_thread(worker.close)

        await apply_layout(kafka.connection, settings, check=True)
        with pytest.raises(Misconfigured, match="the topic is one of an earlier version"):
            await require_topics(kafka, settings)
        found = await reports_of(kafka, settings, settings.ledger_topic)
        assert found[settings.ledger_topic].outcome == "changed"
        assert found[settings.ledger_topic].details[0] == f"{2 * count} partitions, instead of {count}"
        await apply_layout(kafka.connection, settings)
        await require_topics(kafka, settings)


async def test_a_ledger_whose_setting_has_been_doubled_is_left_alone(settings: Settings, kafka: Cluster) -> None:
    count = settings.ledger_partitions
    for key in ("drained/queue.x/0/a", "head/queue.x/0", "command/a"):
        where = partition_of_record(key.encode(), b"{}", count)
        await kafka.publish(settings.ledger_topic, [(key.encode(), b"{}")], partition=where)
    doubled = settings.model_copy(update={"ledger_partitions": 2 * count})
    with pytest.raises(Misconfigured, match=rf"the setting has been another one, perhaps {count}\."):
        await apply_layout(kafka.connection, doubled)
    await require_topics(kafka, settings)


async def test_a_topic_that_can_not_be_created(settings: Settings) -> None:
    impossible = settings.model_copy(update={"replication_factor": 9})
    async with Cluster(impossible) as kafka:
        found = await reports_of(kafka, impossible, *internal(settings))
    assert {report.outcome for report in found.values()} == {"failed"}
    assert all("can't be created" in report.details[0] for report in found.values())


async def test_more_settings_from_a_file(settings: Settings, kafka: Cluster, queue: str, tmp_path: Path) -> None:
    file = tmp_path / "topics.toml"
    file.write_text('[log]\n"retention.ms" = 1234567\n[queues]\n"min.insync.replicas" = 1\n"segment.ms" = 60000\n')
    topic = topic_of(queue)
    await kafka.create([topic])
    await seen(kafka, topic)
    found = await reports_of(kafka, settings, topic, settings.log_topic, layout=read_layout(file))
    assert [report.outcome for report in found.values()] == ["changed", "changed"]
    topics = Topics(kafka.connection)
    assert await _settled(topics, settings.log_topic, "retention.ms", "1234567")
    assert await _settled(topics, topic, "segment.ms", "60000")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[queues]\n"retention.ms" = 1000', "retention.ms must be -1"),
        ('[queues]\n"cleanup.policy" = "compact"', "cleanup.policy must be delete"),
        ('[ledger]\n"cleanup.policy" = "compact,delete"', "cleanup.policy must be compact"),
        ("[commands]\nretention.ms = 1000", "needs quotes"),
        ('[commands]\n"retention.ms" = []', "not a string, number or boolean"),
        ('[nonsense]\n"retention.ms" = 1', "is none of"),
        ("queues = 5", "is none of"),
        ("[queues", "not valid TOML"),
        ("\u00e4".encode("latin-1"), "not valid TOML"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, text: str | bytes, what: str) -> None:
    file = tmp_path / "topics.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(Misconfigured) as caught:
        read_layout(file)
    assert what in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_file_in_deploy() -> None:
    layout = read_layout(ROOT / "deploy" / "topics.toml")
    assert {config["min.insync.replicas"] for config in layout.config.values()} == {"2"}
    for role, config in Layout().config.items():  # says nothing else than the code, and more
        assert config.items() <= layout.config[role].items()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        read_layout(tmp_path / "nope.toml")
