"""xferq alone: how many cancels one API process takes in a second, and how long each waits for its answer."""

import asyncio
import json
import time
from typing import Any

from streams.broker.ports import free_ports
from tests.bench.contenders.contender import REASON
from tests.bench.world import World, answers

_SIDE_BY_SIDE = 32


async def posts(bootstrap: str, seconds: float, *, with_key: bool = False) -> dict[str, Any]:
    """Posts as fast as they are answered, over connections that stay open; no worker takes them.

    With a key, each has an Idempotency-Key of its own.
    """
    async with World(bootstrap).opened(queues=1) as world:
        (port,) = free_ports(1)
        with world.api(port) as url:
            await answers(url)
            body = json.dumps({"queue_name": world.queue, "reason": REASON}).encode()
            crowd = range(_SIDE_BY_SIDE)
            until = time.perf_counter() + 1
            await asyncio.gather(*(_post(port, body, until, f"warm{n}" if with_key else "") for n in crowd))
            began = time.perf_counter()
            until = began + seconds
            times = await asyncio.gather(*(_post(port, body, until, f"key{n}" if with_key else "") for n in crowd))
            took = time.perf_counter() - began
    ms = sorted(one * 1000 for each in times for one in each)
    return {
        "with_key": with_key,
        "connections": _SIDE_BY_SIDE,
        "posts": len(ms),
        "per_second": len(ms) / took,
        "median_ms": ms[len(ms) // 2],
        "p99_ms": ms[len(ms) * 99 // 100],
    }


async def _post(port: int, body: bytes, until: float, key: str) -> list[float]:
    """Post until then, with keys that begin so, if at all; the seconds that each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    try:
        while (began := time.perf_counter()) < until:
            keyed = b"Idempotency-Key: %b-%d\r\n" % (key.encode(), len(times)) if key else b""
            writer.write(
                b"POST /api/admin/xfer/cancel/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"%bContent-Length: %d\r\n\r\n%b" % (keyed, len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"a post was answered with {head[:200]!r}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            times.append(time.perf_counter() - began)
    finally:
        writer.close()
    return times
