"""Fetching Kafka once, from a Maven repository on loopback that serves what this machine's cache holds."""

import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import BrokerError
from streams.broker.jars import cache_dir, kafka_jars
from tests.support.patience import WAIT_S

pytestmark = pytest.mark.broker  # not Kafka itself, but its files, from where they are to be had

FETCH = """
from streams.broker.jars import kafka_jars
jars = kafka_jars(lambda text: print(text, flush=True))
print("jars:", len(jars), all(jar.stat().st_size > 0 for jar in jars), flush=True)
"""


class Repository:
    """A Maven repository on a loopback port that counts what is asked of it."""

    def __init__(self, folder: Path) -> None:
        self.asked: Counter[str] = Counter()
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked[self.path] += 1
                super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def fetched() -> Path:
    """This machine's own cache, with Kafka in it."""
    kafka_jars(lambda _: None)
    return cache_dir()


@pytest.fixture
def repository(fetched: Path) -> Iterator[Repository]:
    running = Repository(fetched / "maven")
    yield running
    running.close()


@pytest.fixture
def surroundings(repository: Repository, tmp_path: Path) -> dict[str, str]:
    """An environment with an empty cache, in which `repository` stands for Maven Central."""
    configuration = tmp_path / "jgo.conf"
    configuration.write_text(f"[repositories]\ncentral = {repository.url}\n")
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    # No PATH: neither java nor mvn nor anything else is there to be run.
    return kept | {"XFERQ_CACHE_DIR": str(tmp_path / "cache"), "JGO_CONFIG_FILE": str(configuration), "PATH": ""}


def fetch(surroundings: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", FETCH], env=surroundings, stdout=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    return output


def test_two_processes_fetch_at_the_same_time(surroundings: dict[str, str], repository: Repository) -> None:
    outputs = [finish(process) for process in (fetch(surroundings), fetch(surroundings))]
    for output in outputs:
        assert output.endswith("jars: 45 True\n")
    assert {path: n for path, n in repository.asked.items() if n > 1} == {}
    assert sum(path.endswith(".jar") for path in repository.asked) == 45
    (fetching,) = [output for output in outputs if "resolving" in output]
    assert "fetching Apache Kafka 4.4.0: 45 of 45 files, 45 MB" in fetching


def test_nothing_is_asked_of_the_network_once_it_is_fetched(
    surroundings: dict[str, str], repository: Repository
) -> None:
    finish(fetch(surroundings))
    repository.asked.clear()
    assert finish(fetch(surroundings)) == "jars: 45 True\n"
    assert repository.asked == Counter()


def test_fetching_is_taken_up_again_after_a_kill(surroundings: dict[str, str], repository: Repository) -> None:
    first = fetch(surroundings)
    assert first.stdout is not None
    while "10 of 45" not in first.stdout.readline():
        assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    maven = Path(surroundings["XFERQ_CACHE_DIR"]) / "maven"
    jar = next(maven.rglob("*.jar"))
    jar.write_bytes(jar.read_bytes()[: jar.stat().st_size // 2])
    pom = next(maven.rglob("kafka_2.13*.pom"))
    pom.write_bytes(pom.read_bytes()[: pom.stat().st_size // 2])
    assert finish(fetch(surroundings)).endswith("jars: 45 True\n")
    assert repository.asked[f"/{jar.relative_to(maven)}"] == 2


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_damaged_cache_is_made_good(damage: str, surroundings: dict[str, str], repository: Repository) -> None:
    finish(fetch(surroundings))
    cache = Path(surroundings["XFERQ_CACHE_DIR"])
    jars = [cache / jar["path"] for jar in json.loads((cache / "kafka-4.4.0.json").read_text())["jars"]]
    size = jars[3].stat().st_size
    if damage == "missing":
        jars[3].unlink()
    else:
        os.truncate(jars[3], size - 1)
    repository.asked.clear()
    assert finish(fetch(surroundings)).endswith("jars: 45 True\n")
    assert jars[3].stat().st_size == size
    assert [path for path in repository.asked if path.endswith(".jar")] == [f"/{jars[3].relative_to(cache / 'maven')}"]


def test_no_network_and_nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XFERQ_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(BrokerError, match=r"not in the cache .*/cache\) and can't be fetched: .*The first start"):
        kafka_jars(lambda _: None)


def test_repository_without_kafka(
    surroundings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    empty = Repository(tmp_path / "empty")
    try:
        Path(surroundings["JGO_CONFIG_FILE"]).write_text(f"[repositories]\ncentral = {empty.url}\n")
        for name in ("XFERQ_CACHE_DIR", "JGO_CONFIG_FILE"):
            monkeypatch.setenv(name, surroundings[name])
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(BrokerError, match=r"4\.4\.0 can't be fetched: .*not found in remote repositories"):
            kafka_jars(lambda _: None)
    finally:
        empty.close()


def test_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XFERQ_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(BrokerError, match=r"cache folder .*/file/cache can't be used: Not a directory"):
        kafka_jars(lambda _: None)


def test_cache_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFERQ_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "xferq"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_dir() == Path.home() / ".cache" / "xferq"
