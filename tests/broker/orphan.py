"""For workers of a test: one that is killed leaves none behind, and a slow machine does not change how one ends."""

import os
import signal
import threading
import time

from tests.support.patience import SLOWNESS

_EVERY_S = 1.0


def end_later() -> None:
    """Give the worker that this process becomes as much longer for its end as this machine is slow."""
    from streams.worker import process as worker

    for name in ("_EDGE_S", "_END_S"):
        setattr(worker, name, getattr(worker, name) * SLOWNESS)


def end_with_parent() -> None:
    """From now on, kill this process within seconds of its parent's end, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_EVERY_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
