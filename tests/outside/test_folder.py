"""Whatever lies in the folder where `xferq` is called: none of it is run."""

from pathlib import Path

import pytest

from api.children import Children
from tests.support.patience import wait_until


def test_a_folder_with_modules_of_the_names_of_python_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, log = tmp_path / "folder", tmp_path / "log"
    folder.mkdir()
    for name in ("signal", "logging", "orjson", "streams"):
        (folder / f"{name}.py").write_text('import os\nos.write(2, b"was run\\n")\nos._exit(1)\n')
    monkeypatch.chdir(folder)
    variables = {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1", "XFERQ_METRICS_PORT": "0", "XFERQ_WORKER_PROCESSES": "1"}
    with Children() as children:
        # The command, the supervisor that takes its place, and its worker, which then waits for Kafka.
        children.start("worker", ["worker"], variables, log)
        wait_until(lambda: "worker.waiting" in log.read_text() or children.ended() is not None)
        assert children.ended() is None, log.read_text()
    assert "was run" not in log.read_text()
