"""`make bench`: the drain against the loop written by hand, the claim at any depth, many new queues.

Everything in one run on one broker, contenders in turn, medians and spreads. The results go to the terminal
and, as JSON, to bench-results/.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streams.broker import EmbeddedBroker
from tests.bench.contenders import confluent_loop
from tests.bench.world import World

_console = Console()
_RESULTS = Path("bench-results")


async def drains(bootstrap: str, messages: int, size: int, rounds: int) -> dict[str, object]:
    """Messages per second of one worker and of the confluent-kafka loop, each round in another order."""
    rates: dict[str, list[float]] = {"xferq worker": [], "confluent-kafka loop": []}
    memory = 0.0
    for number in range(rounds):
        for name in sorted(rates, reverse=number % 2 == 0):
            async with World(bootstrap).opened(queues=16) as world:
                await asyncio.to_thread(world.fill, messages, size=size)
                if name == "xferq worker":
                    with world.worker() as worker:
                        await world.cancel("warm-up-of-another-queue", queue=world.other)
                        status, seconds = await world.cancel("drain")
                        memory = max(memory, worker.peak_memory_mb())
                    if status.restored != messages:
                        raise SystemExit(f"{status.restored} of {messages} messages were restored")
                else:
                    claim = await world.claim()
                    seconds = await asyncio.to_thread(
                        confluent_loop, bootstrap, world.topic, claim, world.settings.log_topic
                    )
                rates[name].append(messages / seconds)
                _console.print(f"  round {number + 1}: {name} {rates[name][-1]:,.0f} messages/s")
    ours, theirs = (statistics.median(rates[name]) for name in ("xferq worker", "confluent-kafka loop"))
    return {"messages": messages, "size": size, "rates": rates, "ratio": ours / theirs, "worker_memory_mb": memory}


async def claims(bootstrap: str, depth: int, repeats: int) -> dict[str, object]:
    """Milliseconds from HTTP 200 to the claim committed, with `depth` messages in the queue."""
    times = []
    memory = 0.0
    for _ in range(repeats):
        async with World(bootstrap).opened(queues=16) as world:
            await asyncio.to_thread(world.fill, depth, size=256)
            with world.worker() as worker, world.api(_free_port()) as url:
                await world.cancel("warm-up-of-another-queue", queue=world.other)
                await _answers(url)
                times.append(await world.posted_to_claimed_s(url) * 1000)
                await world.all_done()
                memory = max(memory, worker.peak_memory_mb())
    return {"depth": depth, "ms": times, "worker_memory_mb": memory}


async def new_queues(bootstrap: str, queues: int, messages: int) -> dict[str, object]:
    """Seconds of a first drain into queues that don't exist yet, and of a second one; a partition for each."""
    async with World(bootstrap, queue_partitions=1).opened() as world:
        with world.worker():
            await world.cancel("warm-up-of-another-queue", queue=world.other)
            seconds = []
            for id in ("first", "second"):
                await asyncio.to_thread(world.fill, messages, queues=queues, family="new")
                seconds.append((await world.cancel(id))[1])
    return {"queues": queues, "messages": messages, "first_s": seconds[0], "second_s": seconds[1]}


async def _answers(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            await asyncio.sleep(1)
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


async def run(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    started = time.time()
    with EmbeddedBroker(heap_mb=1024) as broker:
        bootstrap = broker.bootstrap_servers
        results: dict[str, object] = {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        }
        table = Table("what", "measured", title=f"xferq on {results['machine']}, broker on the same cores")
        if "drain" in options.only:
            _console.print(f"drain: {options.messages:,} messages of {options.size} B, 4 partitions, 16 queues")
            drain = await drains(bootstrap, options.messages, options.size, options.rounds)
            results["drain"] = drain
            for name, rates in drain["rates"].items():  # type: ignore[attr-defined]
                table.add_row(f"{name}, messages/s", _spread(rates))
            table.add_row("ratio of the medians", f"{drain['ratio']:.2f}")
            table.add_row("worker's peak memory, MB", f"{drain['worker_memory_mb']:.0f}")
        if "claim" in options.only:
            results["claim"] = []
            for depth, repeats in ((1_000, 2 * options.rounds), (options.deep, max(1, options.rounds - 1))):
                _console.print(f"claim: {depth:,} messages deep")
                claim = await claims(bootstrap, depth, repeats)
                results["claim"].append(claim)  # type: ignore[attr-defined]
                table.add_row(f"HTTP 200 to claimed, {depth:,} deep, ms", _spread(claim["ms"]))  # type: ignore[arg-type]
                table.add_row(f"worker's peak memory, {depth:,} deep, MB", f"{claim['worker_memory_mb']:.0f}")
        if "queues" in options.only:
            _console.print("drain into 2,000 new queues")
            many = await new_queues(bootstrap, 2_000, 20_000)
            results["new_queues"] = many
            table.add_row("first drain into 2,000 new queues, s", f"{many['first_s']:.1f}")
            table.add_row("second drain into them, s", f"{many['second_s']:.1f}")
    _console.print(table)
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime(started))
    path.write_text(json.dumps(results, indent=1))
    _console.print(f"results in {path}; {time.time() - started:.0f} s")


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000, help="in the drain")
    parser.add_argument("--size", type=int, default=2048, help="of a message's body, in bytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deep", type=int, default=1_000_000, help="messages in the deep queue of the claim")
    parser.add_argument("--only", nargs="+", default=["drain", "claim", "queues"])
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
