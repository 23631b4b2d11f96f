import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.domain.queue_name import InvalidQueueName
from streams.domain.topic import MAX_TOPIC_LENGTH, TOPIC_PREFIX, is_queue_topic, names_in, queue_of, topic_of

from .strategies import texts

names = texts.filter(lambda name: 0 < len(name.encode()) <= 1024)
LONG = "x" * 250 + "@example.com"


@given(names)
@example("x" * 243)
@example("x" * 244)
def test_a_topic_is_legal_and_gives_its_name_back(name: str) -> None:
    topic = topic_of(name)
    assert re.fullmatch(r"queue\.[A-Za-z0-9.-]+", topic)
    assert len(topic) <= MAX_TOPIC_LENGTH
    assert is_queue_topic(topic)
    assert queue_of(topic) == (None if "--" in topic else name)


@given(names, names)
def test_no_two_names_share_a_topic(one: str, other: str) -> None:
    assert (topic_of(one) == topic_of(other)) == (one == other)


@given(st.text("queue.-0123456789abcdefA_\xff", max_size=40) | texts)
def test_no_two_topics_share_a_name(rest: str) -> None:
    for topic in (rest, TOPIC_PREFIX + rest):
        name = queue_of(topic)
        assert name is None or topic_of(name) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "queue.",
        "queue",
        "Queue.a",
        "xqueue.a",
        "delivery-log",
        "queue.a_b",
        "queue.a-4",
        "queue.a-",
        "queue.a-4g",
        "queue.a-C3-A9",
        "queue.a-2D",
        "queue.-41",
        "queue.a-2eb",
        "queue.-ff",
        "queue.-c3",
        "queue.-ed-a0-80",
        "queue.-c0-af",
        "queue.\xe9",
        "queue.a\n",
        "queue." + "a" * 250,
        "queue.a--" + "0" * 64,
    ],
)
def test_not_the_topic_of_a_queue(topic: str) -> None:
    assert queue_of(topic) is None
    assert not is_queue_topic(topic)


def test_the_longest_name_that_is_spelled_out() -> None:
    longest = "x" * (MAX_TOPIC_LENGTH - len(TOPIC_PREFIX))
    assert topic_of(longest) == TOPIC_PREFIX + longest
    assert topic_of(longest + "x").startswith(TOPIC_PREFIX + "x" * 150 + "--")


def test_long_names_differ_where_their_beginnings_do_not() -> None:
    assert topic_of(LONG) != topic_of(LONG + "x")
    assert queue_of(topic_of(LONG)) is None


@pytest.mark.parametrize("cut", range(148, 152))
def test_a_long_name_may_be_cut_within_an_escape(cut: int) -> None:
    topic = topic_of("x" * cut + "@" * 100)
    assert is_queue_topic(topic)
    assert not is_queue_topic(topic + "0")
    assert not is_queue_topic(topic[:-1] + "g")
    assert not is_queue_topic(topic.replace("x", "_", 1))


@pytest.mark.parametrize("name", ["", "x" * 1025, "\xe9" * 513, "\ud800"])
def test_what_cannot_name_a_queue_has_no_topic(name: str) -> None:
    with pytest.raises(InvalidQueueName):
        topic_of(name)


@given(st.lists(texts.filter(lambda text: 0 < len(text.encode()) <= 80), max_size=20))
def test_many_names_at_once_are_those_of_each(names: list[str]) -> None:
    topics = ["xferq.ledger", "queue.", *map(topic_of, names), topic_of("x" * 900)]
    assert names_in(topics) == [name for name in names if "\n" not in name]
    assert names_in([]) == []
