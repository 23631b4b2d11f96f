"""Three nodes whose links to the controllers can be cut, one node at a time, while clients and brokers still talk.

A broker that is cut off from the controller loses its partitions to others and does not learn of it: it goes on
answering whoever takes it for their leader, with what it knew at the cut.
"""

import contextlib
import re
import socket
import threading
from types import TracebackType

from streams.broker import EmbeddedCluster
from streams.broker.ports import LOOPBACK, free_ports

_NODE = re.compile(r"(?:^|-)(\d+)(?:-|$)")
_PIECE = 1 << 16


class _Relay:
    """Passes on what comes for one node's controller; knows who sends it by the client id of the first request."""

    def __init__(self, node: int, port: int, target: int, cut: set[int]) -> None:
        self._node = node
        self._target = target
        self._cut = cut
        self._pairs: list[tuple[int, socket.socket, socket.socket]] = []
        self._listener = socket.create_server((LOOPBACK, port))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            first = client.recv(_PIECE)
            sender = _sender(first)
            if self._is_cut(sender):
                client.close()
                return
            server = socket.create_connection((LOOPBACK, self._target))
            self._pairs.append((sender, client, server))
            server.sendall(first)
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            _pump(client, server)

    def _is_cut(self, sender: int) -> bool:
        return sender != self._node and bool({sender, self._node} & self._cut)

    def enforce(self) -> None:
        """End the connections that are cut now."""
        for sender, *ends in self._pairs:
            if self._is_cut(sender):
                for end in ends:
                    _end(end)

    def close(self) -> None:
        """End all of them, and let in nobody."""
        for end in (self._listener, *(end for _, *ends in self._pairs for end in ends)):
            _end(end)
            end.close()


def _sender(request: bytes) -> int:
    """The node in the client id of a request's header; 0 where there is none."""
    length = int.from_bytes(request[12:14], "big")
    found = _NODE.search(request[14 : 14 + length].decode(errors="replace"))
    return int(found[1]) if found else 0


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    _end(source)
    _end(target)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class SeveredCluster(EmbeddedCluster):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(3, heap_mb=384)
        self._cut: set[int] = set()
        self._relays: list[_Relay] = []

    def _lay_out(self) -> None:
        super()._lay_out()
        self._close_relays()
        ports = dict(zip((1, 2, 3), free_ports(3), strict=True))
        voters = ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in ports.items())
        for id, node in enumerate(self._nodes, 1):
            self._relays.append(_Relay(id, ports[id], node._controller_port, self._cut))
            node._settings |= {
                "controller.quorum.voters": voters,
                "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{node.port},CONTROLLER://{LOOPBACK}:{ports[id]}",
            }

    def cut_off(self, node: int) -> None:
        """From now on the node reaches no other one's controller, and none reaches its own."""
        self._cut.add(node)
        for relay in self._relays:
            relay.enforce()

    def mend(self) -> None:
        """Let all talk to all again."""
        self._cut.clear()

    def _close_relays(self) -> None:
        for relay in self._relays:
            relay.close()
        self._relays = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._close_relays()
