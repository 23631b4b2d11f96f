"""Passwords looked at: out of the event loop's way, a few at a time, and in a time that tells nothing of the user."""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from api.problem import Problem
from api.users import UsersFile, normalised

AT_ONCE = 2
"""Hashes computed side by side: each takes a core for a twentieth of a second, and 64 MiB of memory."""

MAX_WAITING = 32
"""Passwords looked at or waiting for it; a client that comes then is told to come again."""

_MAX_KNOWN = 1024
_hasher = PasswordHasher()


class Login:
    """Tells whether a password is a user's.

    One that was right is known from then on, until the user's line in the file is another one: by a hash under a
    key that only this process has, and that only in memory.
    """

    def __init__(self, file: UsersFile) -> None:
        self._file = file
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="login")
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}

    async def is_right(self, user: str, password: str) -> bool:
        """Whether there is such a user, with this password.

        Raises:
            Problem: too many are being looked at.
        """
        given = normalised(password)
        users = self._file.users
        if given is None or not users:
            return False
        hashed = users.get(user)
        is_user = hashed is not None
        # For nobody's password another one's hash is computed: it takes as long, and the result doesn't count.
        against = hashed if hashed is not None else self._somebody(user, list(users.values()))
        mark = self._mark(user, against, given)
        if mark in self._known:
            self._known.move_to_end(mark)
            return True
        task = self._under_way.get(mark)
        if task is None:
            if len(self._under_way) >= MAX_WAITING:
                raise Problem("busy", "too many passwords are being looked at")
            task = self._under_way[mark] = asyncio.create_task(self._verify(mark, against, given, is_user))
        return await asyncio.shield(task)

    def close(self) -> None:
        """Look at no more passwords."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _verify(self, mark: bytes, against: str, given: bytes, is_user: bool) -> bool:
        try:
            matches = await asyncio.get_running_loop().run_in_executor(self._threads, _matches, against, given)
        finally:
            del self._under_way[mark]
        if not (matches and is_user):
            return False
        self._known[mark] = None
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return True

    def _somebody(self, user: str, hashes: list[str]) -> str:
        """For the same name always the same, or asking twice would tell."""
        digest = hashlib.blake2b(user.encode(), key=self._key).digest()
        return hashes[int.from_bytes(digest) % len(hashes)]

    def _mark(self, user: str, hashed: str, given: bytes) -> bytes:
        return hashlib.blake2b(b"\0".join((user.encode(), hashed.encode(), given)), key=self._key).digest()


def _matches(hashed: str, given: bytes) -> bool:
    try:
        return _hasher.verify(hashed, given)
    except (Argon2Error, InvalidHashError):
        return False
