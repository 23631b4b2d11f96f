"""A test run that is killed leaves no workers behind."""

import subprocess
import sys
from pathlib import Path

from tests.support.patience import wait_until

CHILD = "import time; from tests.broker.orphan import end_with_parent; end_with_parent(); print(); time.sleep(60)"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def is_there(pid: int) -> bool:
    """Whether it runs: where nobody asks after it, what has ended stays a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_it_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_there(child)
        parent.kill()
        wait_until(lambda: not is_there(child))
