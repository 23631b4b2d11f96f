"""Ask a broker, on a bare socket, which brokers it knows to be alive.

A Metadata request, version 1 without topics: the smallest question that only a broker which has joined its
cluster answers with its own id (ApiVersions is answered before that). No Kafka client is needed for it.
"""

import socket
import struct

from streams.broker.ports import LOOPBACK

_METADATA, _VERSION, _CORRELATION_ID, _NO_CLIENT_ID, _NO_TOPICS = 3, 1, 1, -1, 0
_REQUEST = struct.pack(">hhihi", _METADATA, _VERSION, _CORRELATION_ID, _NO_CLIENT_ID, _NO_TOPICS)


def live_nodes(port: int, timeout_s: float = 2.0) -> frozenset[int]:
    """The node ids in the metadata of the broker on this loopback port; empty where nothing answers (yet)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(_REQUEST)) + _REQUEST)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">i", stream.read(4))
                return _node_ids(stream.read(size))
    except (OSError, struct.error):  # struct.error: the answer ended early
        return frozenset()


def _node_ids(answer: bytes) -> frozenset[int]:
    """Read correlation id, then the array of brokers: id, host, port, rack."""
    _, count = struct.unpack_from(">ii", answer)
    at, ids = 8, set()
    for _ in range(count):
        node_id, host_length = struct.unpack_from(">ih", answer, at)
        at += 6 + host_length + 4
        (rack_length,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack_length, 0)
        ids.add(node_id)
    return frozenset(ids)
