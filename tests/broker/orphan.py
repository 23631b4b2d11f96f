"""For processes of a test: one that is killed leaves no worker behind that looks for its Kafka for ever."""

import os
import signal
import threading
import time

_EVERY_S = 1.0


def end_with_parent() -> None:
    """From now on, kill this process within seconds of its parent's end, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_EVERY_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
