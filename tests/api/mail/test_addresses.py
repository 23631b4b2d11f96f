"""Addresses: what is one is found as it was written, what is none is told apart, whatever stands around it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.mail.addresses import parse_address, parse_addresses

_ATOMS = st.text(st.sampled_from("abcZ09!#$%&'*+-/=?^_`{|}~\u00fc\u7528\U0001f4ec"), min_size=1, max_size=8)
_QUOTED = st.text(st.sampled_from('ab @,;:<>()[]."\\\u00fc'), max_size=8).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
_LOCALS = st.lists(_ATOMS, min_size=1, max_size=3).map(".".join) | _QUOTED
_LABELS = st.text(st.sampled_from("abZ09-_\u00fc\u4f8b"), min_size=1, max_size=8)
_DOMAINS = st.lists(_LABELS, min_size=1, max_size=3).map(".".join) | st.sampled_from(
    ["[192.0.2.1]", "[IPv6:2001:db8::1]"]
)
ADDRESSES = st.builds("{}@{}".format, _LOCALS, _DOMAINS)

_COMMENTS = st.sampled_from(["", " ", "(c)", " (a (b) \\) c@d, <e@f>) "])
_NAMES = st.sampled_from(["", "Name ", '"Na, me" ', '"c@d" ', "=?utf-8?q?c=40d?= ", "\u00fc. d.J. ", '"a\\"b" c '])


@st.composite
def entries(draw: st.DrawFn) -> tuple[str, str]:
    """An address, and a way to write it."""
    address = draw(ADDRESSES)
    before, behind = draw(_COMMENTS), draw(_COMMENTS)
    if draw(st.booleans()):
        return address, f"{before}{address}{behind}"
    return address, f"{draw(_NAMES)}{before}<{address}>{behind}"


@given(entries())
def test_an_address_in_whatever_way_it_is_written(entry: tuple[str, str]) -> None:
    address, text = entry
    assert parse_addresses(text) == ([address], [])
    assert parse_address(text) == address


@given(st.lists(entries(), max_size=5), st.sampled_from([",", ";", " , ", ",,"]), st.sampled_from(["", "friends:"]))
def test_a_list(written: list[tuple[str, str]], separator: str, group: str) -> None:
    text = group + separator.join(text for _, text in written)
    assert parse_addresses(text) == (list(dict.fromkeys(address for address, _ in written)), [])


@given(st.lists(entries(), min_size=1, max_size=3))
def test_what_is_none_hides_no_other(written: list[tuple[str, str]]) -> None:
    found, unreadable = parse_addresses(", ".join(["Bob", *(text for _, text in written), "a b@c"]))
    assert found == list(dict.fromkeys(address for address, _ in written))
    assert unreadable == ["Bob", "a b@c"]


@given(st.text(st.sampled_from('ab.@,;:<>()[]"\\ \t\u00fc\x00\ud800')) | st.text())
def test_what_is_found_is_found_again(text: str) -> None:
    found, unreadable = parse_addresses(text)
    assert all(parse_addresses(address) == ([address], []) for address in found)
    assert all(
        (address.encode() and address in "".join(text.split())) or '"' in address or "(" in text for address in found
    )
    assert all(unreadable)
    assert not text.strip(" \t\r\n") or found or unreadable or set(text) & set(",;:(")


@pytest.mark.parametrize(
    "piece", [":", "(", ")", '"', '\\"', "<", "[", "@", "@:", ",", "a@b,", '"a" ', "(a)", ". ", "<@x:"]
)
def test_no_header_takes_long(piece: str) -> None:
    began = time.process_time()
    parse_addresses(piece * (64_000 // len(piece)))
    parse_addresses('"a" ' * 10_000 + "@" + ":" * 10_000)
    assert time.process_time() - began < 5.0, "the square of it would be minutes"


@pytest.mark.parametrize("text", ["", "Bob", "a@b, c@d", "a@b c@d", "a@b\n", "a@b <c@d> x", "a@b,c"])
def test_one_address_is_one(text: str) -> None:
    assert parse_address(text) == ("a@b" if text == "a@b\n" else None)
