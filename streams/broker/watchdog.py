"""Runs Java for a parent process, and ends it when that parent has ended, however it ended.

Started by process.py as a plain script in isolated mode, so it imports nothing of xferq and starts in
milliseconds: `watchdog.py CONSOLE_LOG REMOVE_DIR|- COMMAND...`. Standard input is the read end of a pipe
whose write end only the parent has: end of file means that the parent is gone, also after kill -9. Standard
output gets one line, `pid N` or `error TEXT`. The exit status is Java's (128 + signal number when killed).
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

GRACE_S = 10.0
_PR_SET_PDEATHSIG = 1


def main(console_log: str, remove_dir: str, command: list[str]) -> int:
    """Run the command until it ends, or until the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watchdog_pid = os.getpid()
    # Looked up before the fork: after it, only async-signal-safe work is allowed.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_watchdog() -> None:
        # For the case that the watchdog itself is killed. SIGKILL, as a paused process heeds nothing else.
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != watchdog_pid:
                os._exit(1)

    try:
        with open(console_log, "wb") as console:
            java = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_watchdog,
            )
    except OSError as error:
        print(f"error {error}", flush=True)
        return 1
    ended_by_parent = threading.Event()

    def watch_parent() -> None:
        while os.read(0, 4096):
            pass
        ended_by_parent.set()
        end(java)

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end, args=(java,), daemon=True).start())
    print(f"pid {java.pid}", flush=True)
    threading.Thread(target=watch_parent, daemon=True).start()
    status = java.wait()
    if ended_by_parent.is_set() and remove_dir != "-":
        shutil.rmtree(remove_dir, ignore_errors=True)
    return status if status >= 0 else 128 - status


def end(java: "subprocess.Popen[bytes]") -> None:
    """Ask Java to end; insist after GRACE_S seconds."""
    java.send_signal(signal.SIGCONT)  # a stopped process would sleep through its SIGTERM
    java.terminate()
    try:
        java.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        java.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
