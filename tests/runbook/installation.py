"""What an operator has before them: Kafka, a worker, an api, a shell; and the runbook open beside it."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from streams.broker.ports import free_ports
from tests.api.processes import ApiProcess, environment
from tests.broker.checker import LedgerView
from tests.broker.scene import WorkerProcess
from tests.broker.world import World
from tests.pages import ROOT, Reader, code_blocks, sections

RUNBOOK = ROOT / "docs" / "runbook.md"


def blocks(entry: str) -> list[str]:
    """The commands of an entry, by its anchor."""
    return code_blocks(sections(RUNBOOK)[entry])


class Installation:
    """xferq with topics of its own; also a context manager."""

    def __init__(self, servers: str, scripts: Path, folder: Path, **settings: Any) -> None:
        (self.port,) = free_ports(1)
        # Small transactions, that something can happen in the middle of a drain.
        self.world = World(servers, metrics_port=self.port, transaction_messages=50, **settings)
        self.scene = self.world.scene
        self._folder = folder
        variables = {f"XFERQ_{name.upper()}": str(value) for name, value in self.scene.values.items()}
        path = os.pathsep.join([str(scripts), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.env = environment(variables, folder) | {"PATH": path, "KAFKA": servers}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.world)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def starts_worker(self) -> WorkerProcess:
        """A worker, once it has work."""
        self.worker = self.world.worker()
        return self.worker

    def stops_worker(self, worker: WorkerProcess | None = None) -> None:
        """SIGTERM, to the last one that was started by default; it must end in order."""
        worker = worker or self.worker
        worker.terminate()
        assert worker.wait() == 0
        assert "worker.stopped" in worker.log
        self.world._workers.remove(worker)  # which is to complain where one has ended by itself

    def starts_api(self) -> ApiProcess:
        """An api; it ends with the installation at the latest."""
        api = self._stack.enter_context(ApiProcess(self.env))
        self.env["XFERQ_API_URL"] = api.url
        return api

    def moves(self, **settings: Any) -> None:
        """Other settings from now on, for all that is started; what was known of the ledger is forgotten."""
        scene = self.scene
        scene.values.update(settings)
        scene.settings = scene.settings.model_copy(update=settings)
        self.world.settings = scene.settings
        self.env |= {f"XFERQ_{name.upper()}": str(value) for name, value in settings.items()}
        if scene._follower is not None:
            scene._follower.close()
        scene._follower, scene._view = None, LedgerView()

    def reader(self, **more: str) -> Reader:
        """Somebody with the runbook, for whom the page's names are this installation's."""
        settings = self.scene.settings
        names = {
            "xferq.worker": settings.worker_group,
            "xferq.commands": settings.commands_topic,
            "xferq.drains": settings.drains_topic,
            "xferq.ledger": settings.ledger_topic,
            "delivery-log": settings.log_topic,
            "xferq.results": settings.results_topic,
            "127.0.0.1:8001": f"127.0.0.1:{self.port}",
        }
        return Reader(self._folder, self.env, names | more)

    def metrics(self) -> str:
        """What the worker counts."""
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text

    def readyz(self) -> str:
        """Whether the worker can work, and if not, why."""
        return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).text
