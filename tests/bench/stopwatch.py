"""Wall time and processor time of one measurement: the client's processes, and the broker beside them (Linux)."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds: of the wall's clock, and of the processors' for client and broker."""

    seconds: float
    client_s: float
    broker_s: float


class Stopwatch:
    """Begins and ends with what is measured; a broker without a `broker_pid` takes no time."""

    def __init__(self, broker_pid: int | None) -> None:
        self._broker = [] if broker_pid is None else [broker_pid]

    def start(self, pids: Sequence[int]) -> None:
        """From now on, for these processes and their children."""
        self._pids = [one for pid in pids for one in family_of(pid)]
        self._client_s, self._broker_s = processor_s(self._pids), processor_s(self._broker)
        self._started = time.perf_counter()

    def stop(self) -> Measured:
        """Up to now; the processes have to be there, at least as zombies."""
        seconds = time.perf_counter() - self._started
        return Measured(seconds, processor_s(self._pids) - self._client_s, processor_s(self._broker) - self._broker_s)


def family_of(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def processor_s(pids: Sequence[int]) -> float:
    """The processor time (s) that these processes have taken so far, for their users and in the kernel."""
    found = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids]
    return sum(int(ticks) for both in found for ticks in both) * _TICK_S
