"""Which xfer queue was meant, by the names alone."""

import pytest

from api.suggestion import meant_of

SUFFIX = ".xfer.kumomta.internal"
MX2 = f"http://mx2.example.com/{SUFFIX}"
EXISTING = [MX2, f"http://10.0.0.1:8000/{SUFFIX}", f"https://other.example/x/{SUFFIX}"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("http://mx2.example.com/", MX2),
        ("http://mx2.example.com", MX2),
        ("HTTP://MX2.example.com:80", MX2),
        ("mx2.example.com", MX2),
        ("mx2.exmaple.com", MX2),
        (f"mx2.example.com{SUFFIX}", MX2),
        (f"http://mx2.example.com{SUFFIX}", MX2),
        (f"https://mx2.example.com/{SUFFIX}", MX2),
        (f"http://mx2.exmaple.com/{SUFFIX}", MX2),
        ("10.0.0.1:8000", EXISTING[1]),
        ("http://10.0.0.2:8000", EXISTING[1]),
        ("http://10.9.8.7/", f"http://10.9.8.7/{SUFFIX}"),
        ("mytenant@letters.test", None),
        (SUFFIX, None),
        ("", None),
        (f"http://nothing.like.it.test/{SUFFIX}", None),
    ],
)
def test_what_was_meant(name: str, meant: str | None) -> None:
    assert meant_of(name, EXISTING) == meant


def test_where_kafka_can_t_be_asked_a_target_still_names_its_queue() -> None:
    assert meant_of("http://mx2.example.com", []) == MX2
    assert meant_of(MX2, []) is None
    assert meant_of("example.com", []) is None
