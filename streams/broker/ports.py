"""Free loopback ports for brokers that say they don't mind which."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the ranges from which Linux (32768-60999) and macOS (49152-65535) take the local ports of outgoing
# connections: a port found free here isn't taken by some client a moment later. Another broker that starts at
# the same time can still draw the same number; the caller that starts a broker retries on PortInUseError.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Kafka does: connections in TIME_WAIT, left by a broker that had the port before, don't matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Draw that many different loopback ports on which nothing listens.

    Raises:
        OSError: hardly any port is free.
    """
    drawn = random.SystemRandom().sample(_RANGE, len(_RANGE))
    found: list[int] = []
    for port in drawn:
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} free ports between {_RANGE.start} and {_RANGE.stop - 1}")
