"""Kafka's frames in a stream of bytes, and the answers among them that the proxy is to lose."""

import struct
from collections.abc import Iterator

REQUEST_HEAD = struct.Struct(">ihhi")  # size of what follows, api, version, correlation id
ANSWER_HEAD = struct.Struct(">ii")  # size of what follows, correlation id


class Frames:
    """Cuts a stream of bytes where its frames begin, and keeps no more of it than a piece of a head."""

    def __init__(self, head: struct.Struct) -> None:
        """Cut frames that begin with this head; its first field is the size of the frame without these 4 bytes."""
        self._head = head
        self._held = b""
        self._left = 0

    def cut(self, data: bytes) -> Iterator[tuple[tuple[int, ...] | None, bytes]]:
        """The next bytes of the stream in pieces: the first one of each frame with its head, others with None.

        Raises:
            ValueError: these are no frames.
        """
        data, self._held = self._held + data, b""
        at = 0
        while at < len(data):
            head = None
            end = at + self._left
            if not self._left:
                if len(data) - at < self._head.size:
                    self._held = data[at:]
                    return
                head = self._head.unpack_from(data, at)
                end = at + 4 + head[0]
                if end < at + self._head.size:
                    raise ValueError(f"a frame of {head[0]} bytes")
            piece = data[at:end]
            self._left = end - at - len(piece)
            yield head, piece
            at += len(piece)


class Losses:
    """Which answers are to be lost, and how many were."""

    def __init__(self) -> None:
        self._orders: dict[int, tuple[str, int]] = {}
        self.count = 0

    def order(self, api: int, then: str, count: int) -> None:
        """Lose the next `count` answers to this API; takes the place of an earlier order for it."""
        self._orders[api] = (then, count)

    def take(self, api: int | None) -> str | None:
        """An answer to this API has come: None, or it is to be lost, and what is to come then."""
        then, left = self._orders.get(api, ("", 0)) if api is not None else ("", 0)
        if not left or api is None:
            return None
        self._orders[api] = (then, left - 1)
        self.count += 1
        return then
