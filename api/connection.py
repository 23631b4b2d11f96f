"""One HTTP connection: uvicorn's, bounded in time, with its own errors as problem details.

uvicorn itself waits for a request's head for as long as it takes, and for a client that does not read its
answer; a client that sends one byte now and then would hold a connection, and a file descriptor, for ever.
"""

import asyncio
import resource
from contextlib import suppress
from typing import Any, Literal

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.access import SUBJECT
from api.problem import Problem, answer
from api.tls import subject_of
from streams.settings.api import ApiSettings

_LINGER_S = 2.0
_OTHER_FILES = 128
_Phase = Literal["head", "work", "rest"]


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration, with our settings in it: how patient a connection is, how many there may be."""

    def __init__(self, app: Any, settings: ApiSettings, **more: Any) -> None:
        super().__init__(app, h11_max_incomplete_event_size=settings.api_head_bytes, **more)
        self.settings = settings


class Connection(H11Protocol):
    """A connection, in one of three phases: a head is awaited, a request worked on, the rest of it thrown away."""

    def __init__(self, config: ConnectionConfig, *args: Any, **more: Any) -> None:
        super().__init__(config, *args, **more)
        self._settings = config.settings
        self._phase: _Phase = "head"
        self._is_refused = False
        self._since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head; another connection may have to go for it."""
        super().connection_made(transport)
        self.app_state = self.app_state | _state_of(transport)
        self._enter("head")
        if len(self.connections) > max_connections(self._settings.api_connections):
            waiting = [one for one in self.connections if isinstance(one, Connection) and one._phase == "head"]
            min(waiting, key=lambda one: one._since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """What came may be a head, a part of one, or anything else."""
        if self._is_refused:
            return
        super().data_received(data)
        self._check()

    def shutdown(self) -> None:
        """The server ends."""
        if self._is_refused:
            self.transport.abort()
        else:
            super().shutdown()

    def on_response_complete(self) -> None:
        """The answer is written; the next head may come."""
        super().on_response_complete()
        self._check()

    def send_400_response(self, msg: str) -> None:
        """The client does not speak HTTP."""
        self._refuse(Problem("malformed-request", "this is not a valid HTTP/1.1 request, or its head is too large"))

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(self._settings.api_read_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client does read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """All is over."""
        for timer in (self._deadline, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        if self._is_refused:
            return
        phase: _Phase = "work"
        if self.cycle is None or self.cycle.response_complete:
            phase = "rest" if self.conn.their_state is h11.SEND_BODY else "head"
        # Within a phase the time runs on, whatever trickles in.
        if phase != self._phase:
            self._enter(phase)

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if phase == "work" else self.loop.call_later(self._settings.api_head_s, self._too_late)

    def _too_late(self) -> None:
        if self.transport.is_closing() or self._phase == "rest":
            self.transport.abort()  # closed before, but what was written is still unread
        else:
            self._refuse(Problem("too-slow", f"the request's head was not there after {self._settings.api_head_s:g} s"))

    def _refuse(self, problem: Problem) -> None:
        """Answer where that is still possible, and close.

        In a moment only: a client that still sends would see its connection reset instead of the answer.
        """
        self._is_refused = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = answer(problem)
            headers = [*response.raw_headers, (b"x-content-type-options", b"nosniff"), (b"connection", b"close")]
            for event in (
                h11.Response(status_code=response.status_code, headers=headers),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():  # TLS can't: there all ends in a moment
            with suppress(OSError):  # the client is gone already
                self.transport.write_eof()
        if self.cycle is not None and not self.cycle.response_complete:
            # A handler at work on a request of this connection has no client to answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(_LINGER_S, self.transport.abort)


def _state_of(transport: asyncio.Transport) -> dict[str, str]:
    """What is known of the client from its handshake."""
    tls = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert() if tls is not None else None
    return {SUBJECT: subject_of(certificate)} if certificate else {}


def raise_file_limit(connections: int) -> None:
    """Let this process open as many files as there may be connections, as far as it may decide that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def max_connections(wanted: int) -> int:
    """How many connections there may be: fewer than wanted where this process may open fewer files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - _OTHER_FILES))
