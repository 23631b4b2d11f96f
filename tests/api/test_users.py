"""The file of users, and how passwords are looked at."""

import asyncio
import logging
import os
import pty
import statistics
import subprocess
import threading
import time
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from api.login import AT_ONCE, MAX_WAITING, Login
from api.problem import Problem
from api.users import MAX_WORD_BYTES, UsersFile, parse_users, user_line
from streams.errors import InvalidSettings
from tests.api.processes import XFERQ, environment, xferq
from tests.support.patience import WAIT_S, allowed_s

RIGHT = "correct horse"
HASH = PasswordHasher(time_cost=1, memory_cost=8_192).hash(RIGHT)
"""Cheaper than what `xferq hash-password` makes, and still far from nothing."""
ALICE = f"alice:{HASH}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one user."""
    path = tmp_path / "users"
    path.write_text(f"# those of today\n\n{ALICE}\n")
    return path


@pytest.fixture
async def login(file: Path) -> AsyncIterator[Login]:
    """Over that file."""
    login = Login(UsersFile(file))
    yield login
    login.close()


# ---- the file


def test_what_a_file_holds() -> None:
    assert parse_users(f"#x\n\n{ALICE}\r\nbob:{HASH}  \n") == {"alice": HASH, "bob": HASH}
    assert parse_users("") == {}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("alice", "line 1: is not user:hash"),
        ("\n:x", "line 2: a user is 1 to 128 bytes"),
        (f"{'x' * 129}:{HASH}", "line 1: a user is 1 to 128 bytes"),
        (f"a\x1b[2J:{HASH}", "printable"),
        (f"{ALICE}\n{ALICE}", "line 2: is about a user that an earlier line"),
        ("alice:hunter2", "no argon2 hash"),
        ("alice:$2b$12$abcdefghijklmnopqrstuv", "no argon2 hash"),
        (f"alice:{HASH[:-30]}", "no argon2 hash"),
        (f"alice:{HASH} # hers", "no argon2 hash"),
    ],
    ids=map(str, range(9)),  # a hash has another salt in every process
)
def test_a_file_that_is_broken(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    with pytest.raises(InvalidSettings) as caught:
        UsersFile(path)
    assert str(caught.value).startswith(f"XFERQ_API_USERS_FILE: {path}: ")
    assert what in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="can't be read: No such file"):
        UsersFile(tmp_path / "nope")
    with pytest.raises(InvalidSettings, match="can't be read: Is a directory"):
        UsersFile(tmp_path)
    (tmp_path / "latin").write_bytes("\u00e4".encode("latin-1"))
    with pytest.raises(InvalidSettings, match="not UTF-8"):
        UsersFile(tmp_path / "latin")
    (tmp_path / "large").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(InvalidSettings, match="more than"):
        UsersFile(tmp_path / "large")


def test_what_is_broken_later_leaves_the_users_as_they_were(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    users = UsersFile(file)
    file.write_text("alice:hunter2\n")
    for _ in range(3):
        assert users.users == {"alice": HASH}
    (record,) = caplog.records  # said once
    assert "api.users_file_broken" in record.getMessage()
    assert f"{file}: line 1" in record.getMessage()
    assert "hunter2" not in record.getMessage()
    file.unlink()
    assert users.users == {"alice": HASH}
    assert "No such file" in caplog.records[-1].getMessage()
    file.write_text(f"bob:{HASH}\n")
    assert users.users == {"bob": HASH}


# ---- passwords


async def test_who_is_let_in(login: Login) -> None:
    assert await login.is_right("alice", RIGHT)
    for user, word in (
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", RIGHT + "x"),
        ("bob", RIGHT),
        ("Alice", RIGHT),
        ("", RIGHT),
        ("alice", RIGHT + " " * MAX_WORD_BYTES),
    ):
        assert not await login.is_right(user, word), (user, word)
    assert await login.is_right("alice", RIGHT)


async def test_nobody_is_let_in_where_there_is_nobody(file: Path) -> None:
    file.write_text("")
    login = Login(UsersFile(file))
    assert not await login.is_right("alice", RIGHT)


async def test_a_changed_file_counts_from_the_next_request_on(login: Login, file: Path) -> None:
    assert await login.is_right("alice", RIGHT)  # and known from now on
    file.write_text(user_line("alice", "another") + "\n")
    assert not await login.is_right("alice", RIGHT)
    assert await login.is_right("alice", "another")
    file.write_text(f"bob:{HASH}\n")
    assert not await login.is_right("alice", "another")
    assert await login.is_right("bob", RIGHT)


async def test_how_a_keyboard_composes_characters_does_not_matter(file: Path) -> None:
    file.write_text(user_line("alice", unicodedata.normalize("NFC", "\u00e4pfel")) + "\n")
    assert await Login(UsersFile(file)).is_right("alice", unicodedata.normalize("NFD", "\u00e4pfel"))


async def test_the_time_does_not_tell_whether_the_user_exists(login: Login) -> None:
    async def took(user: str) -> float:
        times = []
        for attempt in range(7):
            started = time.process_time()  # of all threads, and of nobody else
            assert not await login.is_right(user, f"wrong {attempt}")
            times.append(time.process_time() - started)
        return statistics.median(times)

    known, unknown = await took("alice"), await took("nobody")
    # One of them computes a hash and the other doesn't: that would be a factor of a thousand.
    assert 1 / 3 < unknown / known < 3


async def test_a_hash_of_other_cost_does_not_give_users_away(file: Path) -> None:
    """A user whose hash is dear: who is nobody gets the cost of one of those that there are."""
    dear = PasswordHasher(time_cost=16).hash(b"x")
    file.write_text(f"root:{dear}\n")
    login = Login(UsersFile(file))
    started = time.process_time()
    await login.is_right("root", "wrong")
    known = time.process_time() - started
    started = time.process_time()
    await login.is_right("nobody", "wrong")
    assert time.process_time() - started > known / 3


async def test_what_was_right_is_known(login: Login) -> None:
    started = time.process_time()
    assert await login.is_right("alice", RIGHT)
    hash_s = time.process_time() - started
    started = time.process_time()
    for _ in range(100):
        assert await login.is_right("alice", RIGHT)
    assert time.process_time() - started < 30 * hash_s  # of which a hundred would be needed


async def test_the_loop_turns_meanwhile(login: Login) -> None:
    turns = 0
    done = asyncio.gather(*(login.is_right("alice", f"wrong {number}") for number in range(8)))
    while not done.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 8  # it would be one if it stood still, or one for each


@pytest.mark.parametrize("text", ["\u0345" * 7_000 + "\u0301" * 7_000 + "\u0334" * 7_000, "\u0301" * 513])
async def test_what_is_too_long_to_be_a_password_costs_nothing(login: Login, text: str) -> None:
    """To compose such a one takes seconds in which the loop doesn't turn, and it fits into a request's head."""
    begun = time.process_time()
    assert not await login.is_right("alice", text)
    assert time.process_time() - begun < allowed_s(0.5)
    with pytest.raises(ValueError, match="a password is 1 to 1024 bytes"):
        user_line("alice", text)


async def test_a_flood_is_turned_away_and_who_is_known_gets_in(login: Login) -> None:
    assert await login.is_right("alice", RIGHT)
    flood = [asyncio.create_task(login.is_right("alice", f"wrong {number}")) for number in range(200)]
    await asyncio.sleep(0.01)
    assert await login.is_right("alice", RIGHT)
    computing = [thread for thread in threading.enumerate() if thread.name.startswith("login")]
    assert 0 < len(computing) <= AT_ONCE
    assert not all(task.done() for task in flood)
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert results.count(False) == MAX_WAITING
    turned_away = [result for result in results if isinstance(result, Problem)]
    assert len(turned_away) == 200 - MAX_WAITING
    assert {problem.kind for problem in turned_away} == {"busy"}
    assert not await login.is_right("alice", "wrong again")  # there is room again


async def test_the_same_password_many_times_at_once_is_looked_at_once(login: Login) -> None:
    assert await asyncio.gather(*(login.is_right("alice", RIGHT) for _ in range(200))) == [True] * 200


async def test_what_is_known_holds_no_password(login: Login) -> None:
    assert await login.is_right("alice", RIGHT)
    assert len(login._known) == 1
    assert RIGHT not in repr(vars(login))


# ---- xferq hash-password


def test_a_line_made_by_the_command_line_lets_in(tmp_path: Path) -> None:
    made = xferq("hash-password", "bob", env=environment({}, tmp_path), stdin=f"{RIGHT}\n".encode())
    assert RIGHT not in made.stdout + made.stderr
    (tmp_path / "users").write_text(made.stdout)
    login = Login(UsersFile(tmp_path / "users"))
    assert asyncio.run(login.is_right("bob", RIGHT))
    assert not asyncio.run(login.is_right("bob", RIGHT + "\n"))


@pytest.mark.parametrize(
    ("user", "stdin"),
    [("bob", b""), ("bob", b"\n"), ("bob", b"\xff\n"), ("bob", b"x" * 1025), ("a:b", b"x"), ("", b"x"), ("#a", b"x")],
)
def test_what_can_t_be_hashed(tmp_path: Path, user: str, stdin: bytes) -> None:
    assert not xferq("hash-password", user, env=environment({}, tmp_path), status=2, stdin=stdin).stdout


def test_on_a_terminal_it_asks_twice_and_shows_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [XFERQ, "hash-password", "bob"],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env=environment({}, tmp_path),
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    for _ in range(2):
        while not shown.endswith(b": "):
            shown += os.read(ours, 1024)
        os.write(ours, f"{RIGHT}\n".encode())
        shown += os.read(ours, 1024)
    out, _ = process.communicate(timeout=WAIT_S)
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith(b"bob:$argon2id$")
    assert RIGHT.encode() not in shown + out


def test_lines_of_the_log_about_the_file_are_of_this_module(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    users = UsersFile(file)
    file.write_text(f"bob:{HASH}\n")
    assert users.users == {"bob": HASH}
    assert [record.getMessage() for record in caplog.records] == [f"api.users_read file={file} users=1"]
