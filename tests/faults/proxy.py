"""A TCP proxy between Kafka clients and brokers, which does on order what networks do by accident.

It knows where Kafka's frames begin, so it can lose exactly the answer to one request of one kind, after the broker
has carried the request out: the fault that leaves a client not knowing whether its transaction is committed.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from tests.support.patience import WAIT_S

Api = Literal[
    "produce",
    "fetch",
    "list_offsets",
    "metadata",
    "offset_commit",
    "offset_fetch",
    "find_coordinator",
    "join_group",
    "heartbeat",
    "leave_group",
    "sync_group",
    "create_topics",
    "delete_topics",
    "delete_records",
    "init_producer_id",
    "add_partitions_to_txn",
    "add_offsets_to_txn",
    "end_txn",
    "txn_offset_commit",
    "consumer_group_heartbeat",
]
_KEYS: Mapping[Api, int] = {
    "produce": 0,
    "fetch": 1,
    "list_offsets": 2,
    "metadata": 3,
    "offset_commit": 8,
    "offset_fetch": 9,
    "find_coordinator": 10,
    "join_group": 11,
    "heartbeat": 12,
    "leave_group": 13,
    "sync_group": 14,
    "create_topics": 19,
    "delete_topics": 20,
    "delete_records": 21,
    "init_producer_id": 22,
    "add_partitions_to_txn": 24,
    "add_offsets_to_txn": 25,
    "end_txn": 26,
    "txn_offset_commit": 28,
    "consumer_group_heartbeat": 68,
}
_ROOT = Path(__file__).parents[2]


class RelayError(Exception):
    """The proxy can't do what was asked, or has ended."""


class Relay:
    """The proxy, in a process of its own. Every method returns when what it asks for is in force.

    A node is named by its id; None means all nodes. Methods may be called by several threads. Also a context
    manager. The process ends with this one, however that ends.
    """

    def __init__(self, routes: Mapping[int, tuple[int, int]]) -> None:
        """Describe a proxy; nothing is started yet.

        Args:
            routes: node id -> loopback port to listen on, loopback port of the broker's listener that tells its
                clients to come to the first one. `EmbeddedCluster.routes` are such.
        """
        self._routes = dict(routes)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process and listen. The brokers needn't run yet.

        Raises:
            RelayError: a port is in use.
        """
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(WAIT_S)
        self._stream = self._socket.makefile("rb")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.proxy_process", json.dumps(self._routes)],
                stdin=theirs.fileno(),
                cwd=_ROOT,
            )
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

    def cut(self, node: int | None = None) -> None:
        """Close the connections at once, with RST to both ends; new ones are accepted."""
        self._order("cut", node=node)

    def refuse(self, node: int | None = None) -> None:
        """Close the connections at once, and each new one as soon as it comes, until allow()."""
        self._order("refuse", node=node)

    def allow(self, node: int | None = None) -> None:
        """End refuse()."""
        self._order("allow", node=node)

    def hang(self, node: int | None = None) -> None:
        """Take no bytes from either end until resume(): connections stay open, also new ones can be made."""
        self._order("hang", node=node)

    def resume(self, node: int | None = None) -> None:
        """End hang(): what waits is forwarded."""
        self._order("resume", node=node)

    def delay(self, ms: int, node: int | None = None) -> None:
        """Forward everything that comes from now on that much later, in both directions and in order.

        Args:
            ms: milliseconds; 0 ends it, and what waits is forwarded at once.
        """
        self._order("delay", node=node, ms=ms)

    def half_close(self, node: int | None = None) -> None:
        """End the brokers' direction of the connections that are there: clients get FIN and no more answers.

        What the clients send is still forwarded, and carried out by the brokers.
        """
        self._order("half_close", node=node)

    def drop_answer(self, api: Api, then: Literal["cut", "hang"] = "cut", count: int = 1) -> None:
        """Lose the next answers to this API, whichever broker gives them to whom. The requests were carried out.

        Args:
            then: "cut": that connection is closed, after all answers before the lost one have been forwarded;
                "hang": it goes on, with the answers that follow, and the lost one never comes.
            count: how many; takes the place of what is left of an earlier order for this API. 0: no more.
        """
        self._order("drop_answer", api=_KEYS[api], then=then, count=count)

    def dropped(self) -> int:
        """How many answers were lost so far."""
        return cast(int, self._order("dropped"))

    def _order(self, order: str, **arguments: Any) -> Any:
        if self._process is None:
            raise RelayError("the proxy isn't running")
        with self._lock:
            try:
                self._socket.sendall(json.dumps({"order": order, **arguments}).encode() + b"\n")
            except OSError as error:
                raise RelayError(f"the proxy has ended: {error}") from error
            return self._answer()

    def _answer(self) -> Any:
        try:
            line = self._stream.readline()
        except OSError as error:
            raise RelayError(f"the proxy does not answer: {error}") from error
        if not line:
            raise RelayError("the proxy has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise RelayError(answer["error"])
        return answer["result"]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
