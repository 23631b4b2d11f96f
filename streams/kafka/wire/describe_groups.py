"""Who is in a consumer group, whichever protocol its members speak; and whether it is one at all.

Groups of the new protocol (KIP-848) are described by a request of their own, which aiokafka lacks. librdkafka's admin
client has both, but where an answer comes after its time-out it ends the process (an assertion,
https://github.com/confluentinc/librdkafka/issues/4605), and just that happens when a broker hangs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import DescribeGroupsRequest_v1
from aiokafka.protocol.api import Request
from aiokafka.protocol.types import CompactArray, Int32

from streams.errors import Refused
from streams.kafka.other_groups import ASSIGNMENT, GROUP, GROUPS, other_kind
from streams.kafka.wire.request import TEXT, FlexibleRequest, structure, structures


class ConsumerGroupDescribe(FlexibleRequest):
    """Ask about groups of the new protocol; all of them must have the node that is asked for their coordinator."""

    API_KEY = 69
    API_VERSION = 0
    REQUEST = GROUPS
    RESPONSE = structure(
        throttle_time_ms=Int32,
        groups=structures(
            **GROUP,
            assignor=TEXT,
            members=structures(
                member_id=TEXT,
                instance_id=TEXT,
                rack_id=TEXT,
                member_epoch=Int32,
                client_id=TEXT,
                client_host=TEXT,
                subscribed_topics=CompactArray(TEXT),
                subscribed_regex=TEXT,
                assignment=ASSIGNMENT,
                target_assignment=ASSIGNMENT,
            ),
            authorized_operations=Int32,
        ),
    )

    def __init__(self, groups: Collection[str]) -> None:
        super().__init__(list(groups), False)


class DescribeGroups(Request[DescribeGroupsRequest_v1]):  # type: ignore[misc]
    """Ask about classic groups; all of them must have the node that is asked for their coordinator.

    aiokafka's own takes version 3 where it can, and reads its answer as one of version 2.
    """

    API_KEY = 15

    def __init__(self, groups: Collection[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[DescribeGroupsRequest_v1]) -> DescribeGroupsRequest_v1:
        """The request on the wire."""
        return request_struct_class(list(self._groups))


_NONE = "Dead"
"""The state in which Kafka describes what is no classic group: none at all, or one of another kind."""


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group with its members' ids; `assignor` is empty while the group rebalances."""

    members: frozenset[str]
    is_led_by_broker: bool
    """It is of the new protocol, KIP-848."""
    assignor: str


async def describe(client: AIOKafkaClient, node: int, group: str) -> GroupDescription:
    """Ask the group's coordinator; a group that does not exist has no members.

    Args:
        node: the coordinator.

    Raises:
        Refused: it is a share or a streams group.
        aiokafka.errors.KafkaError: the node is not the coordinator any more, not ready, or does not permit it.
    """
    try:
        found = (await client.send(node, ConsumerGroupDescribe([group]))).groups[0]
    except aio.IncompatibleBrokerVersion:
        found = None  # a Kafka that has no such groups
    if found is not None:
        code, _, _, _, _, _, assignor, members, *_ = found
        if code != aio.GroupIdNotFound.errno:
            _raise_for(code)
            return GroupDescription(_ids(members), is_led_by_broker=True, assignor=assignor or "")
    code, _, state, _, assignor, members = (await client.send(node, DescribeGroups([group]))).groups[0]
    _raise_for(code)
    if state == _NONE and (kind := await other_kind(client, node, group)) is not None:
        raise Refused(
            f"group {group} is a {kind} group (its members can't be evicted): the dispatchers of a queue must be a "
            "consumer group (docs/dispatchers.md)"
        )
    return GroupDescription(_ids(members), is_led_by_broker=False, assignor=assignor or "")


def _ids(members: list[Any]) -> frozenset[str]:
    return frozenset(member[0] for member in members)


def _raise_for(code: int) -> None:
    error = aio.for_code(code)
    if error is not aio.NoError:
        raise error
