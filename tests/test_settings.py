"""Settings: which source wins, what is refused and in what words, what is never shown."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from streams.errors import InvalidSettings
from streams.settings import work
from streams.settings.settings import Settings, load_settings, load_with_origins
from tests.api.processes import environment, xferq

SECRET = "hunter2-5f0c"  # noqa: S105 - of nothing


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("XFERQ_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file that is in force; empty at first."""
    path = tmp_path / "xferq.toml"
    path.touch()
    monkeypatch.setenv("XFERQ_CONFIG", str(path))
    return path


# ---- which one wins


def test_the_order_of_the_sources(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**flags: object) -> tuple[int, str]:
        settings, origins = load_with_origins(**flags)
        return settings.worker_processes, origins["worker_processes"]

    default = Settings().worker_processes
    assert found() == (default, "default")
    file.write_text("worker_processes = 5\n")
    assert found() == (5, str(file))
    monkeypatch.setenv("XFERQ_WORKER_PROCESSES", "6")
    assert found() == (6, "XFERQ_WORKER_PROCESSES")
    assert found(worker_processes=7) == (7, "--processes")
    assert found(worker_processes=None) == (6, "XFERQ_WORKER_PROCESSES")


def test_a_file_may_hold_every_setting(file: Path) -> None:
    values = {name: value for name, value in load_settings().shown().items() if value is not None}
    values |= {"settle_ms": 17, "log_meta": ["a", "b"], "api_trusted_hosts": ["10.0.0.0/8"], "worker_processes": 3}
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    settings, origins = load_with_origins()
    assert {name: settings.shown()[name] for name in values} == values
    assert {origins[name] for name in values} == {str(file)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ()), ("a", ("a",)), ("a, b", ("a", "b")), ('["a", "b,c"]', ("a", "b,c")), ("[]", ())],
)
def test_a_list_is_json_or_has_commas(monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]) -> None:
    monkeypatch.setenv("XFERQ_LOG_META", text)
    assert load_settings().log_meta == expected


def test_trusting_nobody_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [str(network) for network in load_settings().api_trusted_hosts] == ["127.0.0.0/8", "::1/128"]
    monkeypatch.setenv("XFERQ_API_TRUSTED_HOSTS", "")
    assert load_settings().api_trusted_hosts == ()


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERQ_API_USERS_FILE", "")
    assert load_settings().api_users_file is None


# ---- what is refused

WRONG: list[tuple[str, Any, str]] = [
    ("settle_ms", "x", "integer"),
    ("settle_ms", "-1", "greater than or equal to 0"),
    ("compression", "rar", "zstd"),
    ("group_template", "{x}", "{topic}"),
    ("log_level", "loud", "WARNING"),
    ("log_meta", "[1", "JSON list"),
    ("node_id", "me", "UUID"),
    ("api_trusted_hosts", "10.0.0.1/8", "host bits"),
    ("api_trusted_hosts", "here", "'here'"),
    ("api_listen_port", "65536", "65535"),
    ("bootstrap_servers", "", "host:port"),
    ("bootstrap_servers", "kafka", "'kafka' is not host:port"),
    ("bootstrap_servers", "", "'' is not host:port"),
    ("bootstrap_servers", "127.0.0.1:x", "'127.0.0.1:x' is not host:port"),
    ("bootstrap_servers", "127.0.0.1:99999", "'127.0.0.1:99999' is not host:port"),
    ("bootstrap_servers", "a:1,,b:2", "'' is not host:port"),
    ("bootstrap_servers", "a:1,::1:9092", "'::1:9092' is not host:port; an IPv6 address is in brackets"),
    ("api_names", "xfer.example,http://xfer.example", "'http://xfer.example' is no host"),
    ("api_names", "*.example", "wildcard"),
    ("api_unknown_fields", "allow", "refuse"),
]


@pytest.mark.parametrize(("name", "value", "what"), WRONG)
def test_a_wrong_value_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str) -> None:
    monkeypatch.setenv(f"XFERQ_{name.upper()}", value)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert str(caught.value).startswith(f"XFERQ_{name.upper()}: ")
    assert what in str(caught.value)


@pytest.mark.parametrize(("name", "value", "what"), WRONG)
def test_a_wrong_value_in_the_file(file: Path, name: str, value: str, what: str) -> None:
    file.write_text(f"{name} = {json.dumps(value)}\n")
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert str(caught.value).startswith(f"{name} in {file} ")
    assert what in str(caught.value)


def test_a_wrong_value_on_the_command_line() -> None:
    with pytest.raises(InvalidSettings, match=r"^--processes: "):
        load_settings(worker_processes=0)


def test_all_that_is_wrong_is_named_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('hold_ms = "y"\n')
    monkeypatch.setenv("XFERQ_SETTLE_MS", "x")
    with pytest.raises(InvalidSettings, match=rf"XFERQ_SETTLE_MS: .*; hold_ms in {file}"):
        load_settings()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"api_tls_cert": "c"}, "XFERQ_API_TLS_KEY"),
        ({"api_tls_key": "k"}, "XFERQ_API_TLS_CERT"),
        ({"api_tls_client_ca": "a"}, "XFERQ_API_TLS_CERT"),
        ({"client_user": "u"}, "XFERQ_CLIENT_PASSWORD"),
        ({"client_password": SECRET}, "XFERQ_CLIENT_USER"),
    ],
)
def test_halves_that_go_together(values: dict[str, str], what: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(**values)
    assert what in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("settel_ms = 1\n", "there is no such thing as a setting settel_ms; settle_ms?"),
        ("SETTLE_MS = 1\n", "a setting SETTLE_MS; settle_ms?"),
        ("[api]\nurl = 1\n", "a table [api]"),
        ("settle_ms = \n", "not valid TOML"),
        ("\u00e4".encode("latin-1"), "not valid TOML"),
    ],
)
def test_a_file_that_is_wrong(file: Path, text: str | bytes, what: str) -> None:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert str(file) in str(caught.value)
    assert what in str(caught.value)


def test_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERQ_CONFIG", str(tmp_path / "nope.toml"))
    with pytest.raises(InvalidSettings, match=r"nope\.toml can't be read: No such file"):
        load_settings()


@pytest.mark.parametrize("name", ["XFERQ_SETTEL_MS", "xferq_settel_ms", "XFERQ_", "XFERQ_API_PORT"])
def test_a_variable_that_there_is_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(InvalidSettings, match=f"no setting {name} ") as caught:
        load_settings()
    assert SECRET not in str(caught.value)


def test_what_kubernetes_tells_of_a_service_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("XFERQ", "XFERQ_API"):
        for name, value in {
            "SERVICE_HOST": "10.0.0.1",
            "SERVICE_PORT": "8000",
            "SERVICE_PORT_HTTP": "8000",
            "PORT": "tcp://10.0.0.1:8000",
            "PORT_8000_TCP": "tcp://10.0.0.1:8000",
            "PORT_8000_TCP_PROTO": "tcp",
            "PORT_8000_TCP_PORT": "8000",
            "PORT_8000_TCP_ADDR": "10.0.0.1",
        }.items():
            monkeypatch.setenv(f"{service}_{name}", value)
    assert load_settings() == Settings()


# ---- as people see it


@pytest.mark.parametrize(
    "arguments",
    [
        ["api"],
        ["worker"],
        ["up"],
        ["demo"],
        ["config"],
        ["queues"],
        ["log"],
        ["topics"],
        ["status"],
        ["cancel", "q", "--reason", "r"],
        ["transfer", "--target", "t", "--reason", "r", "--everything"],
        ["inject", "a.example", "-"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_wrong_settings_at_its_start(tmp_path: Path, arguments: list[str]) -> None:
    (line,) = xferq(*arguments, env=environment({"XFERQ_SETTLE_MS": "x"}, tmp_path), status=2).stderr.splitlines()
    assert line.startswith("xferq: XFERQ_SETTLE_MS: ")


def test_config_prints_what_is_in_force_and_whence(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'settle_ms = 17\nhold_ms = 18\nclient_password = "{SECRET}"\n')
    variables = {
        "XFERQ_HOLD_MS": "19",
        "XFERQ_CLIENT_USER": "me",
        "XFERQ_API_URL": f"http://me:{SECRET}@h",
        "XFERQ_LOG_META": "a,b",
    }
    env = environment(variables, tmp_path)
    text = xferq("config", "--config", str(file), env=env)
    assert SECRET not in text.stdout + text.stderr
    lines = [line.split() for line in text.stdout.splitlines()]
    assert ["settle_ms", "17", str(file)] in lines
    assert ["hold_ms", "19", "XFERQ_HOLD_MS"] in lines
    assert ["log_meta", "a,b", "XFERQ_LOG_META"] in lines
    assert ["confirm_ms", "10000", "default"] in lines
    assert ["api_url", "http://h", "XFERQ_API_URL"] in lines
    assert ["client_password", "**********", str(file)] in lines
    found = json.loads(xferq("config", "--config", str(file), "--json", env=env).stdout)
    assert found.keys() == Settings.model_fields.keys()
    assert found["settle_ms"] == {"value": 17, "from": str(file)}
    assert SECRET not in str(found)


def test_what_config_prints_as_json_is_a_file_of_settings(tmp_path: Path) -> None:
    found = json.loads(xferq("config", "--json", env=environment({"XFERQ_SETTLE_MS": "17"}, tmp_path)).stdout)
    text = "".join(
        f"{name} = {json.dumps(item['value'])}\n" for name, item in found.items() if item["value"] is not None
    )
    assert tomllib.loads(text)["settle_ms"] == 17
    (tmp_path / "x.toml").write_text(text)
    again = json.loads(
        xferq("config", "--json", "--config", str(tmp_path / "x.toml"), env=environment({}, tmp_path)).stdout
    )
    assert {name: item["value"] for name, item in again.items()} == {
        name: item["value"] for name, item in found.items()
    }


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'client_password = "{SECRET}"\nclient_user = "me"\n')
    monkeypatch.setenv("XFERQ_CONFIG", str(file))
    monkeypatch.setenv("XFERQ_KAFKA_PASSWORD", SECRET)
    settings = load_settings(settle_ms=17, log_meta=("a,b", "c"), api_trusted_hosts="10.0.0.0/8")
    variables = settings.as_variables()
    assert SECRET not in str(variables)  # a file's would stand in /proc/PID/environ
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    again = load_settings()
    assert again == settings
    assert again.client_password == again.kafka_password == SecretStr(SECRET)


def test_what_is_secret_does_not_show() -> None:
    settings = Settings(client_user="me", client_password=SecretStr(SECRET))
    assert SECRET not in f"{settings!r} {settings} {settings.shown()}"


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float) and not name.endswith(("_partitions", "_port", "_processes")):
            counts = (
                "replication_factor",
                "transaction_messages",
                "metrics_queues",
                "concurrent_",
                "api_requests",
                "api_connections",
            )
            assert name.endswith(("_ms", "_s", "_bytes", "_days")) or name.startswith(counts), f"{name}: in what unit?"


@pytest.mark.parametrize(
    ("cores", "is_here", "native", "processes"),
    [
        *((2, True, "auto", 1), (2, False, "auto", 2), (2, True, "no", 2), (1, True, "yes", 1)),
        *((6, True, "auto", 3), (16, True, "auto", 4), (16, False, "auto", 4)),
    ],
)
def test_how_many_processes_a_worker_has(
    monkeypatch: pytest.MonkeyPatch, cores: int, is_here: bool, native: Literal["auto", "yes", "no"], processes: int
) -> None:
    monkeypatch.setattr(work, "processors", lambda: cores)
    monkeypatch.setattr(work, "is_here", lambda: is_here)
    assert Settings(native=native).worker_processes == processes
