"""Whether the compiled extension is used, what it leaves to Python, and how it is built."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from streams.domain.topic import topic_of
from streams.drain.limits import Limits
from streams.drain.native_mover import NativeMover
from streams.drain.transaction_batch import TransactionBatch
from streams.errors import Misconfigured
from streams.native import build, extension
from streams.native.extension import INTERFACE, UNUSUAL, floats_of, is_used, native_of
from streams.settings.settings import Settings
from streams.worker.process import CAN_T_START
from tests.fakes.log import FakeRecord
from tests.native.compared import CLAIMS, NOW, in_python, require_same_moves
from tests.native.extension import as_run, native, needs_native
from tests.support.patience import WAIT_S

SOURCES = Path(extension.__file__).parent / "src"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "_NAME", "streams.native.not_built")
    extension._extension.cache_clear()
    monkeypatch.setattr(extension, "_extension", extension._extension.__wrapped__)


# ---- whether it is used


@pytest.mark.usefixtures("absent")
def test_where_it_is_not_built_python_does_it() -> None:
    assert native_of(Settings(native="auto")) is None
    assert not is_used(Settings(native="auto"))


@pytest.mark.usefixtures("absent")
def test_who_must_have_it_is_told_what_to_do() -> None:
    with pytest.raises(Misconfigured, match=r"XFERQ_NATIVE is yes, but .*make install"):
        native_of(Settings(native="yes"))


@needs_native
def test_one_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "INTERFACE", INTERFACE + 1)
    monkeypatch.setattr(extension, "_extension", extension._extension.__wrapped__)
    assert native_of(Settings(native="auto")) is None
    with pytest.raises(Misconfigured, match="built from other sources"):
        native_of(Settings(native="yes"))


@needs_native
def test_it_can_be_left_out() -> None:
    assert native_of(Settings(native="yes")) is not None
    assert native_of(Settings(native="no")) is None
    assert not is_used(Settings(native="no"))


@pytest.mark.parametrize(("wish", "said"), [("no", "no (not used)"), ("auto", "auto (")])
def test_config_says_which_is_in_use(wish: str, said: str) -> None:
    command = [sys.executable, "-m", "api.cli", "config"]
    env = {**os.environ, "XFERQ_NATIVE": wish}
    assert said in subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    shown = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, check=True).stdout
    assert json.loads(shown)["native"]["is_used"] == is_used(Settings(native=wish))


# ---- what is left to Python


def envelope(change: Callable[[dict[str, object]], object] = lambda _: None) -> bytes:
    info: dict[str, object] = {"queue": "a.example", "num_attempts": 2}
    value: dict[str, object] = {
        "sender": "a@b.example", "recipient": "c@d.example", "meta": {"xfer_queue_info": info, "m": [1, {"a": None}]},
        "num_attempts": 1, "created": "2026-11-20T10:00:00.25+01:00", "due": None,
    }  # fmt: skip
    change(value)
    return json.dumps(value).encode()


def instead(old: bytes, new: bytes) -> bytes:
    assert envelope().count(old) == 1
    return envelope().replace(old, new)


def nested(depth: int) -> bytes:
    return instead(b"[1,", b"[" + b"[" * depth + b"]" * depth + b",")


USUAL = {
    "white space": b" \n\t" + envelope() + b"\r\n",
    "an escape": instead(b'"m"', b'"\\u00fc\\/\\ud83d\\ude00"'),
    "an escaped key": instead(b'"sender"', b'"send\\u0065r"'),
    "minus zero": instead(b"[1,", b"[-0,"),
    "floats": instead(b"[1,", b"[1.0, -0.0, 1e5, 12E-7, 0.1e1, 1e-400, 1e22,"),
    "large integers": instead(b"[1,", b"[18446744073709551615, -9223372036854775808,"),
    "depth": nested(40),
    "text": instead(b'"a@b.example"', b'"\\u0000\\u001f\\u007f\\"\\\\\xe2\x80\xa8\\n"'),
}
LEFT = {
    "duplicate_key": instead(b'"m"', b'"m": 1, "\\u006d"'),
    "infinite": instead(b"[1,", b"[1e400,"),
    "invalid_json": instead(b"[1,", b"[01,"),
    "large_integer": instead(b"[1,", b"[18446744073709551616,"),
    "many_keys": instead(b'"m"', b"".join(b'"k%d": 1, ' % number for number in range(300)) + b'"m"'),
    "name": instead(b'"a.example"', b'"a\\"b.example"'),
    "nested_deeply": nested(70),
    "not_sound": instead(b'"num_attempts": 1', b'"num_attempts": 65536'),
    "schedule": instead(b'"num_attempts": 2', b'"schedule": {"x": 1}'),
    "time": instead(b"10:00:00.25", b"10:00:60"),
}
BROKEN = {
    "a byte order mark": b"\xef\xbb\xbf" + envelope(),
    "NaN": instead(b"[1,", b"[NaN,"),
    "half a pair": instead(b'"m"', b'"\\ud800"'),
    "not UTF-8": instead(b'"m"', b'"\xff"'),
    "a control character": instead(b'"m"', b'"\n"'),
    "a comma too many": instead(b"[1,", b"[1,,"),
    "something behind it": envelope() + b"1",
    "no digits": instead(b"[1,", b"[1.,"),
    "plus": instead(b"[1,", b"[+1,"),
    "nothing": b"",
}


def left_for(raw: bytes | None, key: bytes = b"k") -> dict[str, float]:
    """Why a cancel of one message with this envelope is left to Python; both have done the same."""
    before = in_python()
    headers = () if raw is None else (("envelope", raw),)
    require_same_moves([FakeRecord(1, 5, 1_700_000_000_000, key, b"v", headers)], CLAIMS[0], {})
    return {why: count - before.get(why, 0) for why, count in in_python().items() if count != before.get(why, 0)}


@needs_native
@pytest.mark.parametrize("raw", USUAL.values(), ids=USUAL)
def test_what_is_usual(raw: bytes) -> None:
    assert left_for(raw) == {}


@needs_native
@pytest.mark.parametrize(("why", "raw"), LEFT.items(), ids=LEFT)
def test_what_is_left_to_python_is_counted(why: str, raw: bytes) -> None:
    assert left_for(raw) == {why: 1}


@needs_native
@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_what_orjson_refuses(raw: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(raw)
    assert left_for(raw) == {"invalid_json": 1}


@needs_native
def test_records_that_are_left_to_python() -> None:
    assert left_for(None) == {"no_envelope": 1}
    assert left_for(envelope(), key=b"\xff") == {"key": 1}


@needs_native
def test_a_fault_of_its_own_leaves_the_message_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here by a setting that it never has, so that an index is out of range."""
    here, claim = native(), CLAIMS[1]
    sound = here.Mover
    monkeypatch.setattr(here, "Mover", lambda **settings: sound(**(settings | {"xfer_queue": b""})))
    mover = NativeMover(here, claim, node_id="n")
    batch = TransactionBatch(lambda size, compression=None: here.Batch(size, 0, None), 9_000, "t", "log", Limits())
    batch.add_destinations({"log": 1, topic_of(claim.xfer_queue): 1})
    before = in_python().get("fault", 0)
    records = [FakeRecord(1, offset, 1, b"k", b"v", (("envelope", envelope()),)) for offset in range(3)]
    done = mover.move(as_run("t", records), batch, NOW)
    assert (done.consumed, batch.restored, done.returned, done.waiting) == (3, 3, [], [])
    assert in_python()["fault"] == before + 3


def test_every_reason_is_listed() -> None:
    text = "".join(source.read_text(encoding="utf-8") for source in SOURCES.glob("*.rs"))
    found = {
        *re.findall(r'(?:Err|ok_or|break Some)\("(\w+)"\)', text),
        *re.findall(r'map_err\(\|_\| "(\w+)"\)', text),
        *re.findall(r'const \w+: &str = "(\w+)"', text),
    }
    # That one is no message's: its destination is.
    assert found == {*UNUSUAL, "unknown"}


@needs_native
def test_floats_are_written_as_the_installed_orjson_writes_them() -> None:
    assert floats_of(native()) is not None


@needs_native
def test_earlier_ones_wrote_exponents_without_a_plus() -> None:
    assert [native().float_text(1.5e300, plus) for plus in (True, False)] == ["1.5e+300", "1.5e300"]


@needs_native
def test_where_orjson_writes_floats_in_another_way_they_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.drain.native_mover.floats_of", lambda _: None)
    assert left_for(USUAL["floats"]) == {"float": 1}


# ---- how it is built


def test_it_is_not_built_where_it_is_not_wanted() -> None:
    is_built, said = build.build("no")
    assert not is_built
    assert "not built" in said


def test_without_cargo_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    is_built, said = build.build()
    assert not is_built
    assert said == "compiled drain: not built, as there is no cargo; drains run in Python, which does all of it"
    with pytest.raises(RuntimeError, match="there is no cargo"):
        build.build("yes")


@pytest.mark.parametrize(("version", "is_old"), [("1.82.0", True), ("1.83.0", False), ("2.0.0", False)])
def test_an_old_cargo_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, *, is_old: bool
) -> None:
    cargo = tmp_path / "cargo"
    says = f"[ $1 = --version ] && echo 'cargo {version} (x)' && exit; echo 'error: no' >&2; exit 1"
    cargo.write_text(f"#!/bin/sh\n{says}\n")
    cargo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert build.build()[1].startswith(
        "compiled drain: not built, as " + ("cargo is older than 1.83;" if is_old else "cargo failed (error: no);")
    )


# ---- what a worker says of it

WORKER = """
import asyncio, sys
asyncio.run = lambda work: work.close() or 0  # what comes behind the first line is not asked about
if {is_absent}:
    sys.modules["streams.native._native"] = None
from streams.settings.settings import Settings
from streams.worker.process import run_worker
sys.exit(run_worker(Settings(native={wish!r}, bootstrap_servers="127.0.0.1:9", metrics_port=0)))
"""


def worker(wish: str, *, is_absent: bool) -> "subprocess.CompletedProcess[str]":
    code = WORKER.format(wish=wish, is_absent=is_absent)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_a_worker_that_must_have_it_refuses_to_start_without() -> None:
    result = worker("yes", is_absent=True)
    assert result.returncode == CAN_T_START
    assert "XFERQ_NATIVE is yes, but the compiled extension is not here" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("wish", "is_absent", "used"),
    [("auto", True, "no"), ("no", False, "no"), pytest.param("auto", False, "yes", marks=needs_native)],
)
def test_the_first_line_of_the_log_says_which_is_in_use(wish: str, used: str, *, is_absent: bool) -> None:
    result = worker(wish, is_absent=is_absent)
    first = (result.stdout + result.stderr).splitlines()[0]
    assert f"worker.starting native={used}" in first
