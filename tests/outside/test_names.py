"""Names of queues that look alike, or look like paths: two names never share a topic, and each comes back as it was."""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.broker import EmbeddedBroker
from streams.domain.envelope import parse_envelope, restore
from streams.domain.queue_name import MAX_NAME_BYTES, QueueName
from streams.domain.returned import NotRestorable
from streams.domain.topic import MAX_TOPIC_LENGTH, TOPIC_PREFIX, is_queue_topic, queue_of, topic_of
from streams.kafka.cluster import Cluster
from streams.settings.settings import Settings
from tests.outside.mutations import ENVELOPE, XFER_QUEUE
from tests.outside.test_parsers import NOW
from tests.support.examples import examples
from tests.support.names import own_name, remove_topics

outside = settings.get_profile("outside")
TRICKS = [
    *("a", "A", "a.", "a..", ".a", "..", ".", "...", "a\0", "\0a", "a ", " a", "a\t", "a\n", "a\r\n", "a\u00a0"),
    *("a/../b", "b", "../b", "..%2fb", "%2e%2e/b", "..\\b", "a/./b", "a//b", "/b", "b/", "file:///b", "C:b", "~b"),
    *("a-b", "a_b", "a.b", "a--b", "a-2db", "a-2eb", "a%2db", "a-5fb", "-", "--", "-2d", "-2d-2d", "_", "__"),
    *("\xe9", "e\u0301", "\xc9", "E\u0301", "\xc3\xa9", "\u0435", "\uff41", "\u0430", "\u212a", "K", "k", "\u0131"),
    *("\xdf", "ss", "SS", "\u1e9e", "\u2126", "\u03a9", "\ufb01", "fi", "a\u202eb", "a\u202cb", "\ufeffa", "\ufffd"),
    *("xn--e1a", "a@b", "a@B", "@b", "a@", "a:@b", ":a@b", "a@b!", "a@b!c", "a:b@c!d", "a@b!c@d", "%s", "{topic}", "*"),
    *("__consumer_offsets", "xferq.commands", "queue.", "null", "0", "00", "\U0001f4a3", "\U0010ffff", "\u0378"),
    *("x" * 243, "x" * 244, "X" * 244, "x" * 243 + "\0", "\xe9" * 41, "\xe9" * 40, "e\u0301" * 40, "y" * 1024),
]  # fmt: skip
"""All different."""

pieces = st.sampled_from(TRICKS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = st.lists(pieces, min_size=1, max_size=3).map("".join).filter(lambda name: is_a_name(name))


def is_a_name(name: str) -> bool:
    return 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES and "\ud800" not in name


def alike(name: str) -> Iterator[str]:
    """Names that somebody, or something in between, might take for this one."""
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield unicodedata.normalize(form, name)
    yield from (name.lower(), name.upper(), name.casefold(), name.swapcase(), name.strip(), name.strip("."))
    yield from (name + ".", name + "\0", name + " ", name + "/", f"./{name}", f"../{name}", f"{name}/../{name}")
    yield from (quote(name), quote(name, safe=""), quote(quote(name)), unquote(name, errors="replace"))
    yield from (name.replace(".", "_"), name.replace("_", "."), name.replace("-", "_"), name.replace("/", "."))
    yield from (name.encode().decode("latin-1"), name.encode("latin-1", "replace").decode("latin-1"))
    yield from (name.encode("punycode").decode("ascii", "replace"), name.replace("\\", "/"), name.replace("\0", ""))
    topic = topic_of(name)
    yield from (topic, topic.removeprefix(TOPIC_PREFIX), topic.removeprefix(TOPIC_PREFIX)[:150])
    yield from (name[:-1], name[1:], name * 2, name[::-1], "".join(char for char in name if char.isprintable()))


@given(names)
@settings(outside, max_examples=examples(300))
def test_what_looks_alike_has_another_topic(name: str) -> None:
    others = [other for other in alike(name) if other != name and is_a_name(other)]
    assert topic_of(name) not in set(map(topic_of, others))
    assert len(set(map(topic_of, others))) == len(set(others))


@given(names)
@settings(outside, max_examples=examples(300))
def test_every_topic_is_a_plain_word_that_gives_the_name_back(name: str) -> None:
    topic = topic_of(name)
    # No underscore: Kafka takes names that differ only in "." and "_" for one. No path, no "." or ".." alone.
    assert re.fullmatch(r"queue\.[A-Za-z0-9.-]+", topic)
    assert len(topic) <= MAX_TOPIC_LENGTH
    assert is_queue_topic(topic)
    assert queue_of(topic) == (None if "--" in topic else name)
    assert str(QueueName.parse(name)) == name


def test_the_tricks_are_all_different() -> None:
    assert len(set(TRICKS)) == len(TRICKS)
    assert len(set(map(topic_of, TRICKS))) == len(TRICKS)


@pytest.mark.parametrize("name", ["", "\ud800", "a\udfff", "x" * 1025, "\xe9" * 513])
def test_what_is_no_name_restores_nothing(name: str) -> None:
    info: dict[str, Any] = {"queue": name}
    envelope = {**ENVELOPE, "meta": {"queue": XFER_QUEUE, "xfer_queue_info": info}}
    with pytest.raises(NotRestorable):
        restore(envelope, now=NOW, xfer_queue=XFER_QUEUE)


@pytest.mark.parametrize(
    "raw", [b'"\xc0\xae\xc0\xae"', b'"\xe0\x80\xaf"', b'"\xf0\x80\x80\xaf"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\ud800"']
)
def test_overlong_and_broken_utf8_is_no_name(raw: bytes) -> None:
    envelope = b'{"sender":"s","recipient":"r@d","meta":{"queue":%b},"num_attempts":0,"created":"2026-11-20T10:00:00Z"}'
    assert parse_envelope(envelope % b'"q"')
    with pytest.raises(NotRestorable):
        parse_envelope(envelope % raw)


async def test_kafka_keeps_them_apart(broker: EmbeddedBroker) -> None:
    """All of them at once, as Kafka has its own rules for names that collide."""
    own = own_name()
    tricks = [f"{own}{trick}"[:1024] for trick in TRICKS if len(trick) < 1_000]
    values: dict[str, Any] = {"bootstrap_servers": broker.bootstrap_servers, "queue_partitions": 1}
    async with Cluster(Settings(**values)) as kafka:
        assert await kafka.create([topic_of(name) for name in tricks]) == {}
        ids = set()
        for name in tricks:
            while (there := await kafka.topic(topic_of(name))) is None:
                await asyncio.sleep(0.05)
            ids.add(there.id)
        assert len(ids) == len(tricks)
        listed = {queue_of(topic) or topic for topic in await kafka.topics()}
        assert {name if "--" not in topic_of(name) else topic_of(name) for name in tricks} <= listed
    remove_topics(broker.bootstrap_servers, own)
