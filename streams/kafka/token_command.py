"""Tokens for a login by OAUTHBEARER: a command prints one, and is run again before that expires."""

import asyncio
import base64
import binascii
import json
import shlex
import subprocess
import threading
import time
from dataclasses import dataclass

from aiokafka import errors as aio
from aiokafka.abc import AbstractTokenProvider

from streams.errors import Misconfigured, Unavailable

_SETTING = "XFERQ_KAFKA_TOKEN_COMMAND"
_COMMAND_S = 8.0
"""How long the command may take: librdkafka gives its caller 10 s."""
_OPAQUE_S = 60.0
"""How long a token is used that does not tell when it expires."""
_RENEWED_AT = 0.75
"""The part of its life after which a token is replaced; librdkafka asks for another one at 0.8."""
_SOON_S = 5.0


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float  # Unix seconds, and so is the next
    expires_at: float


class TokenCommand(AbstractTokenProvider):  # type: ignore[misc]
    """The command, and the token that it printed last; asked by clients in any thread."""

    def __init__(self, command: str) -> None:
        """Nothing is run yet.

        Raises:
            Misconfigured: it is no command.
        """
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise Misconfigured(f"{_SETTING}: {error}") from None
        if not self._command:
            raise Misconfigured(f"{_SETTING} is empty")
        self._lock = threading.Lock()
        self._held: _Token | None = None

    def current(self) -> tuple[str, float]:
        """A token and when it expires, in Unix seconds. Blocks for as long as the command takes.

        Raises:
            Unavailable: the command gives none.
        """
        with self._lock:
            held = self._held
            if held is None or time.time() >= held.renew_at:
                try:
                    held = self._held = self._fresh()
                except Unavailable:
                    if held is None or time.time() >= held.expires_at:
                        raise
        return held.value, held.expires_at

    async def token(self) -> str:
        """A token, as aiokafka asks for it.

        Raises:
            aiokafka.errors.KafkaConnectionError: the command gives none. The library tries again after one of its own
                errors; another one would end its standing work for good.
        """
        try:
            value, _ = await asyncio.to_thread(self.current)
        except Unavailable as error:
            raise aio.KafkaConnectionError(str(error)) from error
        return value

    def for_librdkafka(self, _: str) -> tuple[str, float]:
        """A token, as librdkafka asks for it, from a thread of its own.

        Where there is none, one that nobody takes: a client that is being made waits for its first token, and the
        event loop with it. The library asks again when that is about to expire.
        """
        try:
            return self.current()
        except Unavailable:
            return "none", time.time() + _SOON_S

    def _fresh(self) -> _Token:
        try:
            # What it says of an error may hold what is secret: it is not shown.
            ended = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
                self._command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"no answer from the command within {_COMMAND_S:.0f} s") from None
        except OSError as error:
            raise Unavailable(f"the command can't be run: {error.strerror}") from None
        if ended.returncode:
            raise Unavailable(f"the command has ended with status {ended.returncode}")
        value = ended.stdout.decode("ascii", "replace").strip()
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise Unavailable("what the command prints is no token")
        now = time.time()
        expires_at = _expiry(value) or now + _OPAQUE_S
        if expires_at <= now:
            raise Unavailable("the command prints a token that has expired")
        return _Token(value, now + (expires_at - now) * _RENEWED_AT, expires_at)


def _expiry(token: str) -> float | None:
    """What a JSON Web Token says of its end (`exp`, Unix seconds); nothing is verified, that is Kafka's business."""
    try:
        _, claims, _ = token.split(".")
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(found)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
