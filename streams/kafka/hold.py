"""The claimer's seat in a queue's group, from before its dispatchers are evicted until some time after.

In a classic group the holder's JoinGroup goes out over aiokafka's raw client; a group of the new protocol gets another
kind of holder, a librdkafka consumer that wants nothing.
"""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from confluent_kafka import Consumer, KafkaError

from streams.errors import Refused, Unavailable
from streams.kafka.acls import HOLD_TOPIC
from streams.kafka.connection import Connection
from streams.kafka.groups import Groups, coordinator, leave
from streams.kafka.translate import not_permitted, reading, translating

_SESSION_MS = 10_000
_HEARTBEAT_S = 2.0
_ASSIGNORS = ("range", "roundrobin", "sticky", "cooperative-sticky")
"""Offered beside the group's own protocol: while a group rebalances Kafka does not tell which that is."""
_RETRY_S = 0.02
_MEMBER_ID_REQUIRED = 79


class ClassicHold:
    """The claimer's seat in a classic group; made by `take_hold`. Heartbeats keep it until `release`."""

    delays_members = True

    def __init__(self, groups: Groups, client: AIOKafkaClient, group: str) -> None:
        self._groups = groups
        self._client = client
        self._group = group
        self._generation = -1
        self._heart: asyncio.Task[None] | None = None
        self.member_id = ""
        self.evicted: set[str] = set()

    async def join(self, assignor: str) -> None:
        """Take the seat, then evict all other members until this one leads the group."""
        with translating(f"joining group {self._group}"):
            await self._client.bootstrap()
        # A subscription to nothing: should another member ever lead, it gives us no partition.
        metadata = ConsumerProtocolMemberMetadata(0, [], b"").encode()
        offered = list(dict.fromkeys(name for name in (assignor, *_ASSIGNORS) if name))
        protocols = [(name, metadata) for name in offered]
        while True:
            joining = asyncio.ensure_future(self._join(protocols))
            try:
                await self._evict_others(joining)
                answer = await joining
            finally:
                joining.cancel()
            if answer.error_code == _MEMBER_ID_REQUIRED:
                self.member_id = answer.member_id
                continue
            error = aio.for_code(answer.error_code)
            if error is aio.NoError:
                self._generation = answer.generation_id
                self.member_id = answer.member_id
                if answer.leader_id == self.member_id:
                    break
                continue  # a member that came in between leads: evict again, join again
            if error is aio.UnknownMemberIdError:
                self.member_id = ""
            elif error is aio.GroupAuthorizationFailedError:
                raise Refused(f"joining group {self._group}: {not_permitted(reading(self._group))}")
            elif not error.retriable and error is not aio.RebalanceInProgressError:
                raise Refused(f"group {self._group} can't be joined: {error.description}")
            await asyncio.sleep(_RETRY_S)
        self._heart = asyncio.create_task(self._beat())

    async def _join(self, protocols: list[tuple[str, bytes]]) -> Any:
        # Our own connection for this request: a broker answers one request of a connection at a time, and
        # this one waits until the others have left or joined again.
        node = await coordinator(self._client, self._group)
        request = JoinGroupRequest(
            self._group,
            _SESSION_MS,
            60_000,
            self.member_id,
            None,
            "consumer",
            protocols,
        )
        with translating(f"joining group {self._group}", reading(self._group)):
            return await self._client.send(node, request, group=ConnectionGroup.COORDINATION)

    async def _evict_others(self, joining: "asyncio.Future[Any]") -> None:
        while not joining.done():
            members = await self._groups.members(self._group)
            others = members - {self.member_id}
            if self.member_id in members and others:
                await self._groups.evict(self._group, others)
                self.evicted |= others
            else:
                await asyncio.wait([joining], timeout=0.005)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            with suppress(Exception):
                node = await coordinator(self._client, self._group)
                await self._client.send(
                    node,
                    HeartbeatRequest(self._group, self._generation, self.member_id),
                    group=ConnectionGroup.COORDINATION,
                )

    async def release(self) -> None:
        """Leave the group and close the connections; never raises."""
        if self._heart is not None:
            self._heart.cancel()
        with suppress(Exception):
            async with asyncio.timeout(2):
                if self.member_id:
                    await leave(self._client, self._group, [self.member_id])
        with suppress(Exception):
            await self._client.close()


class Kip848Hold:
    """A claimer's seat in a group of the new protocol; made by `take_hold`. Others go on as soon as they join again."""

    delays_members = False

    def __init__(self, groups: Groups, connection: Connection, group: str) -> None:
        self._groups = groups
        self._group = group
        self._consumer = Consumer(
            {
                **connection.librdkafka("hold"),
                "group.id": group,
                "group.protocol": "consumer",
                "enable.auto.commit": False,
            }
        )
        self.member_id = str(self._consumer.memberid())
        self.evicted: set[str] = set()

    async def join(self, _assignor: str) -> None:
        """Take the seat, then evict all other members."""
        doing = f"joining group {self._group}"
        with translating(doing):
            self._consumer.subscribe([HOLD_TOPIC])
        while self.member_id not in (members := await self._groups.members(self._group)):
            await asyncio.sleep(_RETRY_S)
            if (message := self._consumer.poll(0)) is not None and (error := message.error()) is not None:
                is_topic = error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
                if is_topic or error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    needs = f"Describe on topic {HOLD_TOPIC}" if is_topic else reading(self._group)
                    raise Refused(f"{doing}: {not_permitted(needs)}")
        self.evicted = members - {self.member_id}
        await self._groups.evict(self._group, self.evicted)

    async def release(self) -> None:
        """Leave the group and close the connections; never raises."""
        with suppress(Exception):
            async with asyncio.timeout(2):
                await asyncio.to_thread(self._consumer.close)


async def take_hold(groups: Groups, connection: Connection, group: str) -> ClassicHold | Kip848Hold | None:
    """Evict all members, with a seat of the claimer's own in the group from before they go.

    1. Join as one more member; the group starts to rebalance and waits for the others.
    2. Evict the others. The group was never empty: into an empty one, Kafka accepts commits without
       membership, and evicted consumers (aiokafka's, Java's) send just that.
    3. The join is answered: this member leads, and as long as it sends no SyncGroup, no member gets a partition.

    In a group of the new protocol (KIP-848) the broker leads, so there is no 3, and the seat is taken with
    a member of that protocol: with a classic one left alone in it the broker would turn it into a classic
    group, and its consumers fail for good when they come back. None for a group without members.

    Raises:
        Refused: the group can't be joined, or its members not be listed or evicted.
        Unavailable: it took too long.
    """
    description = await groups.describe(group)
    if not description.members:
        return None
    hold: ClassicHold | Kip848Hold
    if description.is_led_by_broker:
        hold = Kip848Hold(groups, connection, group)
    else:
        hold = ClassicHold(groups, AIOKafkaClient(**connection.client("hold")), group)
    try:
        async with asyncio.timeout(connection.settings.request_timeout_ms / 1000):
            await hold.join(description.assignor)
    except BaseException as error:
        await hold.release()
        if isinstance(error, TimeoutError):
            raise Unavailable(f"joining group {group}: no answer in time") from error
        raise
    return hold
