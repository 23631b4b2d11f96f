"""Who takes messages out of which topics: all groups that have members, of every kind, with what they subscribe to."""

from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.protocol.types import CompactArray, Int16, Int32

from streams.kafka.other_groups import ShareGroupDescribe, StreamsGroupDescribe
from streams.kafka.wire.describe_groups import ConsumerGroupDescribe, DescribeGroups
from streams.kafka.wire.request import TEXT, FlexibleRequest, structure, structures

GroupKind = Literal["classic", "consumer", "share", "streams"]
"""As Kafka names them; `consumer` is the new protocol, KIP-848."""
_AT_ONCE = 100
_WITHOUT_MEMBERS = ("Empty", "Dead")


class Subscription(NamedTuple):
    """A group that has members, and the topics that they subscribe to."""

    group: str
    kind: GroupKind
    topics: frozenset[str]


class _ListGroups(FlexibleRequest):
    """Ask one broker for the groups that it coordinates, in the first version that tells the kinds (Kafka 3.8).

    Args:
        states: empty for those in any state.
        kinds: empty for those of any kind.
    """

    API_KEY = 16
    API_VERSION = 5
    REQUEST = structure(states=CompactArray(TEXT), kinds=CompactArray(TEXT))
    RESPONSE = structure(
        throttle_time_ms=Int32,
        error_code=Int16,
        groups=structures(group=TEXT, protocol_type=TEXT, state=TEXT, kind=TEXT),
    )


async def subscriptions(client: AIOKafkaClient) -> list[Subscription]:
    """Ask every broker for the groups that it coordinates; those that we may not look at are left out.

    Raises:
        aiokafka.errors.KafkaError: a broker does not answer.
    """
    found: list[Subscription] = []
    for broker in client.cluster.brokers():
        try:
            answer = await client.send(broker.nodeId, _ListGroups([], []))
        except NotImplementedError as error:  # aiokafka's, for a version that it does not have
            raise aio.IncompatibleBrokerVersion("this Kafka does not tell the kinds of its groups") from error
        if answer.error_code != 0:
            raise aio.for_code(answer.error_code)
        listed: dict[str, list[str]] = {}
        for group, protocol_type, state, kind, _ in answer.groups:
            if state not in _WITHOUT_MEMBERS and (kind.lower() != "classic" or protocol_type == "consumer"):
                listed.setdefault(kind.lower(), []).append(group)
        for kind, describe in _DESCRIBED.items():
            groups = listed.get(kind, [])
            at_once = 1 if kind == "streams" else _AT_ONCE
            for start in range(0, len(groups), at_once):
                found += await describe(client, broker.nodeId, groups[start : start + at_once])
    return found


async def _classic(client: AIOKafkaClient, node: int, groups: Collection[str]) -> list[Subscription]:
    return [
        Subscription(group, "classic", frozenset(topic for member in members for topic in _subscribed(member)))
        for code, group, _, _, _, members in (await client.send(node, DescribeGroups(groups))).groups
        if code == 0
    ]


def _subscribed(member: tuple[Any, ...]) -> list[str]:
    metadata = member[3]
    try:
        # None while the group rebalances: the next look sees it.
        return list(ConsumerProtocolMemberMetadata.decode(metadata).subscription) if metadata else []
    except ValueError:
        return []  # a client's own idea of it


async def _consumer(client: AIOKafkaClient, node: int, groups: Collection[str]) -> list[Subscription]:
    return _described("consumer", await client.send(node, ConsumerGroupDescribe(groups)), 6, 9)


async def _share(client: AIOKafkaClient, node: int, groups: Collection[str]) -> list[Subscription]:
    return _described("share", await client.send(node, ShareGroupDescribe(groups)), 5, 6)


def _described(kind: GroupKind, answer: Any, *of_member: int) -> list[Subscription]:
    return [
        Subscription(group, kind, frozenset(topic for member in members for topic in _of_member(member, *of_member)))
        for code, _, group, _, _, _, _, members, *_ in answer.groups
        if code == 0
    ]


def _of_member(member: tuple[Any, ...], subscribed_at: int, assigned_at: int) -> Iterator[str]:
    """What it names, and what it is assigned besides: it may have asked for a pattern."""
    yield from member[subscribed_at]
    yield from (topic for *_, topic, _, _ in member[assigned_at][0])


async def _streams(client: AIOKafkaClient, node: int, groups: Collection[str]) -> list[Subscription]:
    (group,) = groups
    code, _, _, _, _, _, topology = (await client.send(node, StreamsGroupDescribe(group))).groups[0]
    topics = frozenset(topic for _, sources, *_ in topology for topic in sources)
    return [Subscription(group, "streams", topics)] if code == 0 else []


_DESCRIBED: dict[GroupKind, Any] = {"classic": _classic, "consumer": _consumer, "share": _share, "streams": _streams}
