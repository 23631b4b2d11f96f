"""What finds leftovers finds each kind of them, names the test, and removes them."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.pages import ROOT
from tests.support.patience import WAIT_S
from tests.support.processes import stat_of

pytestmark = pytest.mark.nodes

_HEAD = """
import os, socket, subprocess, sys, tempfile
import pytest
from pathlib import Path

KEPT = []

@pytest.fixture(scope="session")
def shared():
    with subprocess.Popen(["sleep", "600"]) as process, tempfile.TemporaryDirectory() as folder:
        KEPT.append(process)
        yield process
        process.kill()
"""


def run(folder: Path, **modules: str) -> "subprocess.CompletedProcess[str]":
    """Run tests in a pytest of their own."""
    for name, text in modules.items():
        (folder / f"test_{name}.py").write_text(_HEAD + textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.leftovers", "-p", "no:cacheprovider", "-q"]
    command += ["--rootdir", str(folder), str(folder)]
    env = {**os.environ, "TEST_XFERQ_GRACE_S": "0.2"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)


_LEAVES = """
def test_a_process(shared):
    subprocess.Popen(["sleep", "601"])

def test_an_orphan(shared):
    subprocess.Popen(["setsid", "sh", "-c", "sleep 602 & echo"]).wait()

def test_a_server(shared):
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); time.sleep(603)"
    KEPT.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
    KEPT[-1].stdout.readline()

def test_a_port(shared):
    KEPT.append(socket.create_server(("127.0.0.1", 0)))

def test_a_folder(shared):
    tempfile.mkdtemp(prefix="left-folder-")

def test_a_file(shared):
    tempfile.mkstemp(prefix="left-file-")

def test_the_last(shared):
    pass
"""
_FOUND = (
    r"process: (\d+) of test_one.py::test_a_process \(call\): sleep 601",
    r"process: (\d+) of test_one.py::test_an_orphan \(call\): sleep 602",
    r"process: (\d+) of test_one.py::test_a_server \(call\): .*, listening on 127\.0\.0\.1:\d+",
    r"port: 127\.0\.0\.1:\d+, on which this process listens",
    r"file: (\S+/left-folder-\S+)",
    r"file: (\S+/left-file-\S+)",
)


def test_what_is_left_is_found_named_and_removed(tmp_path: Path) -> None:
    ended = run(tmp_path, one=_LEAVES, two="def test_that_shares(shared):\n    assert shared.poll() is None\n")
    assert ended.returncode == 1, ended.stdout
    assert "8 passed, 1 error" in ended.stdout
    assert "ERROR at teardown of test_the_last" in ended.stdout
    _, _, told = ended.stdout.partition("test_one.py leaves behind:\n")
    told, _, ran = told.partition("\nRan here: ")
    assert ran.startswith("test_a_process, test_an_orphan, ")
    lines = sorted(line.strip() for line in told.splitlines() if ": " in line)
    assert len(lines) == len(_FOUND), told
    for pattern in _FOUND:
        (found,) = [found for line in lines if (found := re.fullmatch(pattern, line))]
        for which in found.groups():
            if which.isdigit():
                state = stat_of(int(which))
                assert state is None or state[0] == "Z"  # which is for whoever adopted it to bury
            else:
                assert not Path(which).exists()


def test_what_fixtures_of_the_session_hold_is_not_left(tmp_path: Path) -> None:
    two = "def test_that_shares(shared):\n    pass\n"
    ended = run(tmp_path, one=two, two=two)
    assert ended.returncode == 0, ended.stdout


def test_what_they_hold_at_the_end_is(tmp_path: Path) -> None:
    module = """
    @pytest.fixture(scope="session")
    def forgets():
        return subprocess.Popen(["sleep", "604"])

    def test_that_uses_it(forgets):
        pass
    """
    ended = run(tmp_path, one=module)
    assert ended.returncode == 1, ended.stdout
    assert "test_that_uses_it (setup): sleep 604" in ended.stdout
