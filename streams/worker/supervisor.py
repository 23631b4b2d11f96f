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
from contextlib import suppress
from types import FrameType

from streams.settings.settings import Settings, load_settings
from streams.settings.sources import inherited
from streams.telemetry.logs import set_up_logging
from streams.worker.process import CAN_T_START, run_worker

_log = logging.getLogger(__name__)
_PROGRAM = "from streams.worker.supervisor import main; main()"
_LOOK_S = 0.5
_RETRY_S = 2.0
_END_S = 10.0


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
        self._end()
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
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", _PROGRAM],
            env=os.environ | settings.as_variables() | {"XFERQ_WORKER_PROCESSES": "1", "XFERQ_METRICS_PORT": str(port)},
            # Our end of this pipe closes when we end, however: a process that reads its end ends then.
            stdin=subprocess.PIPE,
            pass_fds=inherited(),
            # Ctrl-C on a terminal is for us; we pass it on.
            start_new_session=True,
        )

    def _end(self) -> None:
        for process in self._processes:
            with suppress(OSError):
                process.terminate()
        deadline = time.monotonic() + _END_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main() -> None:
    """One of the processes; not for people."""
    sys.exit(run_worker(load_settings(), supervised=True))
