"""Every example of mail becomes what it should, under each Python that is here."""

import glob
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.mail.examples import ALL, Example, Sent, as_json, found_in

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("example", ALL, ids=[example.name[:60] for example in ALL])
def test_what_becomes_of_it(example: Example) -> None:
    found = found_in(example.file)
    assert len(found) == len(example.found)
    for item, wanted in zip(found, example.found, strict=True):
        if isinstance(wanted, str):
            assert isinstance(item, str)
            assert wanted in item
        else:
            whole = example.file if wanted.data is None else wanted.data
            assert item == Sent(wanted.sender, wanted.recipients, whole)


def pythons() -> Iterator[str]:
    """One of each version that xferq supports and that is here, and Debian's own, which parses mail as no other."""
    seen = set()
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    for minor in (11, 12, 13, 14):
        name = f"python3.{minor}"
        places = [f"/usr/bin/{name}", *sorted(glob.glob(f"{pyenv}/versions/3.{minor}.*/bin/python"))]
        for python in [*places, shutil.which(name) or ""]:
            version = python and _version(python)
            if version and version not in seen:
                seen.add(version)
                yield python


def _version(python: str) -> str:
    try:
        command = [python, "-c", "import sys; print(sys.version)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


@pytest.mark.parametrize("python", list(pythons()))
def test_every_python_finds_the_same(python: str) -> None:
    command = [python, "-m", "tests.api.mail.examples"]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.stderr == ""
    assert other.stdout == as_json() + "\n"
