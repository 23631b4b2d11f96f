import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.nearest import nearest, nearest_queues

from .strategies import texts

MANY = [f"camp{n % 50}:tenant{n * 7919 % 10_007}@customer{n}.example.com" for n in range(10_000)]
QUEUES = [*MANY, "mytenant@example.com", "c:mytenant@mail.example!relay.example", "example.net"]
LONG = [
    f"camp{n % 50}:tenant{n * 7919 % 20_011}@{'customer.' * 9}{n}.example.com".ljust(128, "x") for n in range(20_000)
]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("mytennant@example.com", "mytenant@example.com"),
        ("MYTENANT@EXAMPLE.COM", "mytenant@example.com"),
        ("exmaple.net", "example.net"),
        ("camp7:tenant5971@custmer4507.example.com", MANY[4507]),
        (MANY[17], MANY[17]),
    ],
)
def test_the_name_that_was_meant_is_found_among_ten_thousand(wanted: str, meant: str) -> None:
    assert nearest(wanted, QUEUES)[0] == meant


@given(st.integers(0, 19_999), st.integers(0, 127), st.sampled_from("az09@."))
@settings(max_examples=20)
def test_among_as_many_and_as_long_as_may_be(number: int, where: int, letter: str) -> None:
    meant = LONG[number]
    assert meant in nearest(meant[:where] + letter + meant[where:], LONG)


@pytest.mark.parametrize(
    ("criteria", "meant"),
    [
        ({"tenant": "mytennant"}, {"mytenant@example.com", "c:mytenant@mail.example!relay.example"}),
        ({"domain": "exmaple.com"}, {"mytenant@example.com"}),
        ({"domain": "example.nte"}, {"example.net"}),
        ({"routing_domain": "relai.example"}, {"c:mytenant@mail.example!relay.example"}),
        ({"campaign": "c", "tenant": "mytennant"}, {"c:mytenant@mail.example!relay.example"}),
        ({"tenant": "mytenant", "domain": "exmaple.com"}, {"mytenant@example.com"}),
    ],
)
def test_the_queues_that_were_meant_are_found_by_their_parts(criteria: dict[str, str], meant: set[str]) -> None:
    assert set(nearest_queues(criteria, QUEUES)[: len(meant)]) == meant


def test_what_is_nothing_like_it_is_not_named_where_it_has_to_be_like_it() -> None:
    assert nearest("zzzzzz", QUEUES, least=0.6) == []
    assert nearest("mytennant@example.com", QUEUES, least=0.6, most=1) == ["mytenant@example.com"]


def test_there_is_none() -> None:
    assert nearest("a", []) == nearest_queues({"tenant": "a"}, []) == nearest_queues({}, []) == []


@given(texts, st.lists(texts, max_size=50), st.sampled_from(["campaign", "tenant", "domain", "routing_domain"]))
def test_some_of_the_names_whatever_they_are(wanted: str, names: list[str], part: str) -> None:
    for found in (nearest(wanted, names), nearest_queues({part: wanted}, names)):
        assert len(found) <= 3
        assert set(found) <= set(names)
        assert found or not names
    if wanted in names:
        assert wanted.lower() == nearest(wanted, names)[0].lower() or len(wanted) > 128


@given(st.sampled_from(QUEUES), st.integers(0, 100), st.sampled_from("az09@."))
def test_one_letter_too_many(meant: str, where: int, letter: str) -> None:
    typed = meant[:where] + letter + meant[where:]
    assert meant in nearest(typed, [*QUEUES[-200:], meant], most=3)
