"""TLS and logins on the real broker: the whole job in each way, and what is said where one is turned away."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from api.app import create_app
from api.injection import Message, open_injector
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.connection import Connection
from streams.kafka.contents import read_contents
from streams.kafka.dispatcher import Dispatcher
from streams.kafka.layout import apply_layout
from streams.kafka.reachable import require_reachable
from streams.settings.settings import Settings
from tests.api.processes import environment, xferq
from tests.api.running import CANCEL, START, until_missing
from tests.api.running import running as serving
from tests.broker.scene import Scene
from tests.broker.secured import KEY_PASSWORD, SECRET, Secured, token_command
from tests.support.patience import deadline

COUNT = 40
SECRETS = (SECRET, KEY_PASSWORD)


def way_in(secured: Secured, name: str) -> dict[str, Any]:
    """The settings for a way to log in, named as tests are."""
    if name == "TLS":
        return secured.certificate()
    mechanism, _, tls = name.partition(" over ")
    return secured.login(mechanism, tls=bool(tls))


WAYS = ("PLAIN", "SCRAM-SHA-256", "TLS", "SCRAM-SHA-512 over TLS", "OAUTHBEARER over TLS")


@pytest.mark.parametrize("way", WAYS)
async def test_the_whole_job(secured: Secured, way: str) -> None:
    """Each of our clients logs in: the admin, producers, consumers, Faust, the holder in a group, a dispatcher."""
    scene = Scene(secured.plain, **way_in(secured, way))
    settings = scene.settings
    queue = f"t@{scene.name}.example"
    async with Cluster(settings) as kafka:
        await apply_layout(kafka.connection, settings)
        await kafka.create([scene.topic])
        await inject(kafka, queue, COUNT)
        worker = scene.worker().started()
        dispatcher = Dispatcher(kafka.connection, scene.topic, scene.group, send=never)
        guest = Consumer(
            {
                "bootstrap.servers": secured.plain,
                "group.id": settings.group_of(topic_of(queue)),
                "group.protocol": "consumer",
                "log_level": 0,
            }
        )
        guest.subscribe([topic_of(queue)])
        await asyncio.to_thread(guest.poll, 0.5)
        try:
            async with serving(create_app(settings)) as client:
                asked = {"reason": "r", "queue_names": [queue], "target": f"http://{scene.name}.invalid/"}
                await done(client, START, asked)
                await dispatcher.join()  # a member of the group, which is evicted and held
                status = await done(client, CANCEL, {"reason": "r", "queue_name": scene.queue})
        finally:
            guest.close()
            await dispatcher.stop()
        assert (status["total"], status["restored"], status["returned"]) == (COUNT, COUNT, 0)
        found = await asyncio.to_thread(read_contents, kafka.connection, {topic_of(queue): {}, settings.log_topic: {}})
    # The queue's records from before may or may not have been freed by now.
    assert {record.key for record in found[topic_of(queue)]} == {b"%d" % number for number in range(COUNT)}
    types = [json.loads(record.value or b"")["type"] for record in found[settings.log_topic]]
    assert types == ["AdminRebind"] * COUNT * 2
    assert not [secret for secret in SECRETS if secret in worker.log]
    worker.terminate()
    assert worker.wait() == 0


async def inject(kafka: Cluster, queue: str, count: int) -> None:
    """Put messages into a queue."""
    envelope = {
        "sender": "s@example.com",
        "recipient": f"u@{queue.partition('@')[2]}",
        "meta": {"queue": queue},
        "num_attempts": 0,
        "created": "2026-11-20T10:00:00Z",
        "due": None,
        "schedule": None,
    }
    async with await open_injector(kafka, queue) as injector:
        await injector.write([Message(str(number), b"x", json.dumps(envelope).encode()) for number in range(count)])


async def done(client: Any, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for it, and wait until it is done; its status."""
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    id = answer.headers["X-Command-Id"]
    end = deadline()
    while (status := (await client.get(f"{CANCEL}/{id}")).json())["state"] != "done":
        assert status["state"] != "refused", status
        end.check(lambda: status)
        await asyncio.sleep(0.05)
    found: dict[str, Any] = status
    return found


async def never(_: object) -> None:
    """Takes a message for sending, and has not sent it."""
    raise AssertionError


# ---- who is turned away


NOT_OURS = {"kafka_certificate_file": None, "kafka_key_file": None, "kafka_key_password": None}


def wrong(secured: Secured, case: str) -> dict[str, Any]:
    """Settings with one mistake."""
    plain, tls = secured.login("PLAIN"), secured.login("PLAIN", tls=True)
    scram, token = secured.login("SCRAM-SHA-256"), secured.login("OAUTHBEARER")
    certificate, files = secured.certificate(), secured.certificates.folder
    open_, tls_address = {"bootstrap_servers": secured.plain}, {"bootstrap_servers": secured.address("TLS")}
    localhost = {"bootstrap_servers": secured.address("TLS").replace("127.0.0.1", "localhost")}
    return {
        "password": plain | {"kafka_password": "wrong"},
        "password of SCRAM": scram | {"kafka_password": "wrong"},
        "user of SCRAM": scram | {"kafka_username": "nobody"},
        "no login": {"bootstrap_servers": secured.address("SASL")},
        "no login over TLS": certificate | {"bootstrap_servers": secured.address("SASLTLS")},
        "a login where there is none": plain | open_,
        "no TLS": {**tls_address},
        "no TLS but a login": plain | {"bootstrap_servers": secured.address("SASLTLS")},
        "TLS where there is none": tls | open_,
        "another authority": certificate | {"kafka_ca_file": str(files / "other-ca.pem")},
        "the system's authorities": certificate | {"kafka_ca_file": None},
        "another host": certificate | localhost,
        "no certificate": certificate | NOT_OURS,
        "a stranger's certificate": certificate
        | NOT_OURS
        | {"kafka_certificate_file": str(files / "stranger.both.pem")},
        "a command that fails": token | {"kafka_token_command": "false"},
        "no such command": token | {"kafka_token_command": "/no/such command"},
        "what is no token": token | {"kafka_token_command": "echo two words"},
        "a token of nobody's": token | {"kafka_token_command": "echo opaque"},
        "an old token": token | {"kafka_token_command": token_command("mailer", -1)},
    }[case]


PASSWORD = "(XFERQ_KAFKA_USERNAME, XFERQ_KAFKA_PASSWORD or XFERQ_KAFKA_PASSWORD_FILE)"  # noqa: S105 - a setting's name
PROTOCOL = "XFERQ_KAFKA_SECURITY_PROTOCOL is"
CERTIFICATE = "(XFERQ_KAFKA_CERTIFICATE_FILE, XFERQ_KAFKA_KEY_FILE)"
TOKEN = "(XFERQ_KAFKA_TOKEN_COMMAND)"  # noqa: S105 - a setting's name
TURNED_AWAY = {
    "password": ("it turns the login down: Authentication failed: Invalid username or password", PASSWORD),
    "password of SCRAM": ("it turns the login down: ", PASSWORD),
    "user of SCRAM": ("it turns the login down: ", PASSWORD),
    "no login": ("it closes the connection: it wants a login, but", f"{PROTOCOL} PLAINTEXT"),
    "no login over TLS": ("it closes the connection: it wants a login, but", f"{PROTOCOL} SSL"),
    "a login where there is none": ("it wants no login, but", f"{PROTOCOL} SASL_PLAINTEXT"),
    "no TLS": ("it wants TLS, but", f"{PROTOCOL} PLAINTEXT"),
    "no TLS but a login": ("it wants TLS, but", f"{PROTOCOL} SASL_PLAINTEXT"),
    "TLS where there is none": ("it closes the connection: it may want no TLS, but", f"{PROTOCOL} SASL_SSL"),
    "another authority": ("its certificate is not trusted: unable to get local issuer", "(XFERQ_KAFKA_CA_FILE)"),
    "the system's authorities": ("its certificate is not trusted: ", "(XFERQ_KAFKA_CA_FILE)"),
    "another host": (
        "its certificate is for another host: ",
        "(XFERQ_BOOTSTRAP_SERVERS, XFERQ_KAFKA_CHECK_HOSTNAME)",
    ),
    "no certificate": ("it does not take our certificate, or wants one: ", CERTIFICATE),
    "a stranger's certificate": ("it does not take our certificate, or wants one: ", CERTIFICATE),
    "a command that fails": ("the login by OAUTHBEARER fails: the command has ended with status 1", TOKEN),
    "no such command": ("the login by OAUTHBEARER fails: the command can't be run: No such file", TOKEN),
    "what is no token": ("the login by OAUTHBEARER fails: what the command prints is no token", TOKEN),
    "a token of nobody's": ("it turns the login down", TOKEN),
    "an old token": ("the login by OAUTHBEARER fails: the command prints a token that has expired", TOKEN),
}


@pytest.mark.parametrize("case", TURNED_AWAY)
async def test_who_is_turned_away_learns_which_setting_it_is(secured: Secured, case: str) -> None:
    why, setting = TURNED_AWAY[case]
    connection = Connection(Settings(**wrong(secured, case)))
    with pytest.raises(Unavailable) as caught:
        await require_reachable(connection)
    text = str(caught.value)
    assert text.startswith(f"can't reach Kafka at {connection.bootstrap_servers}: {why}")
    assert text.endswith(setting)
    assert not [secret for secret in SECRETS if secret in text]


async def test_a_host_that_is_not_to_be_checked(secured: Secured) -> None:
    values = wrong(secured, "another host") | {"kafka_check_hostname": False}
    async with Cluster(Settings(**values)) as kafka:
        await require_reachable(kafka.connection)
        await kafka.topics()  # librdkafka's own check


async def test_a_token_that_ends_while_clients_are_at_work(secured: Secured, tmp_path: Path) -> None:
    log = tmp_path / "log"
    values = secured.login("OAUTHBEARER") | {"kafka_token_command": token_command("mailer", 3, log)}
    async with Cluster(Settings(**values)) as kafka:
        await require_reachable(kafka.connection)
        await kafka.topics()
        await asyncio.sleep(3.5)
        await require_reachable(kafka.connection)
        await kafka.topics()
        async with Cluster(kafka.settings) as other:  # with connections of its own
            await other.topics()
    assert len(log.read_text().splitlines()) >= 3


@pytest.mark.parametrize("case", ["password", "no TLS", "another authority"])
async def test_worker_api_and_command_line_say_it(secured: Secured, case: str, tmp_path: Path) -> None:
    """It may be let in later: worker and api wait, and say so. The command line ends."""
    values = wrong(secured, case)
    why = TURNED_AWAY[case][0]
    variables = {f"XFERQ_{name.upper()}": str(value) for name, value in values.items()}
    ended = await asyncio.to_thread(xferq, "queues", env=environment(variables, tmp_path), status=1)
    assert ended.stderr.startswith("xferq: can't reach Kafka at")
    assert why in ended.stderr
    scene = Scene(secured.plain, **values)
    worker = scene.worker()
    try:
        async with serving(create_app(scene.settings), is_ready=False) as client:
            await until_missing(client, why)
        await asyncio.to_thread(worker.waits_for, why)
    finally:
        worker.close()
