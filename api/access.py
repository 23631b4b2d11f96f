"""Who may use the API: clients with a certificate of the client CA or a user's password, or from a trusted host.

What a client presents is looked at first, so that who it is stands in the status; where it comes from counts for
clients that present nothing.
"""

import base64
import binascii
import logging
from collections.abc import Sequence

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.address import is_own_host
from api.login import Login
from api.origin import origin_of, peer_of
from api.problem import Problem, answer, shown
from api.users import UsersFile
from streams.domain.network import is_within
from streams.settings.api import ApiSettings
from streams.telemetry.logs import printable

SUBJECT = "xferq.subject"
"""In the state of a connection: whose certificate the client has shown, where it has."""

OPEN_PATH = "/livez"
"""What everybody may ask."""

_log = logging.getLogger(__name__)
_CALLER = "xferq.caller"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="xferq", charset="UTF-8"'}


def caller_of(request: Request) -> str | None:
    """Who asks, as far as it is known: a certificate's subject, a user, or an address."""
    caller: str | None = request.scope.get(_CALLER)
    return caller


class Access:
    """Decides who may use the API, by the settings."""

    def __init__(self, settings: ApiSettings) -> None:
        """Read the file of users, if there is one.

        Raises:
            InvalidSettings: it can't be read, or is broken.
        """
        self._settings = settings
        self._login = Login(UsersFile(settings.api_users_file)) if settings.api_users_file else None

    async def caller(self, scope: Scope) -> str:
        """Who asks.

        Raises:
            Problem: nobody who may.
        """
        subject: str | None = scope.get("state", {}).get(SUBJECT)
        if subject is not None:
            return subject
        origin = origin_of(scope, self._settings.api_trusted_proxies)
        headers = Headers(scope=scope)
        presented = headers.getlist("authorization")
        if self._login is not None and presented:
            pair = _basic(presented)
            if pair is None:
                raise _denied()
            if not await self._login.is_right(*pair):
                # Neither the user, which may be a password in the wrong place, nor what costs nothing to send.
                _log.warning("api.denied address=%s", origin or "unknown")
                raise _denied()
            return pair[0]
        if not is_within(origin, self._settings.api_trusted_hosts):
            raise _denied()
        self._require_own_host(scope, headers.getlist("host"))
        return str(origin)

    def close(self) -> None:
        """Let nobody in any more."""
        if self._login is not None:
            self._login.close()

    def _require_own_host(self, scope: Scope, hosts: Sequence[str]) -> None:
        """A browser on a trusted host is trusted, but not the pages in it that come from elsewhere."""
        server = scope.get("server") or ("",)
        names = {*self._settings.api_names, server[0]}
        for host in hosts:  # HTTP/1.0 may send none, a browser always does
            if not is_own_host(host, names):
                raise Problem("wrong-host", f"there is no {shown(printable(host))} here")


class RequireAccess:
    """Lets only permitted clients through, and notes who the client is; `/livez` alone is open to all."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != OPEN_PATH:
            try:
                scope[_CALLER] = await self._access.caller(scope)
            except Problem as problem:
                await answer(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class NoteCaller:
    """Lets everybody through, and notes the address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (peer := peer_of(scope)) is not None:
            scope[_CALLER] = str(peer)
        await self._app(scope, receive, send)


def _denied() -> Problem:
    """The same whatever was asked for, and whatever was wrong about who asked."""
    return Problem("unauthorized", "a user and a password are needed, or a client certificate", headers=_CHALLENGE)


def _basic(presented: Sequence[str]) -> tuple[str, str] | None:
    """The user and the password that a request presents (RFC 7617); None where it presents anything else."""
    scheme, _, text = presented[0].partition(" ")
    if len(presented) != 1 or scheme.lower() != "basic":
        return None
    try:
        user, separator, word = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, word) if separator else None
