"""Consumer groups: whose offsets are a queue's head, and who is in them.

Members are evicted with LeaveGroup, which takes any members' ids, whichever protocol they speak, and which neither
library offers: the request goes out over aiokafka's raw client.
"""

import asyncio
from collections.abc import Collection, Iterable

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.group import HeartbeatRequest

from streams.errors import Refused, Unavailable
from streams.kafka.connection import Connection
from streams.kafka.subscriptions import Subscription, subscriptions
from streams.kafka.translate import describing, not_permitted, reading, translating
from streams.kafka.wire.describe_groups import GroupDescription, describe
from streams.kafka.wire.leave_group import LeaveGroup
from streams.kafka.wire.offset_fetch import STAMP, fetch

_RETRY_S = 0.02
_EVICTIONS = 3
"""Tries to evict a member that Kafka lists but does not know: one of them meets a member that comes and goes."""


class Groups:
    """Reads and changes consumer groups."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._timeout_s = connection.settings.request_timeout_ms / 1000

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int], *, stable: bool = True
    ) -> dict[int, int]:
        """The group's committed offsets by partition; those without one are left out.

        Without `stable`, those that were committed last, whatever is pending.

        Raises:
            Unavailable: a transaction that commits offsets of these partitions is pending (KIP-447).
        """
        return {p: offset for p, (offset, _) in (await self._fetch(group, topic, partitions, stable)).items()}

    async def stamped(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Those of the group's committed offsets that a claim has left there; see `streams.ports.Groups.stamped`."""
        found = await self._fetch(group, topic, partitions, False)
        return {p: offset for p, (offset, metadata) in found.items() if metadata == STAMP}

    async def _fetch(
        self, group: str, topic: str, partitions: Iterable[int], stable: bool
    ) -> dict[int, tuple[int, str]]:
        wanted = list(partitions)
        if not wanted:
            return {}
        with translating(f"reading the offsets of group {group}", describing(group)):
            async with asyncio.timeout(self._timeout_s):
                client = await self._connection.raw()
                node = await coordinator(client, group)
                return await fetch(client, node, group, topic, wanted, stable=stable)

    async def members(self, group: str) -> set[str]:
        """The ids of the group's members, whichever protocol they speak.

        Raises:
            Refused: Kafka does not tell, or it is a group of another kind, whose members can't be evicted.
        """
        return set((await self.describe(group)).members)

    async def describe(self, group: str) -> GroupDescription:
        """The group, with its members and their protocol. Raises as `members`."""
        with translating(f"listing the members of group {group}", describing(group)):
            async with asyncio.timeout(self._timeout_s):
                client = await self._connection.raw()
                while True:
                    node = await coordinator(client, group)
                    try:
                        return await describe(client, node, group)
                    except aio.BrokerResponseError as error:
                        if not error.retriable:
                            raise
                        await asyncio.sleep(_RETRY_S)

    async def subscriptions(self) -> list[Subscription]:
        """All groups that have members and that we may look at, with the topics that they subscribe to."""
        with translating("listing all groups"):
            async with asyncio.timeout(self._timeout_s):
                return await subscriptions(await self._connection.raw())

    async def may_join(self, group: str) -> bool:
        """Whether Kafka lets this client join the group: it checks that first, whatever member id the client gives."""
        doing = f"looking at group {group}"
        with translating(doing, describing(group)):
            async with asyncio.timeout(self._timeout_s):
                client = await self._connection.raw()
                try:
                    node = await coordinator(client, group)
                except aio.GroupAuthorizationFailedError:
                    return False
                answer = await client.send(node, HeartbeatRequest(group, -1, "nobody"))
        return bool(answer.error_code != aio.GroupAuthorizationFailedError.errno)

    async def evict(self, group: str, members: Collection[str]) -> None:
        """Make these members leave, in one request; those that have left are passed over.

        A member that Kafka does not know is listed again: a broker before 4.0 has no eviction from groups of the new
        protocol and knows none of their members here. But a member that was not there a moment ago may be back, under
        the same id: another claim has evicted it, say. Then the next try counts.

        Raises:
            Refused: Kafka does not let one be evicted.
            Unavailable: it took too long.
        """
        left = set(members)
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._connection.raw()
                for _ in range(_EVICTIONS):
                    if not left or not (unknown := await leave(client, group, left)):
                        return
                    left = unknown & await self.members(group)
        except TimeoutError as error:
            raise Unavailable(f"evicting the members of group {group}: no answer in time") from error
        if left:
            raise Refused(
                f"{len(left)} members of group {group} can't be evicted: Kafka lists them and does not let them leave"
            )


async def coordinator(client: AIOKafkaClient, group: str) -> int:
    """The node that leads the group, however long it takes until there is one."""
    while True:
        try:
            return int(await client.coordinator_lookup(CoordinationType.GROUP, group))
        except (aio.CoordinatorNotAvailableError, aio.NodeNotReadyError):
            await client.force_metadata_update()
            await asyncio.sleep(_RETRY_S)


async def leave(client: AIOKafkaClient, group: str, members: Collection[str]) -> set[str]:
    """Make the members leave, in one request; returns those of whom Kafka knows nothing.

    Raises:
        Refused: Kafka does not let one be evicted.
    """
    unknown: set[str] = set()
    left = sorted(members)
    with translating(f"evicting members of group {group}", describing(group)):
        while True:
            node = await coordinator(client, group)
            answer = await client.send(node, LeaveGroup(group, left))
            # An error of the whole comes without members: the group is none that anybody could leave.
            outcomes = [(member, answer.error_code or code) for member, _, code, _ in answer.members] or [
                (member, answer.error_code) for member in left
            ]
            errors = {member: aio.for_code(code) for member, code in outcomes}
            unknown |= {member for member, error in errors.items() if error is aio.UnknownMemberIdError}
            left = [m for m, error in errors.items() if error not in (aio.NoError, aio.UnknownMemberIdError)]
            if not left:
                return unknown
            for error in errors.values():
                if error is aio.GroupAuthorizationFailedError:
                    raise Refused(f"evicting members of group {group}: {not_permitted(reading(group))}")
                if error not in (aio.NoError, aio.UnknownMemberIdError) and not error.retriable:
                    raise Refused(f"a member of group {group} can't be evicted: {error.description}")
            await asyncio.sleep(_RETRY_S)
