"""The command line in odd surroundings: encodings, full disks, no home, pipes, folders that can't be written."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from api.embedded import api_url, data_folder, with_kafka
from streams.broker.jars import cache_dir
from streams.errors import Misconfigured
from streams.settings.settings import Settings
from tests.api.processes import environment
from tests.support.patience import WAIT_S
from tests.test_architecture import ROOT


def xferq(*arguments: str, env: Mapping[str, str], **more: object) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in a new interpreter, which reads its environment."""
    program = [sys.executable, "-m", "api.cli", *arguments]
    options: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT} | more
    return subprocess.run(program, env=env, timeout=WAIT_S, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment({"XFERQ_API_URL": "http://127.0.0.1:1"}, tmp_path)


# ---- what it writes


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1251:strict"])
def test_every_encoding_takes_every_character(env: dict[str, str], encoding: str) -> None:
    odd = {"XFERQ_LOG_META": "\u00fc\u65e5\U0001f600", "PYTHONIOENCODING": encoding}
    result = xferq("config", env=env | odd)
    assert (result.returncode, result.stderr) == (0, b"")
    (line,) = (line for line in result.stdout.decode(encoding.partition(":")[0]).splitlines() if "log_meta" in line)
    encodable = "\u00fc".encode(encoding.partition(":")[0], "backslashreplace").decode(encoding.partition(":")[0])
    assert line.split()[1].startswith(encodable)
    wrong = xferq("config", env=env | odd | {"XFERQ_\u65e5": "1"})
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "locale", [{"LANG": "C", "LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_path_that_is_not_ascii(env: dict[str, str], tmp_path: Path, locale: dict[str, str]) -> None:
    folder = tmp_path / "gr\u00fc\u00dfe"
    folder.mkdir()
    file = folder / "x.toml"
    file.write_text("settle_ms = 17\n")
    result = xferq("config", "--config", str(file), env=env | locale)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b" 17 " in result.stdout
    absent = xferq("config", "--config", str(folder / "nope"), env=env | locale)
    assert (absent.returncode, len(absent.stderr.splitlines())) == (2, 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize(
    "arguments", [["config"], ["config", "--json"], ["--help"], ["--version"], ["completion", "bash"]]
)
def test_a_full_disk_is_said_in_one_line(env: dict[str, str], arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        result = xferq(*arguments, env=env, stdout=full)
    assert result.returncode == 1
    assert result.stderr == b"xferq: can't write to standard output: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_nobody_can_be_told(env: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        assert xferq("status", env=env, stderr=full).returncode == 1
        assert xferq("config", env=env, stderr=full).returncode == 0


def test_a_reader_that_has_read_enough(env: dict[str, str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    result = xferq("config", env=env, stdout=writes)
    os.close(writes)
    assert (result.returncode, result.stderr) == (1, b"")


def test_standard_output_is_closed(env: dict[str, str]) -> None:
    result = xferq("config", env=env, preexec_fn=lambda: os.close(1))
    assert (result.returncode, result.stderr) == (0, b"")


# ---- where it runs


def test_whoever_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XFERQ_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert api_url(Settings()) == "http://127.0.0.1:8000"
    with pytest.raises(Misconfigured, match="no Kafka to talk to"):
        with_kafka(Settings())
    for place, variable in ((data_folder, "XDG_DATA_HOME"), (cache_dir, "XDG_CACHE_HOME")):
        with pytest.raises(Misconfigured, match=f"no home folder: HOME or {variable}"):
            place()


def test_a_worker_without_a_folder_for_temporary_files_ends(env: dict[str, str]) -> None:
    # tempfile tries the current folder, too: there is nothing to be written in /proc.
    program = (
        "import os, sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']; "
        "from streams.worker.process import run_worker; from streams.settings.settings import load_settings; "
        "sys.exit(run_worker(load_settings()))"
    )
    own = {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1", "XFERQ_METRICS_PORT": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=env | own, cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False
    )
    assert result.returncode == 1  # no supervisor starts another one
    *_, line = result.stderr.splitlines()
    assert line.startswith(b"xferq worker: TMPDIR has to name a folder that can be written")


# ---- settings from a pipe


def test_settings_from_a_pipe(env: dict[str, str]) -> None:
    """As with `--config <(sops -d xferq.toml)`."""
    reads, writes = os.pipe()
    os.write(writes, b"settle_ms = 77\n")
    os.close(writes)
    result = xferq("config", "--config", f"/dev/fd/{reads}", "--json", env=env, pass_fds=[reads])
    os.close(reads)
    found = json.loads(result.stdout)
    assert found["settle_ms"]["value"] == 77


def test_settings_from_standard_input(env: dict[str, str]) -> None:
    result = xferq("config", "--config", "/dev/stdin", "--json", env=env, input=b"settle_ms = 77\n")
    assert json.loads(result.stdout)["settle_ms"]["value"] == 77


def test_a_fifo_is_read_once(env: dict[str, str], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = subprocess.Popen(["sh", "-c", f"echo settle_ms = 77 > '{fifo}'"])
    result = xferq("config", "--json", env=env | {"XFERQ_CONFIG": str(fifo)})
    assert writer.wait(WAIT_S) == 0
    assert json.loads(result.stdout)["settle_ms"]["value"] == 77


def test_what_is_wrong_in_a_pipe_is_said(env: dict[str, str]) -> None:
    result = xferq("status", "--config", "/dev/stdin", env=env, input=b"settel_ms = 77\n")
    assert result.returncode == 2
    assert b"settle_ms?" in result.stderr


def test_processes_that_it_starts_have_the_settings_of_a_pipe(env: dict[str, str]) -> None:
    """A worker of two processes, of which the second generation reads the setting that ends them."""
    own = {"XFERQ_METRICS_PORT": "0", "XFERQ_WORKER_PROCESSES": "2"}
    secret = b'bootstrap_servers = "127.0.0.1:1"\nkafka_key_password = "x"\n'
    result = xferq("worker", "--config", "/dev/stdin", env=env | own, input=secret)
    assert result.returncode == 1
    # Said by the processes: the supervisor opens no connection, and the password is in no environment.
    assert b"XFERQ_KAFKA_KEY_PASSWORD" in result.stderr
    assert b"Traceback" not in result.stderr
