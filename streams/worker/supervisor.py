"""Several worker processes as one worker: a process is bound by one core, and a machine has more.

The processes are equal members of the workers' group; Kafka shares the work out among them, so a machine with
two processes is like two machines with one. The supervisor starts them, starts one again that has ended, and
ends with all of them.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from streams.children import end_children, end_with_parent, start_child
from streams.settings.sources import inherited
from streams.telemetry.logs import set_up_logging

if TYPE_CHECKING:
    from streams.settings.settings import Settings

_log = logging.getLogger(__name__)
CAN_T_START = 1
"""A worker's exit status where no retry helps until a person changes something."""
_SUPERVISOR = "from streams.worker.supervisor import main; main()"
_WORKER = "from streams.worker.process import main; main()"
# Both with -P: without it, Python looks for every module in the folder where it was called first.
_LOOK_S = 0.5
_RETRY_S = 2.0


def run_workers(settings: "Settings", *, with_parent: bool = False) -> NoReturn:
    """Run `settings.worker_processes` workers until SIGTERM or SIGINT; the process ends with their exit status.

    Another program takes this one's place, which imports nothing of the application: that would be 60 MB for nothing.
    `with_parent` lets it end as soon as its parent does.
    """
    for number in inherited():
        os.set_inheritable(number, True)
    own = (settings.worker_processes, settings.metrics_port, settings.log_level, settings.log_format, int(with_parent))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - our own program
        sys.executable,
        [sys.executable, "-P", "-c", _SUPERVISOR, *map(str, own)],
        {**os.environ, **settings.as_variables()},
    )


def main() -> NoReturn:
    """The supervisor's program; not for people."""
    processes, metrics_port, level, form, with_parent = sys.argv[1:]
    set_up_logging(level, form)
    if int(with_parent):
        end_with_parent()
    supervisor = _Supervisor(int(processes), int(metrics_port))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    sys.exit(supervisor.run())


class _Supervisor:
    def __init__(self, processes: int, metrics_port: int) -> None:
        self._count = processes
        self._metrics_port = metrics_port
        self._stopping = False
        self._processes: list[subprocess.Popen[bytes]] = []

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def run(self) -> int:
        """Until told to stop, or until a process can't even start."""
        for number in range(self._count):
            self._processes.append(self._start(number))
        status = 0
        while not self._stopping and status == 0:
            time.sleep(_LOOK_S)
            status = self._replace_ended()
        end_children(self._processes)
        return status

    def _replace_ended(self) -> int:
        for number, process in enumerate(self._processes):
            status = process.poll()
            if status is None:
                continue
            if status == CAN_T_START:
                return status  # it has said why; another one would say the same
            _log.warning("supervisor.replaced process=%d status=%d", number, status)
            time.sleep(_RETRY_S)
            try:
                self._processes[number] = self._start(number)
            except OSError as error:  # no memory, or too many processes: at the next look there may be
                _log.warning("supervisor.not_replaced process=%d error=%s", number, error)
        return 0

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        port = self._metrics_port + number if self._metrics_port else 0
        own = {"XFERQ_WORKER_PROCESSES": "1", "XFERQ_METRICS_PORT": str(port)}
        return start_child([sys.executable, "-P", "-c", _WORKER], own)
