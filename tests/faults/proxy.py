"""A TCP proxy between Kafka clients and brokers, which does on order what networks do by accident.

It knows where Kafka's frames begin, so it can lose exactly the answer to one request of one kind, after the broker
has carried the request out: the fault that leaves a client not knowing whether its transaction is committed.
"""

from collections.abc import Mapping
from typing import Literal, cast

from tests.faults.ordered import Ordered

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


class Relay(Ordered):
    """The proxy, in a process of its own. A node is named by its id; None means all nodes."""

    def __init__(self, routes: Mapping[int, tuple[int, int]]) -> None:
        """Describe a proxy; nothing is started yet.

        Args:
            routes: node id -> loopback port to listen on, loopback port of the broker's listener that tells its
                clients to come to the first one. `EmbeddedCluster.routes` are such.
        """
        super().__init__("tests.faults.proxy_process", dict(routes))

    def cut(self, node: int | None = None) -> None:
        """Close the connections at once, with RST to both ends; new ones are accepted."""
        self.order("cut", node=node)

    def refuse(self, node: int | None = None) -> None:
        """Close the connections at once, and each new one as soon as it comes, until allow()."""
        self.order("refuse", node=node)

    def allow(self, node: int | None = None) -> None:
        """End refuse()."""
        self.order("allow", node=node)

    def hang(self, node: int | None = None) -> None:
        """Take no bytes from either end until resume(): connections stay open, also new ones can be made."""
        self.order("hang", node=node)

    def resume(self, node: int | None = None) -> None:
        """End hang(): what waits is forwarded."""
        self.order("resume", node=node)

    def delay(self, ms: int, node: int | None = None) -> None:
        """Forward everything that comes from now on that much later, in both directions and in order.

        Args:
            ms: milliseconds; 0 ends it, and what waits is forwarded at once.
        """
        self.order("delay", node=node, ms=ms)

    def half_close(self, node: int | None = None) -> None:
        """End the brokers' direction of the connections that are there: clients get FIN and no more answers.

        What the clients send is still forwarded, and carried out by the brokers.
        """
        self.order("half_close", node=node)

    def drop_answer(self, api: Api, then: Literal["cut", "hang"] = "cut", count: int = 1) -> None:
        """Lose the next answers to this API, whichever broker gives them to whom. The requests were carried out.

        Args:
            then: "cut": that connection is closed, after all answers before the lost one have been forwarded;
                "hang": it goes on, with the answers that follow, and the lost one never comes.
            count: how many; takes the place of what is left of an earlier order for this API. 0: no more.
        """
        self.order("drop_answer", api=_KEYS[api], then=then, count=count)

    def dropped(self) -> int:
        """How many answers were lost so far."""
        return cast(int, self.order("dropped"))
