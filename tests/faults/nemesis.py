"""What goes wrong in a fault run, and when: made from a seed, so that a run that failed can be repeated.

Each track is a thread with faults of its own kind, one after the other; the tracks go on side by side. The same
seed gives the same faults in the same order, with the same pauses; what they meet is up to the machine.
"""

import threading
from collections import Counter
from collections.abc import Callable

from tests.faults.broker_trouble import BrokerTrouble
from tests.faults.link_trouble import LinkTrouble
from tests.faults.network_trouble import NetworkTrouble
from tests.faults.queue_trouble import DispatcherTrouble, OffsetTrouble
from tests.faults.stage import Stage
from tests.faults.trouble import Track, Trouble, plan
from tests.faults.witness import Quiet
from tests.faults.worker_trouble import WorkerTrouble


class Nemesis:
    """Does them, until it is stopped; then all is whole again."""

    def __init__(
        self,
        stage: Stage,
        quiet: Quiet,
        seed: int,
        tracks: tuple[Track, ...],
        say: Callable[[str], None],
    ) -> None:
        self._quiet = quiet
        self._seed = seed
        self._say = say
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.done: Counter[str] = Counter()
        """How many faults there were, by track and kind."""
        shared = stage, self._stop, say, self.done
        workers = WorkerTrouble(*shared)
        self._troubles: dict[Track, Trouble] = {
            "workers": workers,
            "brokers": BrokerTrouble(*shared),
            "links": LinkTrouble(*shared),
            "network": NetworkTrouble(*shared),
            "dispatchers": DispatcherTrouble(*shared),
            "offsets": OffsetTrouble(*shared),
        }
        self._threads = [threading.Thread(target=self._guarded, args=(track,), daemon=True) for track in tracks]
        self._threads.append(threading.Thread(target=workers.supervise, daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raise what has ended a track before its time."""
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """End, and wait until the last faults have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.check()

    def _guarded(self, track: Track) -> None:
        try:
            for fault in plan(track, self._seed):
                if self._stop.wait(fault.after_s):
                    return
                with self._quiet:
                    self._say(f"{track}: {fault.kind} for {fault.for_s:.1f} s")
                    self._troubles[track].make(fault)
                self.done[f"{track}: {fault.kind}"] += 1
        except BaseException as error:  # noqa: BLE001 - raised again by stop
            self._errors.append(error)
