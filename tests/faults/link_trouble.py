"""Links between Kafka's nodes that are cut, with a word or without, while clients reach all of them."""

from collections.abc import Collection
from itertools import permutations

from tests.faults.links import DOORS, Link, links_of
from tests.faults.roles import node_with_a_role
from tests.faults.trouble import Fault, Trouble


class LinkTrouble(Trouble):
    """See the module."""

    def controllers(self, fault: Fault) -> None:
        """A node that reaches no controller: a zombie, once its session is over."""
        self._cut(fault, [link for link in links_of(self._node(fault)) if link[2] == "controller"])

    def all(self, fault: Fault) -> None:
        """A node that reaches no other one."""
        self._cut(fault, links_of(self._node(fault)))

    def pair(self, fault: Fault) -> None:
        """Two nodes that don't reach each other."""
        spared = self._node(fault)
        self._cut(fault, [link for link in links_of(1) + links_of(2) if spared not in link[:2]])

    def one_way(self, fault: Fault) -> None:
        """One node can't ask another one at one of its doors."""
        one, other = fault.dice.choice(list(permutations((1, 2, 3), 2)))
        self._cut(fault, [(one, other, fault.dice.choice(DOORS))])

    def _node(self, fault: Fault) -> int:
        role, node = node_with_a_role(self.stage, fault.dice)
        self.say(f"links: {role} is {node}")
        return node

    def _cut(self, fault: Fault, links: Collection[Link]) -> None:
        self.stage.cluster.cut(links, silently=fault.dice.random() < 0.5)
        self.last(fault)
        self.stage.cluster.mend()
