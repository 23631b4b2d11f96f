"""Connections between workers, dispatchers and Kafka that break, hang, slow down, or lose an answer."""

from typing import Literal

from tests.faults.proxy import Api
from tests.faults.trouble import Fault, Trouble

_LOST_ANSWERS: tuple[Api, ...] = (
    *("end_txn", "end_txn", "txn_offset_commit", "produce", "produce", "add_offsets_to_txn", "add_partitions_to_txn"),
    *("init_producer_id", "offset_commit", "join_group", "sync_group", "heartbeat", "offset_fetch", "fetch"),
)


class NetworkTrouble(Trouble):
    """See the module."""

    def _node(self, fault: Fault) -> int | None:
        return fault.dice.choice([None, 1, 2, 3])

    def cut(self, fault: Fault) -> None:
        self.stage.relay.cut(self._node(fault))

    def refuse(self, fault: Fault) -> None:
        node = self._node(fault)
        self.stage.relay.refuse(node)
        self.last(fault)
        self.stage.relay.allow(node)

    def hang(self, fault: Fault) -> None:
        node = self._node(fault)
        self.stage.relay.hang(node)
        self.last(fault)
        self.stage.relay.resume(node)

    def delay(self, fault: Fault) -> None:
        node = self._node(fault)
        self.stage.relay.delay(fault.dice.randrange(20, 400), node)
        self.last(fault)
        self.stage.relay.delay(0, node)

    def half_close(self, fault: Fault) -> None:
        self.stage.relay.half_close(self._node(fault))

    def lose_answer(self, fault: Fault) -> None:
        api = fault.dice.choice(_LOST_ANSWERS)
        then: Literal["cut", "hang"] = fault.dice.choice(["cut", "hang"])
        before = self.stage.relay.dropped()
        self.stage.relay.drop_answer(api, then, fault.dice.randrange(1, 4))
        self.last(fault)
        self.stage.relay.drop_answer(api, then, 0)
        self.done[f"network: answers to {api} lost"] += self.stage.relay.dropped() - before
