"""A broker whose disk is full in the middle of claims and drains, and that gets space again."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from tests.broker.moments import in_the_middle, left_over
from tests.broker.scene import Scene, wait_until

pytestmark = pytest.mark.nodes

_SIZE_MB = 96


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "xferq-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no disk of its own can be had: {error}")
    if mounted.returncode != 0:
        pytest.skip(f"no disk of its own can be had: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Take all the space that there is."""
    with file.open("ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
        except OSError:
            os.fsync(filler.fileno())


def test_a_disk_that_is_full_in_the_middle_of_a_drain(small_disk: Path) -> None:
    broker = EmbeddedBroker(small_disk / "data")
    broker.start()
    try:
        with Scene(broker.bootstrap_servers, transaction_messages=5) as scene:
            scene.put(2000, size=1000)
            worker = scene.worker().started()
            scene.cancel("a")
            in_the_middle(scene)
            rest = small_disk / "rest"
            fill(rest)
            wait_until(lambda: not broker.is_running)  # Kafka gives up where it can't write
            assert left_over(scene) > 0
            rest.unlink()
            broker.start()
            scene.put(100)
            scene.cancel("b")
            try:
                scene.done()
            except AssertionError:
                # Longer than any transaction may last: of what is open then, Kafka's coordinator knows nothing. An only
                # node that starts again may leave a marker out (KAFKA-20734); docs/exactly-once.md tells of it.
                if "the ledger: it can't be read to its end" in worker.log:
                    pytest.xfail("Kafka has left a transaction's marker out")
                raise
            assert scene.problems() == []
            assert worker.is_running
    finally:
        broker.kill()
