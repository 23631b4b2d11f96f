"""Whether Kafka is there, and lets us in: its own clients try for a long time before they say so, and don't say why.

What goes wrong with TLS or the login is told with the setting that a person should look at.
"""

import asyncio
import os
import ssl
import struct

from aiokafka import errors as aio
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from streams.domain.network import parse_server
from streams.errors import Unavailable
from streams.kafka.connection import Connection
from streams.kafka.security import Security

_CONNECT_S = 3.0
_ANSWER_S = 5.0
_LOGIN_S = 10.0
"""A command that gives tokens may take its time."""
_API_VERSIONS = 18
_METADATA = 3
_SERVERS = "(XFERQ_BOOTSTRAP_SERVERS)"
_PROTOCOL = "XFERQ_KAFKA_SECURITY_PROTOCOL"
_CERTIFICATE = "(XFERQ_KAFKA_CERTIFICATE_FILE, XFERQ_KAFKA_KEY_FILE)"
_TLS_ALERT = b"\x15\x03"
_OTHER_HOST = {62, 64}
"""OpenSSL's numbers for a certificate of another host name, and of another IP address."""


async def require_reachable(connection: Connection) -> None:
    """See that at least one of the servers is a Kafka that talks to us.

    Raises:
        Unavailable: none does; with the reason of the last one, and the setting that has to do with it.
    """
    servers = connection.bootstrap_servers
    why = ""
    for server in servers.split(","):
        try:
            await _try(server, connection.security)
        except Unavailable as error:
            why = str(error)
        else:
            return
    raise Unavailable(f"can't reach Kafka at {servers}: {why}")


async def _try(server: str, security: Security) -> None:
    host, port = parse_server(server)
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=security.ssl_context)
    except TimeoutError:
        raise Unavailable(f"no answer within {_CONNECT_S:.0f} s {_SERVERS}") from None
    except ssl.SSLError as error:
        raise Unavailable(_no_tls(error)) from error
    except (ConnectionResetError, EOFError) as error:
        raise Unavailable(_cut_off(security)) from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise Unavailable(f"{why} {_SERVERS}") from error
    except ValueError as error:  # a name that can't be one
        raise Unavailable(f"{server!r}: {error} {_SERVERS}") from None
    try:
        async with asyncio.timeout(_ANSWER_S):
            await _talk(reader, writer, security)
    except TimeoutError:
        raise Unavailable(f"connected, but no answer within {_ANSWER_S:.0f} s {_SERVERS}") from None
    finally:
        writer.close()
    if security.mechanism is not None:
        await _log_in(host, port, security)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, security: Security) -> None:
    """Ask what is answered to anybody, then, where nobody has to log in, what only those get who are let in."""
    asking = "versions"
    try:
        await _ask(reader, writer, _request(_API_VERSIONS, 0, b""))
        if security.mechanism is None:
            asking = "topics"
            await _ask(reader, writer, _request(_METADATA, 1, struct.pack(">i", 0)))
    except ssl.SSLError as error:
        raise Unavailable(_no_tls(error)) from error
    except asyncio.IncompleteReadError as error:
        if error.partial.startswith(_TLS_ALERT):
            raise Unavailable(_wants_tls(security)) from error
        raise Unavailable(_cut_off(security, asking == "topics")) from error
    except OSError as error:
        raise Unavailable(_cut_off(security, asking == "topics")) from error
    except ValueError as error:
        raise Unavailable(f"what answers is not Kafka {_SERVERS}") from error


async def _log_in(host: str, port: int, security: Security) -> None:
    """Log in as aiokafka's clients do, which take any answer to a token for a yes; so ask for something then."""
    by = "XFERQ_KAFKA_USERNAME, XFERQ_KAFKA_PASSWORD or XFERQ_KAFKA_PASSWORD_FILE"
    if security.mechanism == "OAUTHBEARER":
        by = "XFERQ_KAFKA_TOKEN_COMMAND"
    try:
        async with asyncio.timeout(_LOGIN_S):
            connection = await create_conn(host, port, **security.aiokafka())
            try:
                answer = await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except aio.UnsupportedSaslMechanismError as error:
        raise Unavailable(f"{security.mechanism} is no login that it takes (XFERQ_KAFKA_SASL_MECHANISM)") from error
    except aio.IllegalSaslStateError as error:
        raise Unavailable(f"it wants no login, but {_PROTOCOL} is {security.protocol}") from error
    except (aio.SaslAuthenticationFailed, aio.AuthenticationFailedError) as error:
        raise Unavailable(f"it turns the login down: {_said(error)} ({by})") from error
    except (aio.KafkaError, OSError) as error:
        raise Unavailable(f"the login by {security.mechanism} fails: {_said(error)} ({by})") from error
    if not answer.brokers:
        raise Unavailable(f"it turns the login down ({by})")


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_LOGIN_S:.0f} s"
    return str(error.args[0] if error.args else error) or type(error).__name__


def _no_tls(error: ssl.SSLError) -> str:
    """Why TLS did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_HOST:
            return (
                f"its certificate is for another host: {error.verify_message} "
                "(XFERQ_BOOTSTRAP_SERVERS, XFERQ_KAFKA_CHECK_HOSTNAME)"
            )
        return f"its certificate is not trusted: {error.verify_message} (XFERQ_KAFKA_CA_FILE)"
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason):
        return f"it does not take our certificate, or wants one: {reason} {_CERTIFICATE}"
    return f"no TLS comes about: {reason}; {_PROTOCOL} says that it speaks TLS"


def _wants_tls(security: Security) -> str:
    return f"it wants TLS, but {_PROTOCOL} is {security.protocol}"


def _cut_off(security: Security, is_after_versions: bool = False) -> str:
    """Why a connection may have been closed without a word."""
    if is_after_versions:
        return f"it closes the connection: it wants a login, but {_PROTOCOL} is {security.protocol}"
    other = "no TLS" if security.ssl_context else "TLS"
    return f"it closes the connection: it may want {other}, but {_PROTOCOL} is {security.protocol}"


def _request(kind: int, version: int, body: bytes) -> bytes:
    """A request with the header of version 1: no client id, and the kind as its correlation id."""
    content = struct.pack(">hhih", kind, version, kind, -1) + body
    return struct.pack(">i", len(content)) + content


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    await writer.drain()
    size, id = struct.unpack(">ii", await reader.readexactly(8))
    if id != struct.unpack_from(">h", request, 4)[0] or not 4 <= size <= 1 << 24:
        raise ValueError("no answer of Kafka's")
    await reader.readexactly(size - 4)
