"""The libraries' errors, translated into ours in one place."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as aio
from confluent_kafka import KafkaError, KafkaException

from streams.errors import Fenced, Misconfigured, Refused, Unavailable, XferqError

_DENIED = (
    aio.TopicAuthorizationFailedError,
    aio.GroupAuthorizationFailedError,
    aio.ClusterAuthorizationFailedError,
    aio.TransactionalIdAuthorizationFailed,
    aio.AuthenticationFailedError,
    aio.SaslAuthenticationFailed,
    aio.UnsupportedSaslMechanismError,
)
_DENIED_CODES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}


def translated(error: Exception, doing: str) -> XferqError:
    """Our error for one of the libraries', with what was being done; ours pass through."""
    if isinstance(error, XferqError):
        return error
    if isinstance(error, aio.ProducerFenced | aio.InvalidProducerEpoch):
        return Fenced(f"{doing}: another producer took over, or the transaction timed out")
    if isinstance(error, _DENIED) or (isinstance(error, KafkaException) and error.args[0].code() in _DENIED_CODES):
        return Refused(f"{doing}: Kafka does not permit it: {_text(error)}")
    if isinstance(error, aio.MessageSizeTooLargeError | aio.RecordListTooLargeError):
        return Refused(f"{doing}: it is larger than Kafka takes")
    if isinstance(error, aio.InvalidTransactionTimeout):
        return Misconfigured("XFERQ_TRANSACTION_TIMEOUT_MS is more than the broker's transaction.max.timeout.ms allows")
    return Unavailable(f"{doing}: {_text(error)}")


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Translate whatever a Kafka library raises inside; `doing` starts the message.

    aiokafka guards its states with assertions and has bugs that surface as KeyError, so anything that is
    an Exception counts as the library's.
    """
    try:
        yield
    except XferqError:
        raise
    except Exception as error:
        raise translated(error, doing) from error


def _text(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(error, aio.BrokerResponseError):
        return str(error.description)
    return str(error) or type(error).__name__
