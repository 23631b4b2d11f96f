"""Who mail is from and for, and what is said about it. What headers say: see examples.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.mail.addresses import parse_addresses
from api.mail.addressing import address_mail
from streams.errors import Refused

POSTMASTER = "postmaster@queue.example"


def test_what_is_asked_for_counts() -> None:
    mail = b"From: a@s.example\nTo: nobody\n\n"
    found = address_mail(mail, postmaster=POSTMASTER, sender="", recipients=["c@x.example", "d@x.example"])
    assert found == ("", ["c@x.example", "d@x.example"], [], False)


@pytest.mark.parametrize(
    ("headers", "remarks"),
    [
        (b"From: a@s.example\nTo: b@x.example", []),
        (b"Return-Path: <>\nTo: b@x.example", []),
        (b"To: b@x.example", ["has no sender that can be read: the null sender"]),
        (b"From: a\nTo: b@x.example", ["has no sender that can be read: the null sender"]),
        (b"Return-Path: < >\nFrom: a@s.example\nTo: b@x.example", []),
        (b"Return-Path: a\nFrom: a@s.example\nTo: b@x.example", ["has no sender that can be read: the null sender"]),
        (b"From: a@s.example", [f"names no recipient: to {POSTMASTER}"]),
        (b"From: a@s.example\nTo: Bob, b@x.example", ["does not go to 'Bob', which is no address"]),
        (
            b"From: a@s.example\nTo: b@x.example, \xff@x.example",
            ["does not go to '\\ufffd@x.example', which is no address"],
        ),
    ],
)
def test_nothing_is_guessed_in_silence(headers: bytes, remarks: list[str]) -> None:
    assert address_mail(headers + b"\n\n", postmaster=POSTMASTER).remarks == remarks


@pytest.mark.parametrize(
    ("headers", "recipients", "is_unaddressed"),
    [
        (b"Subject: s", [], True),
        (b"Subject: s", ["b@x.example"], False),
        (b"To: b@x.example", [], False),
        (b"Bcc: b@x.example", [], False),
    ],
)
def test_mail_for_nobody_is_told_apart(headers: bytes, recipients: list[str], is_unaddressed: bool) -> None:
    found = address_mail(headers + b"\n\n", postmaster=POSTMASTER, recipients=recipients)
    assert found.is_unaddressed is is_unaddressed


def test_recipients_of_as_many_headers_as_anybody_writes() -> None:
    mail = b"From: a@b\n" + b"".join(b"To: u%d@x.example\n" % number for number in range(50_000)) + b"\n"
    assert address_mail(mail, postmaster=POSTMASTER).recipients == [f"u{number}@x.example" for number in range(50_000)]


def test_a_remark_is_no_longer_than_a_line() -> None:
    (remark,) = address_mail(b"From: a@b\nTo: b@x.example," + b"x" * 9_000, postmaster=POSTMASTER).remarks
    assert len(remark) < 150


def test_a_refusal_names_the_headers_and_what_helps() -> None:
    with pytest.raises(Refused, match="has no recipient that can be read in To, Bcc; --recipient names one"):
        address_mail(b"To: a\nBcc: b\n\n", postmaster=POSTMASTER)


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"To: ", b"a@b", b"\n", b",", b'"', b"\xff", b"Cc:"])).map(b"".join)
)
def test_any_mail_has_addresses_or_is_refused(mail: bytes) -> None:
    try:
        sender, recipients, *_ = address_mail(mail, postmaster=POSTMASTER)
    except Refused:
        return
    assert recipients
    for address in [sender, *recipients]:
        assert address == "" or parse_addresses(address) == ([address], [])
