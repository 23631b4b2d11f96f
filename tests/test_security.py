"""What settings say of TLS and logins, and what of it is refused at the start; tokens that a command prints."""

import base64
import json
import logging
import os
import shlex
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as aio
from aiokafka.protocol.admin import SaslAuthenticateRequest

from api.embedded import with_kafka
from streams.errors import Misconfigured, Unavailable
from streams.kafka.security import Security
from streams.kafka.token_command import TokenCommand
from streams.settings.settings import Settings, load_settings
from streams.telemetry.logs import set_up_logging
from streams.worker.agents import _credentials
from streams.worker.supervisor import run_workers
from tests.api.processes import environment, xferq
from tests.broker.secured import KEY_PASSWORD, SECRET, Certificates, certificates, token_command

SASL = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "PLAIN", "kafka_username": "u"}
OAUTH = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_mechanism": "OAUTHBEARER"}
TLS = {"kafka_security_protocol": "SSL"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority and certificates."""
    return certificates(tmp_path_factory.mktemp("certificates"))


def security(**values: Any) -> Security:
    return Security(Settings(**values))


# ---- what goes together


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kafka_username": "u"}, "USERNAME is set, but XFERQ_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, without a login"),
        ({**TLS, "kafka_sasl_mechanism": "PLAIN"}, "SASL_MECHANISM is set, but XFERQ_KAFKA_SECURITY_PROTOCOL is SSL"),
        ({"kafka_ca_file": "x"}, "CA_FILE is set, but XFERQ_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, without TLS"),
        ({"kafka_check_hostname": False}, "CHECK_HOSTNAME is false, but XFERQ_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({**SASL, "kafka_password": SECRET, "kafka_key_file": "k"}, "KEY_FILE is set, but"),
        ({"kafka_security_protocol": "SASL_SSL"}, "SASL_MECHANISM is not set, but XFERQ_KAFKA_SECURITY_PROTOCOL is"),
        ({**SASL}, "PASSWORD (or XFERQ_KAFKA_PASSWORD_FILE) is not set, but XFERQ_KAFKA_SASL_MECHANISM is PLAIN"),
        ({**SASL, "kafka_username": None, "kafka_password": SECRET}, "USERNAME is not set, but"),
        ({**SASL, "kafka_password": SECRET, "kafka_token_command": "t"}, "TOKEN_COMMAND is set, but"),
        ({**SASL, "kafka_password": SECRET, "kafka_password_file": "f"}, "PASSWORD and XFERQ_KAFKA_PASSWORD_FILE are"),
        ({**OAUTH}, "TOKEN_COMMAND is not set, but XFERQ_KAFKA_SASL_MECHANISM is OAUTHBEARER"),
        ({**OAUTH, "kafka_token_command": "t", "kafka_password": SECRET}, "PASSWORD is set, but"),
        ({**OAUTH, "kafka_token_command": "'"}, "TOKEN_COMMAND: No closing quotation"),
        ({**OAUTH, "kafka_token_command": " "}, "TOKEN_COMMAND is empty"),
        ({**TLS, "kafka_key_file": "k"}, "KEY_FILE is set, but XFERQ_KAFKA_CERTIFICATE_FILE is not"),
        ({**TLS, "kafka_key_password": SECRET}, "KEY_PASSWORD is set, but XFERQ_KAFKA_CERTIFICATE_FILE is not"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        security(**values)
    assert str(caught.value).startswith(f"XFERQ_KAFKA_{text}")
    assert SECRET not in str(caught.value)


def test_what_is_no_protocol_or_mechanism(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERQ_KAFKA_SECURITY_PROTOCOL", "TLS")
    monkeypatch.setenv("XFERQ_KAFKA_SASL_MECHANISM", "GSSAPI")
    with pytest.raises(Misconfigured, match=r"XFERQ_KAFKA_SECURITY_PROTOCOL: .*'SASL_SSL'.*XFERQ_KAFKA_SASL_MECHANISM"):
        load_settings()


def test_the_embedded_kafka_has_neither() -> None:
    with pytest.raises(Misconfigured, match="XFERQ_KAFKA_SECURITY_PROTOCOL is SSL, but XFERQ_BOOTSTRAP_SERVERS names"):
        with_kafka(Settings(**TLS))  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [["api", "--port", "0"], ["worker", "--processes", "1"], ["queues"]])
def test_every_part_refuses_them_at_its_start(command: list[str], tmp_path: Path) -> None:
    env = environment({"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1", "XFERQ_KAFKA_PASSWORD": SECRET}, tmp_path)
    ended = xferq(*command, env=env, status=1)
    *_, line = ended.stderr.splitlines()  # a worker says first which mover it has
    assert line.endswith(
        ": XFERQ_KAFKA_PASSWORD is set, but XFERQ_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, without a login"
    )


# ---- files


def test_a_password_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f" {SECRET}\r\n")
    options = security(**SASL, kafka_password_file=file)
    assert options.aiokafka()["sasl_plain_password"] == options.librdkafka()["sasl.password"] == f" {SECRET}"


@pytest.mark.parametrize(("content", "text"), [(None, "No such file"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")])
def test_no_password_in_a_file(tmp_path: Path, content: bytes | None, text: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Misconfigured, match=f"^XFERQ_KAFKA_PASSWORD_FILE: {file}.* {text}"):
        security(**SASL, kafka_password_file=file)


def test_certificates(made: Certificates, tmp_path: Path) -> None:
    (tmp_path / "key-password").write_text(KEY_PASSWORD)
    ours = {"kafka_ca_file": made.ca, "kafka_certificate_file": made.client, "kafka_key_file": made.key}
    found = security(**TLS, **ours, kafka_key_password_file=tmp_path / "key-password")
    context = found.aiokafka()["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert len(context.get_ca_certs()) == 1
    assert found.librdkafka() == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(made.ca),
        "ssl.certificate.location": str(made.client),
        "ssl.key.location": str(made.key),
        "ssl.key.password": KEY_PASSWORD,
        "ssl.endpoint.identification.algorithm": "https",
    }
    both = security(**TLS, kafka_certificate_file=made.folder / "stranger.both.pem", kafka_check_hostname=False)
    assert both.librdkafka()["ssl.key.location"] == str(made.folder / "stranger.both.pem")
    assert both.librdkafka()["ssl.endpoint.identification.algorithm"] == "none"
    unchecked = both.aiokafka()["ssl_context"]
    assert (unchecked.check_hostname, unchecked.verify_mode) == (False, ssl.CERT_REQUIRED)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kafka_ca_file": "absent"}, "CA_FILE: .*absent: No such file"),
        ({"kafka_ca_file": "client.key"}, "CA_FILE: .*client.key holds no certificate in PEM"),
        ({"kafka_certificate_file": "absent"}, "CERTIFICATE_FILE: .*absent: No such file"),
        ({"kafka_certificate_file": "client.pem", "kafka_key_file": "absent"}, "KEY_FILE: .*absent: No such file"),
        ({"kafka_certificate_file": "client.pem", "kafka_key_file": "stranger.key"}, "KEY_FILE: .* is not the key of"),
        ({"kafka_certificate_file": "client.pem"}, "CERTIFICATE_FILE, XFERQ_KAFKA_KEY_FILE: .* don't hold"),
        ({"kafka_certificate_file": "client.pem", "kafka_key_file": "client.key"}, "KEY_PASSWORD: it does not open"),
        (
            {"kafka_certificate_file": "client.both.pem", "kafka_key_password": "wrong"},
            "KEY_PASSWORD: it does not open the key in .*client.both.pem",
        ),
    ],
)
def test_files_that_are_not_what_they_should_be(made: Certificates, values: dict[str, str], text: str) -> None:
    named = {name: value if name.endswith("password") else made.folder / value for name, value in values.items()}
    with pytest.raises(Misconfigured, match=f"^XFERQ_KAFKA_{text}"):
        security(**TLS, **named)


# ---- what shows


def test_nothing_shows_a_secret(made: Certificates) -> None:
    settings = Settings(**SASL, kafka_password=SECRET)
    for shown in (settings, Security(settings), _credentials(Security(settings).aiokafka())):
        assert SECRET not in repr(shown) + str(shown)


@pytest.mark.parametrize("name", ["kafka_password", "kafka_key_password"])
def test_a_child_reads_secrets_where_its_parent_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f"{name} = {json.dumps(SECRET)}")
    monkeypatch.setenv("XFERQ_CONFIG", str(file))
    started: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.extend(arguments))
    run_workers(load_settings(kafka_ca_file="a", log_meta=("x",)))
    _, command, variables = started
    assert not [word for word in (*variables.values(), *command) if SECRET in word]
    for variable, value in variables.items():
        if variable.startswith("XFERQ_"):
            monkeypatch.setenv(variable, value)
    child = load_settings()
    assert getattr(child, name).get_secret_value() == SECRET
    assert (child.kafka_ca_file, child.log_meta) == (Path("a"), ("x",))


def test_what_aiokafka_logs_of_a_login_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At DEBUG it logs every request."""
    before, level = logging.root.handlers[:], logging.root.level
    try:
        set_up_logging("DEBUG")
        seen: list[str] = []
        monkeypatch.setattr(logging.root.handlers[0], "emit", lambda record: seen.append(record.getMessage()))
        request = SaslAuthenticateRequest(SECRET.encode()).prepare({36: (0, 1)})
        assert "hunter2" in str(request)
        logging.getLogger("aiokafka.conn").debug("Request to %s: %s", "host", request)
        logging.getLogger("aiokafka.conn").debug("Request to %s: %s", "host", "another")
        assert seen == ["Request to host: another"]
    finally:
        logging.root.handlers[:] = before
        logging.root.setLevel(level)  # or pytest would keep every request of the tests that follow
        for name in ("aiokafka", "aiokafka.conn", "faust", "mode", "asyncio"):
            logging.getLogger(name).setLevel(logging.NOTSET)


# ---- tokens


class Clock:
    """The clock by which tokens expire; the commands that print them have the real one."""

    ahead_s = 0.0

    def time(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("streams.kafka.token_command.time", clock)
    return clock


def asked(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


async def test_a_token_is_used_until_shortly_before_its_end(tmp_path: Path, clock: Clock) -> None:
    log = tmp_path / "log"
    tokens = TokenCommand(token_command("me", 3_600.0, log))
    first, expires_at = tokens.current()
    claims = json.loads(base64.urlsafe_b64decode(first.split(".")[1] + "=="))
    assert claims["sub"] == "me"
    assert expires_at == claims["exp"]
    assert await tokens.token() == first
    assert tokens.for_librdkafka("") == (first, expires_at)
    assert asked(log) == 1
    clock.ahead_s = 3_000
    second, _ = tokens.current()
    assert second != first
    assert asked(log) == 2


async def test_a_command_that_fails_now_and_then(tmp_path: Path, clock: Clock) -> None:
    """The last token is good until its end; without one, each library is told in its own way."""
    flag = tmp_path / "fail"
    script = tmp_path / "script"
    script.write_text(token_command("me", 3_600.0))
    command = f"test -e {flag} && exit 3; . {script}"
    tokens = TokenCommand(shlex.join(["sh", "-c", command]))
    first, expires_at = tokens.current()
    flag.touch()
    clock.ahead_s = 3_000
    assert tokens.current() == (first, expires_at)
    clock.ahead_s = 7_200
    with pytest.raises(Unavailable, match=r"^the command has ended with status 3$"):
        tokens.current()
    with pytest.raises(aio.KafkaConnectionError, match="status 3"):
        await tokens.token()
    assert tokens.for_librdkafka("")[0] == "none"
    flag.unlink()
    script.write_text(token_command("me", 36_000.0))
    assert await tokens.token() != first


def test_a_token_that_does_not_tell_its_end() -> None:
    tokens = TokenCommand("echo opaque")
    before = time.time()
    value, expires_at = tokens.current()
    assert value == "opaque"
    assert before + 60 <= expires_at <= time.time() + 60


def test_a_command_is_run_without_a_shell() -> None:
    assert TokenCommand("echo $HOME").current()[0] == "$HOME"


def test_what_a_command_says_of_its_errors_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    program = f"import sys; sys.exit({SECRET!r})"
    with pytest.raises(Unavailable) as caught:
        TokenCommand(shlex.join([sys.executable, "-c", program])).current()
    assert str(caught.value) == "the command has ended with status 1"
    assert "hunter2" not in "".join(capfd.readouterr())
