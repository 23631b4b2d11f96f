"""Kafka nodes whose links to each other can be cut, one at a time and in one direction, while clients reach all.

Each node has two doors for the others: one to its broker, for replication, markers and forwarded requests, and one to
its controller. A node that is cut off from the controllers only loses its partitions to others and does not learn of
it: it goes on answering whoever takes it for their leader, with what it knew at the cut.
"""

from collections.abc import Collection
from itertools import permutations
from typing import Any, Literal, get_args

from streams.broker import EmbeddedCluster
from streams.broker.ports import LOOPBACK, free_ports
from tests.faults.ordered import Ordered

Door = Literal["broker", "controller"]
DOORS: tuple[Door, ...] = get_args(Door)
Link = tuple[int, int, Door]
"""Who asks, who is asked, and at which door."""


class LinkedCluster(EmbeddedCluster):
    """Three nodes; see the module."""

    def __init__(self, **options: Any) -> None:
        """Options are those of `EmbeddedCluster`."""
        super().__init__(nodes=3, **options)
        self._links: Ordered | None = None
        self.doors: dict[tuple[int, Door], int] = {}
        """On which port each node's doors are, for the other nodes and for clients that don't come through a proxy."""

    @property
    def relayed_servers(self) -> str:
        """The `host:port` list as bootstrap_servers, of the proxy's ports: clients are kept to them by Kafka."""
        assert self.routes, "it runs, and is relayed"
        return ",".join(f"{LOOPBACK}:{route.advertised}" for route in self.routes.values())

    def cut(self, links: Collection[Link], *, silently: bool = False) -> None:
        """From now on nothing passes over these links: connections are reset, or `silently` hang."""
        self._order("cut", links=list(links), silently=silently)

    def cut_off(self, node: int, *, silently: bool = False) -> None:
        """From now on the node reaches no other one's controller, and none reaches its own."""
        self.cut([link for link in links_of(node) if link[2] == "controller"], silently=silently)

    def mend(self) -> None:
        """Let all talk to all again."""
        self._order("mend")

    def seen(self) -> set[Link]:
        """The links over which a node has come to another one, cut or not."""
        return {(one, other, door) for one, other, door in self._order("seen") if one not in (0, other)}

    def stop(self, timeout_s: float = 10.0) -> None:
        """End nodes and links."""
        super().stop(timeout_s)
        self._end_links()

    def _order(self, order: str, **arguments: Any) -> Any:
        assert self._links is not None, "it runs"
        return self._links.order(order, **arguments)

    def _end_links(self) -> None:
        if self._links is not None:
            self._links.close()
            self._links = None

    def _lay_out(self) -> None:
        super()._lay_out()
        self._end_links()
        drawn = iter(free_ports(6))
        doors = self.doors = {}
        listening = []
        for id, node in enumerate(self._nodes, 1):
            for door, port in zip(DOORS, (node.port, node._controller_port), strict=True):
                doors[id, door] = next(drawn)
                listening.append((id, door, doors[id, door], port))
        voters = ",".join(f"{id}@{LOOPBACK}:{doors[id, 'controller']}" for id in (1, 2, 3))
        for id, node in enumerate(self._nodes, 1):
            addresses = {"PLAINTEXT": doors[id, "broker"], "CONTROLLER": doors[id, "controller"]}
            if id in self._routes:
                addresses["RELAYED"] = self._routes[id].advertised
            node._settings |= {
                "controller.quorum.voters": voters,
                "advertised.listeners": ",".join(f"{name}://{LOOPBACK}:{at}" for name, at in addresses.items()),
            }
        self._links = Ordered("tests.faults.links_process", listening)
        self._links.start()


def links_of(node: int) -> list[Link]:
    """All links to and from a node of three."""
    return [(one, other, door) for one, other in permutations((1, 2, 3), 2) if node in (one, other) for door in DOORS]
