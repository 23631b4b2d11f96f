"""What `xferq inject` says on the way and in the end. What it does: see test_cli.py."""

import os

import pytest
import typer

from api.cli import injecting
from api.cli.injecting import _Account, _address, _require_inputs
from api.cli.output import progress
from api.mail.files import LeftOut

QUEUE = "t@example.com"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> _Account:
    with progress() as bars:
        assert bars.disable, "standard error is no terminal here"
        return _Account(QUEUE, bars)


def test_the_rate_every_few_seconds(
    account: _Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.write(1_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(injecting, "_RATE_EVERY_S", -1.0)
    account.write(2_000)
    said = capsys.readouterr().err
    assert said.startswith(f"3000 messages are in {QUEUE}, ")
    assert said.endswith(" messages/s\n")


def test_the_end(account: _Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.write(2)
    account.refuse("a\n.eml", "is no mail")
    for number in range(1_200):
        account.leave_out(LeftOut(f"cur/{number}:2,D", "drafts"))
        account.remark(f"{number}.eml", "names no recipient: to postmaster@example.com")
    account.unaddressed = 1_200
    account.close()
    out, err = capsys.readouterr()
    assert out == f"2 messages are in {QUEUE}, 1 is not\n"
    lines = err.splitlines()
    assert lines[0] == "a\\n.eml is no mail"
    assert lines[1] == "0.eml names no recipient: to postmaster@example.com"
    assert lines[-4:-2] == ["... 1,180 more such remarks", "to the postmaster, as they name no recipient: 1,200"]
    assert lines[-2] == "left out: drafts: 1,200, such as cur/0:2,D"
    assert lines[-1].startswith("it took ")
    assert len(lines) == 25


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("b@x.example", "b@x.example"),
        ("Bob <b@x.example>", "b@x.example"),
        ('"odd user"@x.example', '"odd user"@x.example'),
        ("zo\u00eb@x.example", "zo\u00eb@x.example"),
    ],
)
def test_an_address_that_is_given(text: str, address: str) -> None:
    assert _address(text, "--recipient") == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Bob", "'Bob' is no address, nor `Name <address>`"),
        ("", "no address"),
        ("b@x.example, c@x.example", "several addresses: give the option once for each"),
        ("b\udcff@x.example", "no address"),
        ("b@x.example\nBcc: c@x.example", "no address"),
    ],
)
def test_what_is_no_address_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(typer.BadParameter, match=complaint) as caught:
        _address(text, "--recipient")
    assert str(caught.value).isascii()


def test_the_same_input_twice(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "a.eml")
    other = os.path.join(tmp_path, "b.eml")
    for each in (path, other):
        with open(each, "wb"):
            pass
    _require_inputs([path, other])
    os.symlink(path, os.path.join(tmp_path, "c.eml"))
    for again in (path, os.path.join(tmp_path, "c.eml"), os.path.join(tmp_path, ".", "a.eml")):
        with pytest.raises(typer.BadParameter, match="are the same input"):
            _require_inputs([path, other, again])
    with pytest.raises(typer.BadParameter, match=r"nope: No such file or directory"):
        _require_inputs([os.path.join(tmp_path, "nope")])
