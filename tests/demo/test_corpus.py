"""The demo's mail: of every kind, of every size, in every queue; and what tells whether one was changed."""

import json
from collections import Counter
from datetime import UTC, datetime
from email import message_from_bytes

import pytest

from api.demo.corpus import fingerprint, make_corpus
from api.demo.letters import LARGEST_BYTES, python_test_mails, written_letters
from api.demo.queues import scheduled_queues
from streams.domain.envelope import parse_envelope, queue_of_envelope
from streams.domain.schedule import Schedule
from streams.domain.topic import queue_of, topic_of

NOW = datetime(2026, 11, 24, 10, 0, 0, 0, UTC)


def test_letters_are_of_every_kind_and_size() -> None:
    letters = list(written_letters(2_000))
    sizes = [len(letter) for letter in letters]
    assert min(sizes) < 600
    assert sorted(sizes)[1_000] < 8_000
    assert 100_000 < max(sizes) < 2 * LARGEST_BYTES
    assert sum(b"\x00" in letter for letter in letters) > 100
    assert sum(b"\r" not in letter for letter in letters) > 100
    assert sum(letter.endswith(b"\r\n\r\n") for letter in letters) > 100
    assert sum(max(map(len, letter.split(b"\n"))) > 998 for letter in letters) > 100
    assert sum(message_from_bytes(letter).is_multipart() for letter in letters) > 100
    assert len(set(letters)) == len(letters)


def test_letters_are_the_same_every_time() -> None:
    assert list(written_letters(50)) == list(written_letters(50))
    assert list(written_letters(50)) != list(written_letters(50, seed=2))


def test_python_test_mails_are_found_where_they_are() -> None:
    pytest.importorskip("test.test_email", reason="this Python comes without its tests")
    mails = python_test_mails()
    assert len(mails) > 30
    assert all(mails)


@pytest.mark.parametrize("run", ["", "d41d8c"])
def test_every_message_belongs_to_the_queue_that_it_is_put_into(run: str) -> None:
    queues = scheduled_queues(run, NOW)
    mails = make_corpus(written_letters(500), queues, NOW)
    assert {mail.queue for mail in mails} == {queue.name for queue in queues}
    assert len({mail.id for mail in mails}) == 500
    for mail in mails:
        envelope = parse_envelope(dict(mail.headers)["envelope"] or b"")
        assert queue_of_envelope(envelope) == mail.queue
        assert json.dumps(envelope) == json.dumps(mail.envelope)


def test_the_queues_have_names_and_schedules_of_every_kind() -> None:
    queues = scheduled_queues("", NOW)
    assert len(queues) >= 8
    assert sum(queue_of(topic_of(queue.name)) is None for queue in queues) == 1  # too long for a topic's name
    schedules = [Schedule.parse(queue.schedule) for queue in queues if queue.schedule is not None]
    assert any(schedule.restriction for schedule in schedules)
    assert any(schedule.first_attempt for schedule in schedules)
    assert any(schedule.expires for schedule in schedules)


def test_queues_of_a_run_are_nobody_elses() -> None:
    own = {queue.name for queue in scheduled_queues("d41d8c", NOW)}
    assert own.isdisjoint({queue.name for queue in scheduled_queues("", NOW)})
    assert all("d41d8c" in name for name in own)


def test_envelopes_stand_anywhere_among_the_headers() -> None:
    mails = make_corpus(written_letters(200), scheduled_queues("", NOW), NOW)
    places = Counter([name for name, _ in mail.headers].index("envelope") for mail in mails)
    assert set(places) >= {0, 1, 2, 3}


HEADERS = (("a", b"1"), ("envelope", b"{}"), ("b", b"2"))


@pytest.mark.parametrize(
    "other",
    [
        (b"kv", b"", 5, HEADERS),
        (b"k", b"v", 6, HEADERS),
        (b"k", None, 5, HEADERS),
        (None, b"v", 5, HEADERS),
        (b"k", b"v", 5, HEADERS[::-1]),
        (b"k", b"v", 5, HEADERS[:2]),
        (b"k", b"v", 5, (("a", b"1"), ("b", b"2"), ("envelope", b"{}"))),
        (b"k", b"v", 5, (("a", None), *HEADERS[1:])),
        (b"k", b"v", 5, (("a1", b""), *HEADERS[1:])),
    ],
)
def test_a_fingerprint_tells_every_change(other: tuple[bytes | None, bytes | None, int, object]) -> None:
    assert fingerprint(*other) != fingerprint(b"k", b"v", 5, HEADERS)  # type: ignore[arg-type]


def test_a_fingerprint_does_not_look_into_the_envelope() -> None:
    changed = (("a", b"1"), ("envelope", b"other"), ("b", b"2"))
    assert fingerprint(b"k", b"v", 5, changed) == fingerprint(b"k", b"v", 5, HEADERS)
