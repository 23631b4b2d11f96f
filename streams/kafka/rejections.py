"""What Kafka turns down of a transaction's writes, and why; all else may pass."""

from collections.abc import Mapping

from aiokafka import errors as aio

from streams.errors import Rejected
from streams.kafka.translate import not_permitted
from streams.records import TopicPartition

_REJECTIONS: dict[type[BaseException], str] = {
    aio.MessageSizeTooLargeError: "too_large",
    aio.RecordListTooLargeError: "too_large",
    aio.InvalidTopicError: "invalid topic",
    aio.PolicyViolationError: "against a policy",
    aio.InvalidTimestampError: "timestamp",
    aio.CorruptRecordException: "record not accepted by the topic",
}


def write_denied(topic: str) -> str:
    """Why nothing can be written to the topic: Kafka does not permit it."""
    return not_permitted(f"Write on topic {topic}")


def rejected(failures: Mapping[TopicPartition, BaseException]) -> Rejected:
    """The error that says which partitions were turned down, and why.

    Raises:
        BaseException: the first of the failures that is another one.
    """
    reasons = {}
    for where, failure in failures.items():
        if isinstance(failure, aio.TopicAuthorizationFailedError):
            reasons[where] = write_denied(where[0])
        elif type(failure) in _REJECTIONS:
            reasons[where] = _REJECTIONS[type(failure)]
        else:
            raise failure
    return Rejected(reasons)
