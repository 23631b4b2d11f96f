"""Requests that aiokafka lacks, each in one version of Kafka's protocol, which is a flexible one (KIP-482).

In such a version strings and arrays are compact, and every structure ends with tagged fields.
"""

import base64
from io import BytesIO
from typing import Any, ClassVar

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import AbstractType, CompactArray, CompactString, Int32, Schema, TaggedFields

TEXT = CompactString()


def structure(**fields: Any) -> Schema:
    """These fields by name, in this order, and tagged ones."""
    return Schema(*fields.items(), ("tags", TaggedFields))


def structures(**fields: Any) -> CompactArray:
    """An array of such structures."""
    return CompactArray(*fields.items(), ("tags", TaggedFields))


NUMBERS = structures(topic=TEXT, partitions=CompactArray(Int32))
"""Partitions that a request asks about, by topic."""


def partitions(**fields: Any) -> CompactArray:
    """What a response says of each partition, by topic: its number, and these fields."""
    return structures(topic=TEXT, partitions=structures(partition=Int32, **fields))


class TopicId(AbstractType[str]):  # type: ignore[misc]
    """A topic's id, in the letters that librdkafka shows it in."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        """Its 16 bytes."""
        return base64.b64decode(value + "==")

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        """The id that comes next."""
        return base64.b64encode(data.read(16)).decode().rstrip("=")


class FlexibleRequest(Request[RequestStruct]):  # type: ignore[misc]
    """A request in the version `API_VERSION`, by the name that Apache Kafka's description has: NAMERequest.json.

    Args:
        fields: what `REQUEST` names, in its order, but for the tagged fields: there are none.
    """

    API_KEY = -1
    API_VERSION: ClassVar[int]
    REQUEST: ClassVar[Schema]
    RESPONSE: ClassVar[Schema]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        version = {"API_KEY": cls.API_KEY, "API_VERSION": cls.API_VERSION}
        response = type(f"{cls.__name__}Response", (Response,), {**version, "SCHEMA": cls.RESPONSE})
        request = {**version, "FLEXIBLE_VERSION": True, "RESPONSE_TYPE": response, "SCHEMA": cls.REQUEST}
        cls._CLASSES = (type(f"{cls.__name__}Request", (RequestStruct,), request),)

    def __init__(self, *fields: Any) -> None:
        self.fields = fields

    def build(self, request_struct_class: type[RequestStruct]) -> RequestStruct:
        """The request on the wire."""
        return request_struct_class(*self.fields, {})
