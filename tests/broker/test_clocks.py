"""Clocks that are wrong, or jump forward, at a worker or at the broker; with libfaketime, where it is installed."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from streams.broker import EmbeddedBroker
from streams.kafka.layout import INTERNAL_CONFIG
from tests.broker import checker
from tests.broker.moments import in_the_middle, left_over
from tests.broker.scene import WAIT_S, Scene, wait_until

pytestmark = pytest.mark.nodes

_SMALL = {"transaction_messages": 5}
_DAY_S = 86_400
_PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime", "/opt/homebrew/lib/faketime")


def library() -> str:
    """Where libfaketime is; the test is skipped where it is not."""
    found = [path for place in _PLACES for path in Path("/").glob(f"{place[1:]}/libfaketimeMT.so.1")]
    if not found:
        pytest.skip("libfaketime is not installed (Debian: apt-get install libfaketime)")
    return str(found[0])


def clock(control: Path, ahead_s: int) -> dict[str, str]:
    """The environment of a process whose clock is so far ahead; the file sets it anew at any time."""
    control.write_text(f"+{ahead_s}")
    return {
        "LD_PRELOAD": library(),
        "FAKETIME_TIMESTAMP_FILE": str(control),
        "FAKETIME_CACHE_DURATION": "1",  # in seconds: the file is looked at that often
        # What a process waits for goes on as ever: it is the clock on the wall that is wrong.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # with it, Java does not get on
    }


def logged_hours(scene: Scene) -> list[float]:
    """When messages were moved, by the records of the delivery log, in hours from now."""
    records = checker.read(scene.servers, [scene.settings.log_topic])[scene.settings.log_topic]
    moments = [json.loads(record.value or b"")["timestamp"] for record in records]
    return [(moment - datetime.now().timestamp()) / 3600 for moment in moments]


def brokers_hours(scene: Scene) -> float:
    """The broker's clock, as it stamps a record, in hours from now."""
    stamped: list[int] = []
    topic = NewTopic("clock", 1, config={"message.timestamp.type": "LogAppendTime"})
    scene.admin.create_topics([topic])["clock"].result(WAIT_S)
    producer = Producer({"bootstrap.servers": scene.servers, "log_level": 0})
    producer.produce("clock", b"", on_delivery=lambda _, message: stamped.append(message.timestamp()[1]))
    assert producer.flush(WAIT_S) == 0
    return (stamped[0] / 1000 - datetime.now().timestamp()) / 3600


def own_topics_as_laid_out(scene: Scene) -> None:
    """Give xferq's own topics the settings that `xferq topics` gives them; a scene has others."""
    settings = scene.settings
    for role, topic in (
        ("commands", settings.commands_topic),
        ("drains", settings.drains_topic),
        ("ledger", settings.ledger_topic),
        ("log", settings.log_topic),
    ):
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in INTERNAL_CONFIG[role].items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
        for future in scene.admin.incremental_alter_configs([resource]).values():
            future.result(WAIT_S)


def test_a_worker_whose_clock_is_two_months_ahead(broker: EmbeddedBroker, tmp_path: Path) -> None:
    # Far beyond the 30 days for which commands are kept: what ends now has ended long ago, to that worker.
    with Scene(broker.bootstrap_servers, **_SMALL, space_s=0.5) as scene:
        own_topics_as_laid_out(scene)
        right = scene.worker()
        ahead = scene.worker(variables=clock(tmp_path / "clock", 60 * _DAY_S))
        wait_until(lambda: ahead.assigned == right.assigned == 6)
        for number in range(8):
            scene.put(100)
            scene.cancel(f"c{number}", partition=number % 4)
        scene.done()
        assert scene.problems() == []
        assert max(logged_hours(scene)) > 59 * 24
        assert "drain.finished" in ahead.log
        assert ahead.is_running


def test_a_workers_clock_that_jumps_in_the_middle_of_a_drain(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        own_topics_as_laid_out(scene)
        scene.put(1200)
        control = tmp_path / "clock"
        worker = scene.worker(variables=clock(control, 0)).started()
        scene.cancel("a")
        in_the_middle(scene)
        control.write_text(f"+{_DAY_S}")
        assert left_over(scene) > 0
        scene.put(100)
        scene.cancel("b")
        scene.done()
        assert scene.problems() == []
        hours = logged_hours(scene)
        assert min(hours) < 1 < 23 < max(hours)
        assert worker.is_running


def test_a_brokers_clock_that_jumps_in_the_middle_of_a_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A day and a half: by then Kafka forgets a producer's last numbers, and every transaction has timed out.
    control = tmp_path / "clock"
    variables: Mapping[str, str] = clock(control, 0)
    with monkeypatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        broker = EmbeddedBroker(tmp_path / "broker")
        broker.start()
    try:
        with Scene(broker.bootstrap_servers, **_SMALL) as scene:
            scene.put(1200)
            worker = scene.worker().started()
            scene.cancel("a")
            in_the_middle(scene)
            control.write_text(f"+{36 * 3600}")
            assert left_over(scene) > 0
            scene.put(100)
            scene.cancel("b")
            scene.done()
            assert scene.problems() == []
            assert worker.is_running
            assert brokers_hours(scene) > 35
    finally:
        broker.kill()
