"""LeaveGroup v3: many members leave in one request. aiokafka stops at v1, which is about one of them."""

from collections.abc import Collection

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String


class LeaveGroupResponseV3(Response):  # type: ignore[misc]
    """Apache Kafka's LeaveGroupResponse.json, version 3."""

    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(("member_id", String("utf-8")), ("instance_id", String("utf-8")), ("error_code", Int16)),
        ),
    )


class LeaveGroupRequestV3(RequestStruct):  # type: ignore[misc]
    """Apache Kafka's LeaveGroupRequest.json, version 3."""

    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = LeaveGroupResponseV3
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("members", Array(("member_id", String("utf-8")), ("instance_id", String("utf-8")))),
    )


class LeaveGroup(Request[LeaveGroupRequestV3]):  # type: ignore[misc]
    """Make these members leave, static ones too: by the id that the broker gave each."""

    API_KEY = 13

    def __init__(self, group: str, members: Collection[str]) -> None:
        self._group = group
        self._members = members

    def build(self, request_struct_class: type[LeaveGroupRequestV3]) -> LeaveGroupRequestV3:
        """The request on the wire."""
        return request_struct_class(self._group, [(member, None) for member in self._members])
