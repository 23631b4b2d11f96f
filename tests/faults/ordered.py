"""A process of its own that does what it is told: orders and answers are lines of JSON over a socket."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.patience import WAIT_S

_ROOT = Path(__file__).parents[2]


class OrderError(Exception):
    """The process can't do what was asked, or has ended."""


class Ordered:
    """Its parent's side. Every order is in force when it is answered; several threads may give some.

    Also a context manager. The process ends with this one, however that ends.
    """

    def __init__(self, module: str, begins_with: object) -> None:
        """Describe `python -m module`, which is given `begins_with` as JSON; nothing is started yet."""
        self._arguments = ("-m", module, json.dumps(begins_with))
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process, and wait until it listens where it is to listen.

        Raises:
            OrderError: a port is in use.
        """
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(WAIT_S)
        self._stream = self._socket.makefile("rb")
        with theirs:
            self._process = subprocess.Popen([sys.executable, *self._arguments], stdin=theirs.fileno(), cwd=_ROOT)
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process, and with it all connections; no-op if it doesn't run."""
        if self._process:
            self._stream.close()
            self._socket.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(WAIT_S)
            self._process.kill()
            self._process.wait()
            self._process = None

    def order(self, order: str, **arguments: Any) -> Any:
        """Give an order; its answer."""
        if self._process is None:
            raise OrderError("the process isn't running")
        with self._lock:
            try:
                self._socket.sendall(json.dumps({"order": order, **arguments}).encode() + b"\n")
            except OSError as error:
                raise OrderError(f"the process has ended: {error}") from error
            return self._answer()

    def _answer(self) -> Any:
        try:
            line = self._stream.readline()
        except OSError as error:
            raise OrderError(f"the process does not answer: {error}") from error
        if not line:
            raise OrderError("the process has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise OrderError(answer["error"])
        return answer["result"]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def obey(begin: Callable[[Any], Awaitable[object]]) -> None:
    """The process's side: `begin` listens, and gives the object whose methods are the orders, by name."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; this one ends with it
    with contextlib.suppress(ConnectionError):  # the parent has ended, and not in good order
        asyncio.run(_obey(begin, json.loads(sys.argv[1]), socket.socket(fileno=0)))


async def _obey(begin: Callable[[Any], Awaitable[object]], begins_with: Any, parent: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=parent)

    def answer(**content: Any) -> None:
        writer.write(json.dumps(content).encode() + b"\n")

    try:
        orders = await begin(begins_with)
    except OSError as error:
        answer(error=str(error))
        await writer.drain()
        return
    answer(result=None)
    while line := await reader.readline():
        order = json.loads(line)
        try:
            answer(result=await getattr(orders, order.pop("order"))(**order))
        except Exception as error:  # noqa: BLE001 - the parent is told, and the process goes on
            answer(error=repr(error))
