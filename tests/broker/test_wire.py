"""What really goes through Kafka agrees with the documents for other services."""

import json
from typing import Any

import jsonschema
from confluent_kafka.admin import ConfigResource, ResourceType

from streams.broker import EmbeddedBroker
from streams.kafka.connection import Connection
from streams.kafka.layout import apply_layout
from streams.settings.settings import Settings
from tests.broker.checker import Found
from tests.broker.scene import WAIT_S, Scene
from tests.broker.world import World
from tests.pages import ROOT
from tests.support.names import remove_topics
from tests.wire.schemas import document

ENVELOPE = jsonschema.Draft202012Validator(document("envelope"))
RESULT = jsonschema.Draft202012Validator(document("result"))
LOG_RECORD = jsonschema.Draft202012Validator(document("log-record"))
ASYNCAPI = json.loads((ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8"))
CHANNELS = ASYNCAPI["channels"]
LOG_HEADERS = jsonschema.Draft202012Validator(ASYNCAPI["components"]["messages"]["rebind"]["headers"])


def test_records_of_a_transfer_and_of_its_cancel(world: World) -> None:
    queue = world.queue()
    scheduled = f"mytenant@{queue.domain}"
    schedule = {"dow": "Mon,Tue,Wed,Thu,Fri,Sat,Sun", "tz": "Europe/Berlin", "start": "00:00", "end": "23:59:59"}
    put = queue.put(*queue.messages(20, tenant="mytenant", info={"schedule": schedule, "due": "2026-11-20T10:00:00Z"}))
    queue.cancelled()
    target = queue.name.removesuffix(".xfer.kumomta.internal")
    world.done(world.transfer(target, queue_names=[scheduled]))
    transferred = world.read(queue.topic)
    queue.cancelled(reason="a\nb")

    log: dict[bytes | None, list[Found]] = {message.key: [] for message in put}
    for record in world.records(world.settings.log_topic):
        if record.id in log:
            log[record.id].append(record)
    for records in log.values():
        assert len(records) == 3  # back, there, back
        for record in records:
            check_log_record(record)
    for record in world.records(world.settings.results_topic):
        check_result(record)
    restored = queue.restored("mytenant")
    assert len(restored) == len(transferred) == 20
    for message in [*restored, *transferred]:
        ENVELOPE.validate(message.envelope)


def check_log_record(record: Found) -> None:
    """Key, header and value as they are described."""
    value = json.loads(record.value or b"")
    LOG_RECORD.validate(value)
    assert list(value) == list(document("log-record")["$defs"]["AdminRebind"]["properties"])
    assert value["id"] == (record.id or b"").decode()
    headers = {name: (value or b"").decode() for name, value in record.headers}
    LOG_HEADERS.validate(headers)
    assert list(headers) == list(LOG_HEADERS.schema["properties"])
    assert headers["destination"] == value["queue"]


def check_result(record: Found) -> None:
    """Key and value as they are described."""
    value = json.loads(record.value or b"")
    RESULT.validate(value)
    assert value["id"] == (record.id or b"").decode()


async def test_the_topics_are_as_described(broker: EmbeddedBroker) -> None:
    scene = Scene(broker.bootstrap_servers)
    settings = Settings(
        **{
            **{name: value for name, value in scene.values.items() if name != "log_level"},
            "commands_topic": f"{scene.name}.described.commands",
            "log_topic": f"{scene.name}.described.log",
            "results_topic": f"{scene.name}.described.results",
            "drains_topic": f"{scene.name}.described.drains",
            "ledger_topic": f"{scene.name}.described.ledger",
            "commands_partitions": CHANNELS["commands"]["bindings"]["kafka"]["partitions"],
            "log_partitions": CHANNELS["deliveryLog"]["bindings"]["kafka"]["partitions"],
            "results_partitions": CHANNELS["results"]["bindings"]["kafka"]["partitions"],
        }
    )
    connection = Connection(settings)
    reports = await apply_layout(connection, settings)
    channels = {
        settings.commands_topic: "commands",
        settings.log_topic: "deliveryLog",
        settings.results_topic: "results",
    }
    assert channels.keys() <= {report.topic for report in reports if report.is_good}
    for topic, channel in channels.items():
        check_topic(scene, topic, CHANNELS[channel]["bindings"]["kafka"])
    remove_topics(scene.servers, scene.name)


def check_topic(scene: Scene, name: str, described: dict[str, Any]) -> None:
    """Its partitions and each of its settings that are described."""
    topic = scene.admin.list_topics(name, timeout=10).topics[name]
    assert len(topic.partitions) == described["partitions"]
    resource = ConfigResource(ResourceType.TOPIC, name)
    config = scene.admin.describe_configs([resource])[resource].result(WAIT_S)
    for key, value in described["topicConfiguration"].items():
        assert config[key].value == (",".join(value) if type(value) is list else json.dumps(value).strip('"')), key
