"""The headers that a log record carries: names by KumoMTA's rules, values decoded."""

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.mail_headers import HeaderNames, decoded

MAIL = (
    b"Received: one\r\nreceived: two\r\nSubject: s\r\n\tt\r\nX-Tenant: t1\r\nx-tenant: t2\r\nX-: dash\r\nXY: no\r\n"
    b"Bare \t: before the colon\r\nno header\r\nLast:none\r\n\r\nSubject: in the body\r\n"
)


@pytest.mark.parametrize(
    ("names", "carried"),
    [
        (("Subject",), {"Subject": "s t"}),
        (("SUBJECT",), {"Subject": "s t"}),
        (("Received",), {"Received": ["one", "two"]}),
        (("X-*",), {"X-Tenant": ["t1", "t2"], "X-": "dash"}),
        (("x-ten*", "X-Tenant"), {"X-Tenant": ["t1", "t2"]}),
        (("X",), {}),
        (("X-T",), {}),
        (("*-tenant",), {}),
        (("Bare", "Last"), {"Bare": "before the colon", "Last": "none"}),
        (("Subject: s",), {}),
        (("S.bject", "("), {}),
        (("\u00fcber", "\udcff"), {}),
        (
            ("*",),
            {
                "Received": ["one", "two"],
                "Subject": "s t",
                "X-Tenant": ["t1", "t2"],
                "X-": "dash",
                "XY": "no",
                "Bare": "before the colon",
                "Last": "none",
            },
        ),
    ],
)
def test_a_name_in_any_case_and_all_that_begin_like_it(names: tuple[str, ...], carried: dict[str, object]) -> None:
    assert HeaderNames(names).logged(MAIL) == carried
    assert HeaderNames(names).logged(MAIL.replace(b"\r\n", b"\n")) == carried


@pytest.mark.parametrize(
    ("message", "subject"),
    [
        (b"", None),
        (b"\r\nSubject: body", None),
        (b"\nSubject: body", None),
        (b"Subject: no body", "no body"),
        (b"Subject:", ""),
        (b"Subject:\r\n", ""),
        (b"Subject:\r\n folded\r\n  twice \r\n", "folded twice"),
        (b" Subject: folded into nothing\n", None),
        (b"A: b\n Subject: of A\n\n", None),
        (b"\xef\xbb\xbfSubject: behind a mark\n\n", None),
        (b"A: b\r\r\nSubject: s\n\n", "s"),
    ],
)
def test_where_headers_are(message: bytes, subject: str | None) -> None:
    assert HeaderNames(["Subject"]).logged(message).get("Subject") == subject


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"  two  blanks\t", "two blanks"),
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?Q?_aus?= K\xc3\xb6ln", "Gr\u00fc\u00dfe aus K\u00f6ln"),
        (b"=?UTF-8?b?w7w=?=", "\u00fc"),
        (b"=?utf-8?B?w7w?=", "\u00fc"),
        (b"=?iso-8859-1*de?q?=FC?=", "\u00fc"),
        (b"=?koi8-r?B?8NLJ18XU?=", "\u041f\u0440\u0438\u0432\u0435\u0442"),
        (b"=?iso-2022-jp?B?GyRCJDMbKEI=?=", "\u3053"),
        (b"a=?utf-8?q?b?=c", "abc"),
        (b"a =?utf-8?q?b?= =?utf-8?q?c?= d", "a bc d"),
        (b"=?utf-8?q?b?= and =?utf-8?q?c?=", "b and c"),
        # What is none stays as it is.
        (b"=?utf-8?q?b?= =?x-nope?q?c?= =?utf-8?q?d?=", "b =?x-nope?q?c?= d"),
        (b"=?utf-8?q??=", "=?utf-8?q??="),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?a b?=", "=?utf-8?q?a b?="),
        (b"=?utf-8?q?=FC?=", "=?utf-8?q?=FC?="),
        (b"=?utf-8?b?!?=", "=?utf-8?b?!?="),
        (b"=?utf-8?b?a?=", "=?utf-8?b?a?="),
        (b"=?utf-7?q?+2AA-?=", "=?utf-7?q?+2AA-?="),
        (b"=?base64?q?YQ?=", "=?base64?q?YQ?="),
        (b"=?idna?q?xn--a?=", "=?idna?q?xn--a?="),
        (b"=?rot13?q?a?=", "=?rot13?q?a?="),
        (b"=?../x?q?a?=", "=?../x?q?a?="),
        (b"=?utf-8?q?" + b"a" * 999 + b"?=", "=?utf-8?q?" + "a" * 999 + "?="),
        (b"\xff raw", "\ufffd raw"),
    ],
)
def test_values_are_decoded(raw: bytes, text: str) -> None:
    assert decoded(raw) == text


@pytest.mark.parametrize(
    "piece",
    [
        *(
            b"Subject:\n",
            b"Subject: =?utf-8?q?",
            b"=?",
            b"=?utf-8?q?a?= ",
            b"x-a: =?punycode?q?",
            b"\n ",
            b"\n\t",
            b"\r",
        ),
        *(b":", b"X-", b"X-A: " + b"\x01" * 999 + b"\n", b" ", b"=?big5?b?" + b"a" * 900 + b"?= ", b"\xff"),
    ],
)
def test_no_mail_takes_long_or_much(piece: bytes) -> None:
    message = b"Subject: " + piece * (1 + (256 << 10) // len(piece))
    began = time.process_time()
    carried = orjson.dumps(HeaderNames(["*"]).logged(message))
    assert time.process_time() - began < 1.0
    assert len(carried) < 900_000, "a log record with it would be larger than Kafka takes"


_WORDS = st.sampled_from(
    [
        b"=?utf-8?q?",
        b"=?utf-16?b?",
        b"?=",
        b" ",
        b"\r\n ",
        b"=FC",
        b"YQ==",
        b"X-A: ",
        b"\n",
        b"\x00",
        b"=?utf-7?q?+2AA-",
    ]
)


@given(st.lists(_WORDS | st.binary(max_size=20)).map(b"".join))
def test_any_mail_gives_json(message: bytes) -> None:
    names = HeaderNames(["*"])
    carried = names.logged(message)
    assert orjson.loads(orjson.dumps(carried)) == carried
    assert sum(1 if isinstance(value, str) else len(value) for value in carried.values()) == len(
        list(names.fields(message))
    )


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30)


@given(st.lists(st.tuples(st.sampled_from(["A", "a", "B", "X-c"]), _TEXT), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_every_value_of_a_name_in_order(headers: list[tuple[str, str]], end: str) -> None:
    message = "".join(f"{name}: {value}{end}" for name, value in headers) + end
    carried = HeaderNames(["a", "x-*"]).logged(message.encode())
    wanted: dict[str, list[str]] = {}
    for name, value in headers:
        if name != "B":
            wanted.setdefault(name.lower(), []).append(decoded(value.encode()))
    listed = {name.lower(): [value] if isinstance(value, str) else value for name, value in carried.items()}
    assert listed == wanted
    firsts = {name.lower(): name for name, _ in reversed(headers)}
    assert all(firsts[name.lower()] == name for name in carried)
