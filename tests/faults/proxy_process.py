"""The proxy's own process: `python -m tests.faults.proxy_process ROUTES`, started by proxy.py.

ROUTES is a JSON object of node id to [port to listen on, port of the broker].
"""

import asyncio

from streams.broker.ports import LOOPBACK
from tests.faults.frames import Losses
from tests.faults.ordered import obey
from tests.faults.proxy_connection import Node, accept


class Orders:
    """What the proxy can be told, by name. A node of None means every node."""

    def __init__(self, nodes: dict[int, Node], losses: Losses) -> None:
        self._nodes, self._losses = nodes, losses

    async def cut(self, node: int | None) -> None:
        for one in self._chosen(node):
            await _reset(one)

    async def refuse(self, node: int | None) -> None:
        for one in self._chosen(node):
            one.is_refused = True
            await _reset(one)

    async def allow(self, node: int | None) -> None:
        for one in self._chosen(node):
            one.is_refused = False

    async def hang(self, node: int | None) -> None:
        for one in self._chosen(node):
            one.is_hung = True
            _go_on(one)

    async def resume(self, node: int | None) -> None:
        for one in self._chosen(node):
            one.is_hung = False
            _go_on(one)

    async def delay(self, node: int | None, ms: int) -> None:
        for one in self._chosen(node):
            one.delay_s = ms / 1000
            _go_on(one)

    async def half_close(self, node: int | None) -> None:
        for one in self._chosen(node):
            for connection in list(one.connections):
                connection.half_close()

    async def drop_answer(self, api: int, then: str, count: int) -> None:
        self._losses.order(api, then, count)

    async def dropped(self) -> int:
        return self._losses.count

    def _chosen(self, node: int | None) -> list[Node]:
        return list(self._nodes.values()) if node is None else [self._nodes[node]]


def _go_on(node: Node) -> None:
    for connection in list(node.connections):
        connection.go_on()


async def _reset(node: Node) -> None:
    """Reset the connections that are there now, and wait until their sockets are closed."""
    connections = set(node.connections)
    for connection in connections:
        connection.reset()
    while connections & node.connections:
        await asyncio.sleep(0)


async def _begin(routes: dict[str, tuple[int, int]]) -> Orders:
    loop = asyncio.get_running_loop()
    losses = Losses()
    nodes = {int(node): Node(port, losses) for node, (_, port) in routes.items()}
    for node, (port, _) in routes.items():
        await loop.create_server(lambda node=int(node): accept(nodes[node]), LOOPBACK, port, backlog=1000)  # type: ignore[misc]
    return Orders(nodes, losses)


if __name__ == "__main__":
    obey(_begin)
