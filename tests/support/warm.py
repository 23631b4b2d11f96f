"""Processes of xferq that start in milliseconds: forked from one that has imported all of it already.

Importing takes a second of processor time, and the tests start a thousand processes. A process started here is as any
other: its own memory, environment, folder, descriptors, signals and exit status, and a child of the test's process.
What Python and the loader read only at the start of a program can't be given to it, so where the environment differs
in that, or the command is another one, it is started the ordinary way.

1. The test's process asks the warm one, over a socket, and sends the descriptors along.
2. The warm one forks, its child forks once more and ends: the grandchild is nobody's.
3. The test's process is the subreaper (Linux), so the grandchild becomes its child, and can be waited for.
"""

import contextlib
import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.java import start_from_cache

ROOT = Path(__file__).parents[2]
XFERQ = str(Path(sys.executable).parent / "xferq")
_SUBREAPER = 36
_IMPORTS = (
    *("api.app", "api.server", "api.cli.checkup", "api.cli.configuration", "api.cli.injecting", "api.cli.inspection"),
    "api.cli.delivery_log",
    *("api.cli.keeping", "api.cli.passwords", "api.cli.processes", "api.cli.transfers", "api.client", "rich.progress"),
    *("streams.worker.process", "streams.worker.supervisor", "uvicorn", "tests.broker.orphan"),
)
_READ_AT_THE_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "FAKETIME")
_MAX_REQUEST = 1 << 20


def _fixed(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_THE_START)}


def _code(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What an interpreter is to run for this command line; None for what only a new one can do."""
    match [str(argument) for argument in arguments]:
        case [program, *rest] if program == XFERQ:
            return {"module": "api.cli", "argv": [XFERQ, *rest]}
        case [program, "-m", module, *rest] if program == sys.executable:
            return {"module": module, "argv": [module, *rest]}
        case [program, "-c", code, *rest] if program == sys.executable:
            return {"code": code, "argv": ["-c", *rest]}
        case _:
            return None


class WarmPopen(subprocess.Popen[Any]):
    """`subprocess.Popen` for programs of xferq."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        (_, pass_fds, cwd, env, _, _, shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *more) = rest
        given = os.environ if env is None else env
        wanted = None if isinstance(args, str) or shell or preexec_fn or pass_fds or any(more[5:6]) else _code(args)
        if wanted is None or not _server.can_give(given):
            super()._execute_child(args, executable, preexec_fn, *rest)  # type: ignore[misc]
            return
        streams = [p2cread, c2pwrite, errwrite]
        request = {**wanted, "env": dict(given), "cwd": str(cwd or Path.cwd())}
        self.pid = _server.start(request, [fd if fd >= 0 else number for number, fd in enumerate(streams)])
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], stdin: bytes, wait_s: float
) -> "subprocess.CompletedProcess[bytes]":
    """Run a program to its end; its exit status, and what it has said.

    Raises:
        subprocess.TimeoutExpired: it did not end by itself, and was killed.
    """
    pipe = subprocess.PIPE
    with WarmPopen(arguments, env=env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            stdout, stderr = process.communicate(stdin, wait_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def started_by(pid: int) -> str | None:
    """The test that has started this process here; None where it was started otherwise, "" for the warm one itself."""
    return _server.started.get(pid)


class _Server:
    """The warm process of this one, started when first needed; it ends with this one."""

    def __init__(self) -> None:
        self.started: dict[int, str] = {}
        self._one_at_a_time = threading.Lock()
        self._socket: socket.socket | None = None
        self._owner = 0

    def can_give(self, env: Mapping[str, str]) -> bool:
        """Whether the environment has nothing that is read at the start of a program only, but what ours has."""
        return sys.platform == "linux" and _fixed(env) == _fixed(os.environ)

    def start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """The id of the new process."""
        with self._one_at_a_time:  # threads of a test must not be told each other's
            if self._socket is None or self._owner != os.getpid():
                self._launch()
            assert self._socket is not None
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
            pid = int(self._socket.recv(64))
        assert pid > 0, "the warm process could not fork"
        self.started[pid] = os.environ.get("PYTEST_CURRENT_TEST", "?")
        return pid

    def _launch(self) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "can't become the subreaper")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAX_REQUEST)
        warm = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self.started[warm.pid] = ""
        assert ours.recv(64) == b"ready"
        self._socket, self._owner = ours, os.getpid()


_server = _Server()


# ---- the warm process itself


def _serve(connection: socket.socket) -> None:
    import gc
    import importlib

    for name in _IMPORTS:
        importlib.import_module(name)
    start_from_cache()
    gc.collect()
    gc.freeze()
    connection.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MAX_REQUEST, 3)
        if not message:
            return
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            starter = os.getpid()
            grandchild = os.fork()
            if grandchild == 0:
                os.close(reads)
                os.close(writes)
                _become(json.loads(message), descriptors, connection, starter)
            os.write(writes, str(grandchild).encode())
            os._exit(0)
        os.close(writes)
        os.waitpid(child, 0)  # only from then on can the grandchild be waited for by whoever has asked
        connection.send(os.read(reads, 64))
        os.close(reads)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(request: Mapping[str, Any], descriptors: Sequence[int], connection: socket.socket, starter: int) -> None:
    """Be the program that was asked for; does not return."""
    status = 1
    try:
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            if descriptor > 2:
                os.close(descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        os.chdir(request["cwd"])
        sys.argv = request["argv"]
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        while os.getppid() == starter:  # whoever looks at its parent must see the one that stays
            time.sleep(0.0005)
        status = _run(request)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        import atexit

        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(request: Mapping[str, Any]) -> int:
    try:
        if "code" in request:
            exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
        elif request["module"] == "api.cli":
            from api.cli import main

            main()
        else:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 0


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
