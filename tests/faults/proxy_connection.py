"""A client's connection through the proxy: two sockets, and what goes from one to the other in each direction."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from typing import cast

from streams.broker.ports import LOOPBACK
from tests.faults.frames import ANSWER_HEAD, REQUEST_HEAD, Frames, Losses

MOST_WAITING = 8 * 1024 * 1024  # bytes in one direction under a delay; more is not read
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class Node:
    """What the connections to one broker have in common."""

    def __init__(self, port: int, losses: Losses) -> None:
        self.port = port
        self.losses = losses
        self.is_refused = False
        self.is_hung = False
        self.delay_s = 0.0
        self.connections: set[Connection] = set()


class Direction:
    """What `source` sends goes to `target`, in order, after the node's delay."""

    def __init__(self, node: Node, *, ends_with_close: bool) -> None:
        """Without a source or target yet.

        Args:
            ends_with_close: at the end of the stream the target is closed, not only this direction of it.
        """
        self._node = node
        self._ends_with_close = ends_with_close
        self.source: asyncio.Transport | None = None
        self.target: asyncio.Transport | None = None
        self.target_is_full = False
        self.is_shut = False
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, chunk: bytes | None) -> None:
        """Take the next bytes; None is the end of the stream."""
        if not self.is_shut:
            self._waiting.append((asyncio.get_running_loop().time() + self._node.delay_s, chunk))
            self._waiting_bytes += len(chunk or b"")
            self.go_on()

    def go_on(self) -> None:
        """Let out what is due, and read more or not, as the node's state is now."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self.target and not self._node.is_hung:
            while self._waiting and (not self._node.delay_s or self._waiting[0][0] <= loop.time()):
                _, chunk = self._waiting.popleft()
                self._waiting_bytes -= len(chunk or b"")
                self._let_out(chunk)
            if self._waiting:
                self._timer = loop.call_at(self._waiting[0][0], self.go_on)
        if self.source and not self.source.is_closing():
            if self._may_read():
                self.source.resume_reading()
            else:
                self.source.pause_reading()

    def shut(self) -> None:
        """End the stream now: what waits is dropped, what still comes is read and thrown away."""
        self.is_shut = True
        self._waiting.clear()
        self._waiting_bytes = 0
        if self.target and not self.target.is_closing():
            with contextlib.suppress(OSError):  # it has gone just now, by itself
                self.target.write_eof()
        self.go_on()

    def _may_read(self) -> bool:
        if self._node.is_hung or self.target is None:
            return False
        return self.is_shut or not (self.target_is_full or self._waiting_bytes > MOST_WAITING)

    def _let_out(self, chunk: bytes | None) -> None:
        if self.target and not self.target.is_closing():
            if chunk is not None:
                self.target.write(chunk)
            elif self._ends_with_close:
                self.target.close()
            else:
                self.target.write_eof()


class Connection:
    """The client's socket and the one to the broker, from the client's coming until both are closed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.requests = Direction(node, ends_with_close=False)
        self.answers = Direction(node, ends_with_close=True)  # a broker never closes one direction only
        self._request_frames, self._answer_frames = Frames(REQUEST_HEAD), Frames(ANSWER_HEAD)
        self._asked: dict[int, int] = {}  # correlation id -> api, of requests without an answer yet
        self._is_losing = False  # the answer that is coming in is lost
        self._open: set[asyncio.Transport] = set()
        self._connecting: asyncio.Task[None] | None = None

    @property
    def _client(self) -> asyncio.Transport | None:
        return self.requests.source

    @property
    def _broker(self) -> asyncio.Transport | None:
        return self.answers.source

    def half_close(self) -> None:
        """The client is told that nothing more will come; its requests are still forwarded."""
        self.answers.shut()

    def reset(self) -> None:
        """Close both sockets at once, so that the kernel sends RST."""
        if self._connecting:
            self._connecting.cancel()
        for transport in self._open:
            with contextlib.suppress(OSError):  # the other end was faster
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()

    def opened(self, transport: asyncio.Transport) -> None:
        """A socket of this connection is there."""
        self._open.add(transport)
        if transport is self._client:
            self._node.connections.add(self)
            if self._node.is_refused:
                self.reset()
            else:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
        elif self._client not in self._open:
            transport.abort()

    def go_on(self) -> None:
        """The node's state has changed."""
        self.requests.go_on()
        self.answers.go_on()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Side(self, reads=self.answers, writes=self.requests), LOOPBACK, self._node.port
            )
        except OSError:  # no broker: its clients are told so by a reset
            self.reset()

    def received(self, transport: asyncio.Transport, data: bytes) -> None:
        """Bytes have come from this socket."""
        try:
            if transport is self._client:
                self._forward_requests(data)
            else:
                self._forward_answers(data)
        except ValueError:  # not Kafka's protocol
            self.reset()

    def _forward_requests(self, data: bytes) -> None:
        pieces = []
        for head, piece in self._request_frames.cut(data):
            pieces.append(piece)
            if head:
                _, api, _, correlation_id = head
                self._asked[correlation_id] = api
        self.requests.put(b"".join(pieces))

    def _forward_answers(self, data: bytes) -> None:
        kept: list[bytes] = []
        for head, piece in self._answer_frames.cut(data):
            if head:
                then = self._node.losses.take(self._asked.pop(head[1], None))
                self._is_losing = then is not None
                if then == "cut":
                    self.answers.put(b"".join(kept))  # what the broker had answered before still arrives
                    cast(asyncio.Transport, self._broker).abort()
                    return
            if not self._is_losing:
                kept.append(piece)
        self.answers.put(b"".join(kept))

    def ended(self, transport: asyncio.Transport) -> None:
        """From this socket nothing more will come; it may still take something."""
        if transport is self._client:
            self.requests.put(None)
        elif self._client and self.answers.is_shut:
            self._client.close()
        else:
            self.answers.put(None)

    def closed(self, transport: asyncio.Transport) -> None:
        """This socket is closed."""
        self._open.discard(transport)
        if transport is self._client:
            if self._connecting:
                self._connecting.cancel()
            if self._broker:
                self._broker.abort()
        elif self._client in self._open:
            self.ended(transport)
        if not self._open:
            self._node.connections.discard(self)


class Side(asyncio.Protocol):
    """One of the two sockets of a connection, as asyncio sees it."""

    def __init__(self, connection: Connection, *, reads: Direction, writes: Direction) -> None:
        """The socket from which `reads` takes its bytes and to which `writes` gives them."""
        self._connection = connection
        self._reads, self._writes = reads, writes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reads.source = self._writes.target = self._transport
        self._connection.opened(self._transport)
        self._reads.go_on()
        self._writes.go_on()

    def data_received(self, data: bytes) -> None:
        self._connection.received(self._transport, data)

    def eof_received(self) -> bool:
        self._connection.ended(self._transport)
        return True  # asyncio is not to close it: the other direction may have more

    def pause_writing(self) -> None:
        self._writes.target_is_full = True
        self._writes.go_on()

    def resume_writing(self) -> None:
        self._writes.target_is_full = False
        self._writes.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.closed(self._transport)


def accept(node: Node) -> Side:
    """The client's side of a new connection."""
    connection = Connection(node)
    return Side(connection, reads=connection.requests, writes=connection.answers)
