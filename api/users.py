"""Who may use the API with a password: a file with a line `user:hash` for each, read again when it changes."""

import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError

from streams.errors import InvalidSettings

MAX_NAME_BYTES = 128
MAX_WORD_BYTES = 1024
"""The longest password, in bytes of UTF-8 (inclusive), as given and as hashed: a longer one is nobody's."""

_log = logging.getLogger(__name__)
_MAX_FILE_BYTES = 1 << 20
_HASH = re.compile(r"\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}")
_Signature = tuple[int, int, int, int]


def normalised(text: str) -> bytes | None:
    """A password as it is hashed: the same whichever way the keyboard composes its characters (RFC 7617).

    None for one that is too long. It is not even composed: that takes a time that grows with the square of its
    length, seconds for what fits into a request's head.
    """
    if len(text.encode()) > MAX_WORD_BYTES:
        return None
    composed = unicodedata.normalize("NFC", text).encode()
    return composed if len(composed) <= MAX_WORD_BYTES else None


def user_line(user: str, password: str) -> str:
    """The line for a user; takes a tenth of a second and 64 MiB of memory.

    Raises:
        ValueError: there can be no such user or password; the message says why, and shows neither.
    """
    _require_name(user)
    given = normalised(password)
    if not given:
        raise ValueError(f"a password is 1 to {MAX_WORD_BYTES} bytes of UTF-8")
    return f"{user}:{PasswordHasher().hash(given)}"


def parse_users(text: str) -> dict[str, str]:
    """The users of a file, with their hashes. Empty lines, and those that begin with #, are for people.

    Raises:
        ValueError: a line is not as it must be; the message has its number and nothing of what it says.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            user, separator, hashed = line.rstrip().partition(":")
            if not separator:
                raise ValueError("is not user:hash")
            _require_name(user)
            _require_hash(hashed)
            if user in users:
                raise ValueError("is about a user that an earlier line is about")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        users[user] = hashed
    return users


def _require_name(user: str) -> None:
    if not 0 < len(user.encode()) <= MAX_NAME_BYTES or ":" in user or not user.isprintable() or user.startswith("#"):
        raise ValueError(f"a user is 1 to {MAX_NAME_BYTES} bytes of printable UTF-8, without : and without # in front")


def _require_hash(hashed: str) -> None:
    try:
        if _HASH.fullmatch(hashed) is None:
            raise InvalidHashError
        extract_parameters(hashed)
    except (InvalidHashError, ValueError):
        raise ValueError("what stands behind the user is no argon2 hash; `xferq hash-password` makes one") from None


class UsersFile:
    """The file, as it is now; as it was, where it is broken now."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            InvalidSettings: it can't be read, or is broken.
        """
        self._path = path
        try:
            self._seen: _Signature | None = self._signature()
            self._users: Mapping[str, str] = self._read()
        except (OSError, ValueError) as error:
            raise InvalidSettings(f"XFERQ_API_USERS_FILE: {self._described(error)}") from None

    @property
    def users(self) -> Mapping[str, str]:
        """Every user's hash."""
        try:
            seen: _Signature | None = self._signature()
        except OSError:
            seen = None
        if seen != self._seen:
            self._seen = seen  # before it is read: a change meanwhile is one more
            try:
                self._users = self._read()
            except (OSError, ValueError) as error:
                _log.error("api.users_file_broken: the users stay as they were: %s", self._described(error))
            else:
                _log.info("api.users_read file=%s users=%d", self._path, len(self._users))
        return self._users

    def _signature(self) -> _Signature:
        status = os.stat(self._path)
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _read(self) -> dict[str, str]:
        with self._path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
        if len(raw) > _MAX_FILE_BYTES:
            raise ValueError(f"has more than {_MAX_FILE_BYTES:,} bytes")
        try:
            return parse_users(raw.decode())
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None

    def _described(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return f"{self._path} can't be read: {error.strerror}"
        return f"{self._path}: {error}"
