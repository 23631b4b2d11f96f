"""docs/production.md, typed in from its first line to its last, on three nodes with TLS, logins and ACLs."""

import mailbox
import os
import re
import shutil
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from streams.broker.ports import free_ports
from streams.domain.topic import topic_of
from tests.api.processes import environment
from tests.broker.kafka_scripts import kafka_scripts
from tests.broker.scene import wait_until
from tests.broker.secured import SECRET
from tests.broker.secured_cluster import ADMIN, SecuredCluster, secured_cluster
from tests.pages import ROOT, Reader, code_blocks, sections
from tests.support.patience import WAIT_S

PAGE = ROOT / "docs" / "production.md"
COUNT = 25
QUEUE = "mytenant@example.com"


@pytest.mark.cluster
def test_ten_steps(tmp_path: Path) -> None:
    steps = sections(PAGE)
    assert [title.partition("-")[0] for title in steps] == [str(number) for number in range(1, 11)]
    (users, acls, settings, topics, logins, api, worker, mail, cancel, watch) = (
        code_blocks(text) for text in steps.values()
    )
    folder = tmp_path / "etc"
    folder.mkdir()
    with secured_cluster(folder) as kafka, kafka_scripts() as scripts:
        prepare(kafka, folder)
        api_port, worker_port = free_ports(2)
        path = os.pathsep.join([str(scripts), str(Path(sys.executable).parent), os.environ["PATH"]])
        more = {"XFERQ_API_LISTEN_PORT": str(api_port), "XFERQ_METRICS_PORT": str(worker_port), "PATH": path}
        names = {
            "kafka-1:9093,kafka-2:9093,kafka-3:9093": kafka.secured_servers,
            "/etc/xferq": str(folder),
            "https://xfer.example.com:8000": f"https://127.0.0.1:{api_port}",
            "127.0.0.1:8001": f"127.0.0.1:{worker_port}",
        }
        (address,) = code_blocks(PAGE.read_text(encoding="utf-8").partition("\n## ")[0])
        (file,) = code_blocks(steps["3-settings"], "toml")
        reader = Reader(folder, environment(more, tmp_path), names)
        (folder / "xferq.toml").write_text(reader.text(file))
        # One session: what a step exports is there for those after it.
        said = address + settings[0].partition("\n")[0] + "\n"

        reader.types(said + users[0])
        reader.types(said + acls[0])
        assert re.search(r"bootstrap_servers +\S+ +\S+xferq.toml", reader.types(address + settings[0]))
        before = reader.types(said + topics[0])
        assert before.count("created") == 5
        reader.types(said + logins[0])
        with (
            in_the_background(reader, said + api[0], tmp_path / "api.log", "api.ready"),
            in_the_background(reader, said + worker[0], tmp_path / "worker.log", "worker.assigned"),
        ):
            assert f"{COUNT}" in reader.types(said + mail[0])
            polled = dispatches(kafka, folder)
            done = reader.types(said + mail[0].partition("\n")[0] + "\n" + cancel[0])
            assert re.search(r"(?s)first-cancel\b.*state: +done", done)
            assert f"restored:         {COUNT - polled}\n" in done
            assert "requested_by:     alice" in done
            assert done.count("AdminRebind") == 2 * (COUNT - polled)
            seen = reader.types(said + watch[0])
            assert 'xferq_http_requests_total{route="/api/admin/xfer/cancel/v1",status="200"} 1.0' in seen
            assert re.search(r'xferq_messages_total\{kind="xfer.cancel",outcome="moved"\} [1-9]', seen)
            assert seen.rstrip().endswith('{"status": "ok"}')
            # And nobody else gets in, anywhere.
            url = f"https://127.0.0.1:{api_port}"
            context = ssl.create_default_context(cafile=folder / "ca.pem")
            with httpx.Client(base_url=url, verify=context, trust_env=False) as stranger:
                assert stranger.get("/metrics").status_code == 401
            with pytest.raises(KafkaException):
                AdminClient(client(kafka, folder, "xferq-api", "wrong")).list_topics(timeout=2)


def prepare(kafka: SecuredCluster, folder: Path) -> None:
    """What the page takes for granted."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    change = UserScramCredentialUpsertion(ADMIN, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), _WORD)
    for future in admin.alter_user_scram_credentials([change]).values():
        future.result(WAIT_S)
    kafka.files.store("api", kafka.files.authority.issue_cert("127.0.0.1"))
    shutil.copy(ROOT / "deploy" / "topics.toml", folder / "topics.toml")
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    lines = [
        "security.protocol=SASL_SSL",
        "sasl.mechanism=SCRAM-SHA-512",
        f'sasl.jaas.config={module} required username="{ADMIN}" password="{_WORD.decode()}";',
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={folder / 'ca.pem'}",
    ]
    (folder / "admin.properties").write_text("\n".join(lines))
    box = mailbox.mbox(folder / "mail.mbox")
    for number in range(COUNT):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "s@example.net", f"u{number}@example.com", str(number)
        message.set_content("Hello")
        box.add(message)
    box.close()


_WORD = SECRET[:7].encode()


def client(kafka: SecuredCluster, folder: Path, user: str, password: str) -> dict[str, object]:
    """A client's settings."""
    return {
        "bootstrap.servers": kafka.secured_servers,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(folder / "ca.pem"),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": password,
        "log_level": 0,
    }


def dispatches(kafka: SecuredCluster, folder: Path) -> int:
    """A dispatcher sends one message, as the user that the page makes for it; how many that were."""
    password = (folder / "kafka-dispatcher").read_text().strip()
    topic = topic_of(QUEUE)
    options = {
        "group.id": f"xferq.dispatch.{topic}",
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
    }
    consumer = Consumer(client(kafka, folder, "xferq-dispatcher", password) | options)
    consumer.subscribe([topic])
    found: list[object] = []
    wait_until(lambda: (message := consumer.poll(1)) is not None and not message.error() and not found.append(message))
    consumer.commit(asynchronous=False)
    consumer.close()
    return len(found)


@contextmanager
def in_the_background(reader: Reader, block: str, log: Path, until: str) -> Iterator[None]:
    """Type in what does not end by itself, and wait until it says that it works; it ends in order with the block."""
    with log.open("wb") as out:
        process = reader.starts(block, out)
    try:
        wait_until(lambda: until in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield
        process.terminate()
        assert process.wait(WAIT_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    except BaseException:
        print(log.read_text()[-5000:])
        raise
    finally:
        process.kill()
        process.wait()


def test_the_short_list_is_of_these_steps() -> None:
    page = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?m)^\d+\. \[.*\]\(production\.md#([\w-]+)\): (.*)$", page)
    steps = sections(PAGE)
    assert [anchor for anchor, _ in listed] == list(steps)
    for anchor, text in listed:
        for words in re.findall(r"`([^`]+)`", text):
            assert words in steps[anchor], words
