"""The least permissions, as docs/acls.md lists them: the whole job runs with these, and misses each one in words.

Each part logs in as a user of its own, on a broker that permits nothing but what an ACL says.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
)
from confluent_kafka.admin import ResourceType as Kind

from api.app import create_app
from streams.claim.heads import read_claimed
from streams.commands.command_record import CommandRecord
from streams.domain.depth import Depth
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.topic import topic_of
from streams.errors import XferqError
from streams.kafka.acls import HOLD_TOPIC, Acl, Part, acl_tables, acls
from streams.kafka.cluster import Cluster
from streams.kafka.connection import Connection
from streams.kafka.dispatcher import Dispatcher
from streams.kafka.layout import apply_layout
from streams.kafka.ledger_id import LedgerId
from streams.settings.settings import Settings
from streams.worker.engine import Engine
from streams.worker.process import _check, _start
from streams.worker.queue_watch import QueueWatch
from tests.api.running import CANCEL, START, until_ready
from tests.api.running import running as serving
from tests.broker import checker
from tests.broker.scene import Scene, wait_until
from tests.broker.secured import Secured
from tests.broker.test_security import COUNT, done, inject, never
from tests.pages import ROOT, between
from tests.support.examples import some
from tests.support.patience import WAIT_S, deadline, stretched_ms

pytestmark = pytest.mark.nodes

_log = logging.getLogger(__name__)

_KINDS = {"topic": Kind.TOPIC, "group": Kind.GROUP, "transactional-id": Kind.TRANSACTIONAL_ID}
_OPERATIONS = {operation.name.replace("_", "").lower(): operation for operation in AclOperation}


def binding(acl: Acl) -> AclBinding:
    """Kafka's words for a permission."""
    return AclBinding(
        _KINDS[acl.resource],
        acl.name,
        ResourcePatternType.PREFIXED if acl.is_prefix else ResourcePatternType.LITERAL,
        f"User:{acl.part}",
        "*",
        _OPERATIONS[acl.operation.lower()],
        AclPermissionType.ALLOW,
    )


@contextmanager
def granted(secured: Secured, wanted: Iterable[Acl]) -> Iterator[None]:
    """Within the block these are all permissions that there are, and the broker knows it."""
    admin = AdminClient({"bootstrap.servers": secured.plain, "log_level": 0})
    bindings = [binding(acl) for acl in wanted]
    anything = AclBindingFilter(
        Kind.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )

    def known() -> int:
        return len(admin.describe_acls(anything).result(WAIT_S))

    for future in admin.create_acls(bindings).values():
        future.result(WAIT_S)
    wait_until(lambda: known() == len(bindings))
    try:
        yield
    finally:
        for future in admin.delete_acls([anything]).values():
            future.result(WAIT_S)
        wait_until(lambda: known() == 0)


class Stage:
    """Topics of one installation, and the settings of each part's user for it."""

    def __init__(self, secured: Secured, **values: Any) -> None:
        self.secured = secured
        # Less to wait for: fewer drains, and for what a worker that was stopped anywhere has left open.
        self.values = {
            "queue_partitions": 2,
            "space_s": 0.3,
            "hold_ms": 0,
            "transaction_timeout_ms": stretched_ms(5_000, 900_000),
            **values,
        }
        self.scene = Scene(secured.plain, **self.values, **secured.login("PLAIN", "worker"))
        self.acls = acls(self.scene.settings)

    def settings(self, part: Part) -> Settings:
        """For a part's user."""
        names = {name: value for name, value in self.scene.values.items() if name != "log_level"}
        return Settings(**{**names, **self.secured.login("PLAIN", part)})

    def cluster(self, part: Part) -> Cluster:
        """Kafka as a part's user sees it."""
        return Cluster(self.settings(part))


def test_the_page_is_made_of_the_table() -> None:
    page = between("acls", (ROOT / "docs" / "acls.md").read_text(encoding="utf-8"))
    assert page == acl_tables(Settings()).strip(), "put the output of `python -m streams.kafka.acls` into docs/acls.md"


async def test_the_whole_job(secured: Secured) -> None:
    """With exactly what the table says, and nobody is turned away anywhere."""
    stage = Stage(secured)
    scene = stage.scene
    queue = f"t@{scene.name}.example"
    log = secured.broker.log_path
    with granted(secured, stage.acls):
        before = len(log.read_text())
        async with stage.cluster("operator") as kafka:
            reports = await apply_layout(kafka.connection, stage.settings("operator"))
            assert all(report.is_good for report in reports), reports
            await inject(kafka, queue, COUNT)
        worker = scene.worker().started()
        guest = Consumer(
            {
                **Connection(stage.settings("dispatcher")).librdkafka("guest"),
                "group.id": scene.settings.group_of(topic_of(queue)),
                "group.protocol": "consumer",
            }
        )
        guest.subscribe([topic_of(queue)])
        await asyncio.to_thread(guest.poll, 0.5)
        async with stage.cluster("dispatcher") as kafka, serving(create_app(stage.settings("api"))) as client:
            asked = {"reason": "r", "queue_names": [queue], "target": f"http://{scene.name}.invalid/"}
            await done(client, START, asked)
            guest.close()
            dispatcher = Dispatcher(kafka.connection, scene.topic, scene.group, send=never)
            await dispatcher.join()
            status = await done(client, CANCEL, {"reason": "r", "queue_name": scene.queue})
            await dispatcher.stop()
        assert (status["total"], status["restored"]) == (COUNT, COUNT)
        async with stage.cluster("operator") as kafka:
            found = await kafka.depths(
                await read_claimed(kafka, kafka.settings), lambda topic: topic == topic_of(queue)
            )
        assert [item.depth for item in found] == [Depth(COUNT, True)]
        assert len(await asyncio.to_thread(read_log, stage)) == COUNT * 2
        freed = checker.log_ends(secured.plain, scene.topic)
        await asyncio.to_thread(wait_until, lambda: checker.log_starts(secured.plain, scene.topic) == freed)
        worker.terminate()
        assert worker.wait() == 0
        assert "does not permit" not in worker.log
        assert "unchecked" not in worker.log
        ours = [line for line in log.read_text()[before:].splitlines() if "is Denied" in line]
    assert ours == []


def read_log(stage: Stage) -> list[dict[str, Any]]:
    """The delivery log and the results, as one reads them in a group of one's own; the log's records."""
    settings = stage.settings("reader")
    options = {"group.id": "xferq-reader", "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    consumer = Consumer({**Connection(settings).librdkafka("reader"), **options})
    consumer.subscribe([settings.log_topic, settings.results_topic])
    states = set()
    found: list[dict[str, Any]] = []
    end = deadline()
    try:
        while (len(found) < COUNT * 2 or "done" not in states) and not end.is_over:
            message = consumer.poll(0.2)
            if message is not None:
                assert message.error() is None, message.error()
                value = json.loads(message.value())
                if message.topic() == settings.log_topic:
                    found.append(value)
                else:
                    states.add(value["state"])
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return found


# ---- one is missing


@pytest.fixture(scope="module")
def standing(secured: Secured) -> Stage:
    """One installation for many, with its topics."""
    stage = Stage(secured)
    stage.scene.__enter__()
    return stage


_NAMED = acls(
    Settings(
        commands_topic="commands",
        drains_topic="drains",
        ledger_topic="ledger",
        log_topic="log",
        results_topic="results",
        worker_group="w",
    )
)
_OURS = some([(number, acl) for number, acl in enumerate(_NAMED) if acl.part != "reader"])


@pytest.mark.parametrize("number", [number for number, _ in _OURS], ids=[f"{acl.part}: {acl}" for _, acl in _OURS])
async def test_what_is_said_where_one_is_missing(
    secured: Secured, standing: Stage, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the operation, and on what."""
    caplog.set_level(logging.INFO)
    part = _NAMED[number].part
    stage = Stage(secured) if part == "operator" else standing
    missing = stage.acls[number]

    def is_said() -> bool:
        return any(
            "does not permit" in line and missing.operation in line and f"{missing.resource} {missing.name}" in line
            for line in caplog.text.splitlines()
        )

    with granted(secured, [acl for acl in stage.acls if acl.part == part and acl != missing]):
        await _AT_WORK[part](stage, missing, is_said)
    assert is_said(), caplog.text


IsSaid = Callable[[], bool]


async def until(is_said: IsSaid) -> None:
    """Wait until it is, or for so long that it won't be."""
    end = deadline()
    while not is_said() and not end.is_over:
        await asyncio.sleep(0.02)


@contextmanager
def saying() -> Iterator[None]:
    """What ends the block is said in the log, as the command line and a worker's end say it."""
    try:
        yield
    except XferqError as error:
        _log.info("%s", error)


async def _api(stage: Stage, missing: Acl, is_said: IsSaid) -> None:
    async with serving(create_app(stage.settings("api")), is_ready=False) as client:
        if missing.is_prefix:
            await until_ready(client)
            answer = await client.post(CANCEL, json={"queue_name": stage.scene.queue, "reason": "r"})
            _log.info("%s", answer.text)
        await until(is_said)


class _Alone:
    """In the place of Faust, which shares the work of many out: here is one, and the test gives it its work."""

    async def start(self) -> None:
        pass


async def _worker(stage: Stage, missing: Acl, is_said: IsSaid) -> None:
    """A worker in this process, with a queue of its own."""
    scene = Stage(stage.secured, **{name: stage.scene.values[name] for name in _SHARED}).scene
    settings = scene.settings
    async with AsyncExitStack() as stack:
        stack.enter_context(saying())
        kafka = await stack.enter_async_context(Cluster(settings))
        engine = Engine(kafka, settings)
        stack.push_async_callback(engine.stop)
        ledger_id = LedgerId(kafka, settings)
        await _start(engine, _Alone(), kafka, settings, ledger_id)
        engine.take_shares(range(settings.commands_partitions), range(settings.drains_partitions))
        await asyncio.to_thread(scene.create, {scene.topic: settings.queue_partitions})
        scene.put(8)
        if missing.name == HOLD_TOPIC:
            stack.callback((await asyncio.to_thread(guest_of, scene)).close)
        command: dict[str, Any] = {"id": scene.name, "reason": "r"}
        if missing.name == "xferq.command.":
            target = scene.queue.removesuffix(XFER_SUFFIX)
            command |= {"type": "xfer.start", "target": target, "queue_names": ["a@b.example"]}
        else:
            command |= {"type": "xfer.cancel", "queue_name": scene.queue}
        moment = int(time.time() * 1000)
        record = CommandRecord(settings.commands_topic, 0, 0, moment, json.dumps(command).encode())
        watch = QueueWatch(kafka, settings, engine.owns_queue).run(lambda: engine.shares)
        looks = _check(engine, kafka, settings, ledger_id)
        tasks = [asyncio.create_task(work) for work in (looks, watch, engine.on_command(record, lambda: True))]
        await until(is_said)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_SHARED = (
    "commands_topic",
    "drains_topic",
    "ledger_topic",
    "log_topic",
    "results_topic",
    "worker_group",
    "group_template",
)


def guest_of(scene: Scene) -> Consumer:
    """A dispatcher of the new protocol, which has its place in the queue's group."""
    options = {"bootstrap.servers": scene.servers, "group.id": scene.group, "group.protocol": "consumer"}
    consumer = Consumer(options)
    consumer.subscribe([scene.topic])
    wait_until(lambda: consumer.poll(0.1) is None and consumer.assignment())
    return consumer


async def _operator(stage: Stage, missing: Acl, is_said: IsSaid) -> None:
    """`xferq topics`, where there are none, or others than there should be; `inject`, and `queues`."""
    if missing.operation == "AlterConfigs":
        await asyncio.to_thread(stage.scene.__enter__)
    async with stage.cluster("operator") as kafka:
        with saying():
            for report in await apply_layout(kafka.connection, kafka.settings):
                _log.info("%s", report)
        with saying():
            await inject(kafka, f"t@{stage.scene.name}.example", 1)
        with saying():
            await kafka.depths(await read_claimed(kafka, kafka.settings), lambda _: True)


async def _dispatcher(stage: Stage, missing: Acl, is_said: IsSaid) -> None:
    async with stage.cluster("dispatcher") as kafka:
        with saying():
            dispatcher = Dispatcher(kafka.connection, stage.scene.topic, stage.scene.group, send=never)
            await dispatcher.join()
            dispatcher.work()
            await asyncio.sleep(1)
            await dispatcher.stop()


_AT_WORK = {"api": _api, "worker": _worker, "operator": _operator, "dispatcher": _dispatcher}


@pytest.mark.parametrize("resource", ["topic", "group"])
def test_a_reader_without_one_of_its_permissions_gets_nothing(secured: Secured, standing: Stage, resource: str) -> None:
    """Which is anybody's own consumer: what is said is Kafka's."""
    own = [acl for acl in standing.acls if acl.part == "reader" and acl.resource != resource]
    with granted(secured, own), pytest.raises(AssertionError, match=f"{resource.upper()}_AUTHORIZATION_FAILED"):
        read_log(standing)
    # Where the test of the whole job looks for those who were turned away.
    assert "Principal = User:reader is Denied" in secured.broker.log_path.read_text()
