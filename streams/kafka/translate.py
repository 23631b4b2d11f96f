"""Translates the libraries' errors into xferq's, in one place."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from aiokafka import errors as aio
from confluent_kafka import KafkaError, KafkaException

from streams.errors import Fenced, Misconfigured, Refused, Unavailable, XferqError

_DENIED = (
    aio.TopicAuthorizationFailedError,
    aio.GroupAuthorizationFailedError,
    aio.ClusterAuthorizationFailedError,
    aio.TransactionalIdAuthorizationFailed,
)
_DENIED_CODES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_TURNED_AWAY = (
    aio.AuthenticationFailedError,
    aio.SaslAuthenticationFailed,
    aio.UnsupportedSaslMechanismError,
)
_TURNED_AWAY_CODES = {KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._AUTHENTICATION}

_LOGIN = "(XFERQ_KAFKA_SASL_MECHANISM, XFERQ_KAFKA_USERNAME, XFERQ_KAFKA_PASSWORD, XFERQ_KAFKA_TOKEN_COMMAND)"


def not_permitted(needs: str) -> str:
    """What is said where a permission is missing, such as "Read on topic x"."""
    return f"Kafka does not permit {needs} (docs/acls.md)"


def describing(group: str) -> str:
    """The permission that it takes to look at the group."""
    return f"Describe (or Read) on group {group}"


def reading(group: str) -> str:
    """The permission that it takes to be a member of the group, or to make another one leave."""
    return f"Read on group {group}"


def translated(error: Exception, doing: str, needs: str = "", topics: Collection[str] = ()) -> XferqError:
    """xferq's error for one of the libraries'; its own pass through.

    Args:
        doing: what was being done: the message begins with it.
        needs: the permission that it takes, such as "Read on topic x".
        topics: whose partitions did not answer, where that is known.
    """
    if isinstance(error, XferqError):
        return error
    if isinstance(error, aio.ProducerFenced | aio.InvalidProducerEpoch):
        return Fenced(f"{doing}: another producer took over, or the transaction timed out")
    if type(error) is aio.KafkaError and isinstance(error.__cause__, _DENIED):
        error = error.__cause__  # what aiokafka's sender did not reckon with
    code = error.args[0].code() if isinstance(error, KafkaException) else None
    if isinstance(error, _TURNED_AWAY) or code in _TURNED_AWAY_CODES:
        return Refused(f"{doing}: Kafka turns the login down: {_text(error)} {_LOGIN}")
    if isinstance(error, _DENIED) or code in _DENIED_CODES:
        return Refused(f"{doing}: {not_permitted(needs) if needs else f'Kafka does not permit it: {_text(error)}'}")
    if isinstance(error, aio.MessageSizeTooLargeError | aio.RecordListTooLargeError):
        return Refused(f"{doing}: it is larger than Kafka takes")
    if isinstance(error, aio.InvalidTransactionTimeout):
        return Misconfigured("XFERQ_TRANSACTION_TIMEOUT_MS is more than the broker's transaction.max.timeout.ms allows")
    return Unavailable(f"{doing}: {_text(error)}", topics)


@contextmanager
def translating(doing: str, needs: str = "") -> Iterator[None]:
    """Translate whatever a Kafka library raises inside; `doing` and `needs` as in `translated`.

    aiokafka guards its states with assertions and has bugs that surface as KeyError, so anything that is
    an Exception counts as the library's.
    """
    try:
        yield
    except XferqError:
        raise
    except Exception as error:
        raise translated(error, doing, needs) from error


def _text(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, aio.BrokerResponseError):
        return str(error.description)
    return str(error) or type(error).__name__
