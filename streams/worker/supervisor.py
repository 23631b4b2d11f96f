"""Several worker processes as one worker: a process is bound by one core, and a machine has more.

The processes are equal members of the workers' group; Kafka shares the work out among them, so a machine with
two processes is like two machines with one. The supervisor starts them, starts one again that has ended, and
ends with all of them.
"""

import logging
import signal
import subprocess
import sys
import time
from types import FrameType

from streams.children import end_children, end_with_parent, start_child
from streams.settings.settings import Settings, load_settings
from streams.telemetry.logs import set_up_logging
from streams.worker.process import CAN_T_START, run_worker

_log = logging.getLogger(__name__)
_PROGRAM = "from streams.worker.supervisor import main; main()"
_LOOK_S = 0.5
_RETRY_S = 2.0


def run_workers(settings: Settings) -> int:
    """Run `settings.worker_processes` workers until SIGTERM or SIGINT; the exit status."""
    set_up_logging(settings.log_level, settings.log_format)
    supervisor = _Supervisor(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    return supervisor.run()


class _Supervisor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._processes: list[subprocess.Popen[bytes]] = []

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def run(self) -> int:
        """Until told to stop, or until a process can't even start."""
        for number in range(self._settings.worker_processes):
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
            self._processes[number] = self._start(number)
        return 0

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        settings = self._settings
        port = settings.metrics_port + number if settings.metrics_port else 0
        own = {"XFERQ_WORKER_PROCESSES": "1", "XFERQ_METRICS_PORT": str(port)}
        return start_child([sys.executable, "-c", _PROGRAM], settings.as_variables() | own)


def main() -> None:
    """One of the processes; not for people."""
    end_with_parent()
    sys.exit(run_worker(load_settings()))
