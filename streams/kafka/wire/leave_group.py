"""LeaveGroup v4: many members leave in one request. aiokafka stops at v1, which is about one of them."""

from collections.abc import Collection

from aiokafka.protocol.types import Int16, Int32

from streams.kafka.wire.request import TEXT, FlexibleRequest, structure, structures


class LeaveGroup(FlexibleRequest):
    """Make these members leave, static ones too: by the id that the broker gave each."""

    API_KEY = 13
    API_VERSION = 4
    REQUEST = structure(group=TEXT, members=structures(member_id=TEXT, instance_id=TEXT))
    RESPONSE = structure(
        throttle_time_ms=Int32,
        error_code=Int16,
        members=structures(member_id=TEXT, instance_id=TEXT, error_code=Int16),
    )

    def __init__(self, group: str, members: Collection[str]) -> None:
        super().__init__(group, [(member, None, {}) for member in members])
