import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.domain.queue_name import InvalidQueueName, QueueName, is_xfer, validate_queue_name

from .strategies import queue_names, texts


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("example.com", QueueName("example.com")),
        ("t@example.com", QueueName("example.com", "t")),
        ("c:t@example.com", QueueName("example.com", "t", "c")),
        ("c:@example.com", QueueName("example.com", "", "c")),
        ("example.com!rd", QueueName("example.com", routing_domain="rd")),
        ("t@example.com!rd", QueueName("example.com", "t", routing_domain="rd")),
        ("c:t@example.com!rd", QueueName("example.com", "t", "c", "rd")),
        ("c:@example.com!rd:2025", QueueName("example.com", "", "c", "rd:2025")),
        ("foo.com:2025", QueueName("foo.com:2025")),
        ("foo.com!rt.com:2025", QueueName("foo.com", routing_domain="rt.com:2025")),
        ("@example.com", QueueName("example.com", "")),
        (":@example.com", QueueName("example.com", "", "")),
        ("a:b:c@d!e!f", QueueName("d", "b:c", "a", "e!f")),
        ("t@d@e", QueueName("d@e", "t")),
        ("t!x@d", QueueName("d", "t!x")),
        ("d!", QueueName("d", routing_domain="")),
        ("", QueueName("")),
    ],
)
def test_every_form(name: str, parts: QueueName) -> None:
    assert QueueName.parse(name) == parts
    assert parts.format() == str(parts) == name


@given(texts)
def test_any_string_is_written_back_as_it_was(name: str) -> None:
    assert QueueName.parse(name).format() == name


@given(queue_names)
def test_parts_are_read_back_as_they_were(parts: QueueName) -> None:
    assert QueueName.parse(parts.format()) == parts


def test_a_campaign_without_a_tenant() -> None:
    assert QueueName("example.com", campaign="c").format() == "c:@example.com"


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [
        ({}, {"c:t@d!r", "t@d", "d", "c:@d"}),
        ({"campaign": "c"}, {"c:t@d!r", "c:@d"}),
        ({"tenant": "t"}, {"c:t@d!r", "t@d"}),
        ({"tenant": ""}, {"c:@d"}),
        ({"domain": "d"}, {"c:t@d!r", "t@d", "d", "c:@d"}),
        ({"domain": "D"}, set()),
        ({"routing_domain": "r"}, {"c:t@d!r"}),
        ({"campaign": "c", "tenant": "t", "domain": "d", "routing_domain": "r"}, {"c:t@d!r"}),
        ({"tenant": "t", "routing_domain": "other"}, set()),
    ],
)
def test_a_wanted_part_that_a_queue_lacks_is_no_match(wanted: dict[str, str], matching: set[str]) -> None:
    queues = {"c:t@d!r", "t@d", "d", "c:@d"}
    assert {queue for queue in queues if QueueName.parse(queue).matches(**wanted)} == matching


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("http://host/.xfer.kumomta.internal", True),
        (".xfer.kumomta.internal", True),
        ("http://host/.XFER.kumomta.internal", False),
        ("http://host/.xfer.kumomta.internal.", False),
        ("xfer.kumomta.internal", False),
        ("example.com", False),
    ],
)
def test_the_suffix_makes_an_xfer_queue(name: str, expected: bool) -> None:
    assert is_xfer(name) is expected


@given(st.sampled_from(["a", "\xe9", "\U0001f4e8"]), st.integers(0, 1100))
@example("a", 1024)
@example("a", 1025)
@example("\xe9", 512)
def test_names_are_measured_in_bytes(character: str, count: int) -> None:
    name = character * count
    if 1 <= len(name.encode()) <= 1024:
        assert validate_queue_name(name) == name
    else:
        with pytest.raises(InvalidQueueName, match="1 to 1024 bytes"):
            validate_queue_name(name)


def test_a_lone_surrogate_names_nothing() -> None:
    with pytest.raises(InvalidQueueName, match="Unicode"):
        validate_queue_name("a\udfff")
