"""Each rule of the verdict, broken once: a checker that never fails proves nothing."""

from collections.abc import Callable

import orjson
import pytest

from streams.settings.settings import Settings
from tests.faults.history import Batch, Drained, History, Range, Reading
from tests.faults.mail import HOMES, SOURCES, Names, message
from tests.faults.verdict import TRANSFERRED, Verdict, judge

SOURCE, HOME = 1, SOURCES
"""Of message 1: see `tests.faults.mail`. Its partition is 0."""
AT = ("2026-11-24T10:00:00Z", "2026-11-24T10:00:01Z", "2026-11-24T10:00:05Z")
NOW = 1_795_514_400.0
"""The first of these, in s."""


def sound() -> History:
    """Message 1 was put in at 10, cancelled, transferred, cancelled; message 10, behind it, was cancelled; 19 is
    where it was put in, sent by a dispatcher. All of them are of one partition."""
    history = History()
    history.places[1] = [(SOURCE, 0, 10), (HOME, 0, 3), (TRANSFERRED, 0, 0), (HOME, 0, 7)]
    history.places[10] = [(SOURCE, 0, 11), (HOME + 1, 0, 5)]
    history.places[19] = [(SOURCE, 0, 12)]
    history.logged[1] = [HOME, TRANSFERRED, HOME]
    history.logged[10] = [HOME + 1]
    for place, id, start, end, restored in (
        ((SOURCE, 0), "c0", 9, 12, 2),
        ((HOME, 0), "c1", 0, 4, 1),
        ((TRANSFERRED, 0), "c2", 0, 1, 1),
    ):
        history.ranges[place] = [Range(start, end, id, AT[0])]
        history.drained[(*place, id)] = Drained(restored, 0, done=True)
        history.confirmed[(place[0], id)] = NOW + 1
        history.statuses[id] = {"state": "done", "restored": restored, "returned": 0}
        history.heads[place] = end
    history.heads[(SOURCE, 0)] = 13
    send(history, (SOURCE, 0, 12), assigned=20.0, polled=21.0, committed=22.0)
    return history


def send(
    history: History,
    place: tuple[int, int, int],
    *,
    by: str = "d",
    assigned: float = -60.0,
    polled: float,
    committed: float | None = None,
) -> None:
    """A dispatcher has sent what is in this place; times in s after the first claim."""
    batch = Batch(
        by, 1, 1, NOW + assigned, NOW + polled, place[0], {place[1]: place[2] + 1}, committed and NOW + committed
    )
    history.sent[place].append(batch)
    history.batches.append(batch)


def verdict(history: History) -> Verdict:
    """The judgement; messages 1, 10 and 19 were confirmed, the others never."""
    return judge(history, [number in (1, 10, 19) for number in range(20)], ["c0", "c1", "c2"])


def test_the_messages_are_as_these_tests_have_it() -> None:
    assert [(message(n).source, message(n).partition, message(n).home) for n in (1, 10, 19)] == [
        (1, 0, 0),
        (1, 0, 1),
        (1, 0, 2),
    ]
    assert TRANSFERRED == SOURCES + HOMES


def test_a_run_in_which_all_went_well() -> None:
    found = verdict(sound())
    assert found.violations == []
    assert (found.totals["restored"], found.totals["transferred"], found.totals["dispatched"]) == (3, 1, 1)
    assert found.totals["AdminRebind records"] == 4


def _lost(history: History) -> None:
    del history.places[10]


def _taken_out_and_put_nowhere(history: History) -> None:
    history.places[10].pop()


def _doubled(history: History) -> None:
    history.places[10].append((HOME + 1, 0, 6))


def _claimed_twice(history: History) -> None:
    history.ranges[(SOURCE, 0)].append(Range(11, 13, "c1", AT[0]))


def _never_drained(history: History) -> None:
    history.drained[(SOURCE, 0, "c0")].done = False


def _given_up(history: History) -> None:
    history.drained[(SOURCE, 0, "c0")].lost = True


def _head_below(history: History) -> None:
    history.heads[(SOURCE, 0)] = 11


def _passed_over(history: History) -> None:
    history.sent.clear()


def _miscounted(history: History) -> None:
    history.drained[(SOURCE, 0, "c0")].restored = 3


def _returned_wrongly(history: History) -> None:
    history.drained[(SOURCE, 0, "c0")].restored -= 1
    history.drained[(SOURCE, 0, "c0")].returned += 1


def _status_miscounted(history: History) -> None:
    history.statuses["c0"]["restored"] = 1


def _not_ended(history: History) -> None:
    history.statuses["c2"]["state"] = "claimed"


def _wrong_place(history: History) -> None:
    history.places[10][1] = (HOME + 2, 0, 5)


def _logged_twice(history: History) -> None:
    history.logged[10].append(HOME + 1)


def _not_logged(history: History) -> None:
    history.logged[1].remove(TRANSFERRED)


def _out_of_order(history: History) -> None:
    for number in (28, 100):  # of the same partition and home: 100 was put in behind 28
        history.places[number] = [(SOURCE, 0, number), (HOME + 3, 0, 200 - number)]
        history.logged[number] = [HOME + 3]
    history.ranges[(SOURCE, 0)].append(Range(28, 101, "c1", AT[0]))
    history.drained[(SOURCE, 0, "c1")] = Drained(2, 0, done=True)


def _never_sent(history: History) -> None:
    history.places[500] = [(SOURCE, 0, 13)]


def _later_member(history: History) -> None:
    send(history, (SOURCE, 0, 11), assigned=2.0, polled=3.0)


def _not_evicted(history: History) -> None:
    send(history, (SOURCE, 0, 11), polled=2.0, committed=3.0)


def _committed_before(history: History) -> None:
    send(history, (SOURCE, 0, 11), polled=-3.0, committed=-2.0)


def _dispatched_again(history: History) -> None:
    send(history, (SOURCE, 0, 12), by="e", assigned=25.0, polled=26.0)


@pytest.mark.parametrize(
    ("breaking", "rule"),
    [
        (_lost, "lost"),
        (_taken_out_and_put_nowhere, "lost"),
        (_doubled, "doubled"),
        (_claimed_twice, "claimed twice"),
        (_never_drained, "not drained"),
        (_given_up, "not drained"),
        (_head_below, "head below a claim"),
        (_passed_over, "skipped"),
        (_miscounted, "miscounted"),
        (_status_miscounted, "miscounted"),
        (_returned_wrongly, "returned wrongly"),
        (_not_ended, "not done"),
        (_wrong_place, "moved wrongly"),
        (_logged_twice, "logged wrongly"),
        (_not_logged, "logged wrongly"),
        (_out_of_order, "order"),
        (_never_sent, "never sent"),
        (_later_member, "dispatched after the claim"),
        (_not_evicted, "dispatched after the claim"),
        (_committed_before, "claimed after it was dispatched"),
        (_dispatched_again, "dispatched again"),
    ],
)
def test_a_broken_promise_is_found(breaking: Callable[[History], None], rule: str) -> None:
    history = sound()
    breaking(history)
    assert rule in {violation.rule for violation in verdict(history).violations}


def test_a_message_that_its_producer_put_in_twice_is_two() -> None:
    history = sound()
    history.places[10] += [(SOURCE, 0, 12), (HOME + 1, 0, 6)]
    history.places[19] = [(SOURCE, 0, 13)]
    history.logged[10].append(HOME + 1)
    history.ranges[(SOURCE, 0)] = [Range(9, 13, "c0", AT[0])]
    history.drained[(SOURCE, 0, "c0")].restored = history.statuses["c0"]["restored"] = 3
    history.sent.clear()
    found = verdict(history)
    assert found.violations == []
    assert found.totals["put in twice by their own producer"] == 1
    history.places[10].append((HOME + 1, 0, 7))
    assert "doubled" in {violation.rule for violation in verdict(history).violations}


@pytest.mark.parametrize(
    ("polled", "committed"),
    [(-0.5, None), (0.3, 0.5), (3.0, None)],
    ids=["polled before", "committed before the second look", "polled before it learned"],
)
def test_what_an_evicted_dispatcher_sends_twice_is_its_own(polled: float, committed: float | None) -> None:
    history = sound()
    send(history, (SOURCE, 0, 11), polled=polled, committed=committed)
    found = verdict(history)
    assert found.violations == []
    assert found.totals["sent by a dispatcher and restored as well"] == 1


@pytest.mark.parametrize(
    ("told", "minutes_later", "is_wrong"),
    [("done", 20, False), ("claimed", 5, False), ("claimed", 20, True), ("refused", 0, True), (None, 5, False)],
)
def test_what_the_results_say_of_an_end(told: str | None, minutes_later: int, is_wrong: bool) -> None:
    """It may be told late, where the topic could not be written, but never otherwise."""
    settings = Settings()
    reading = Reading(Names("r"), settings)

    def take(topic: str, key: str, at_ms: int, **line: object) -> None:
        reading.take((topic, 0, 0, key.encode(), orjson.dumps(line), (), at_ms))

    take(settings.ledger_topic, "outcome/c", 1_000, state="done")
    take(settings.ledger_topic, "outcome/d", 1_000 + minutes_later * 60_000, state="done")
    take(settings.results_topic, "d", 0, id="d", revision=2, state="done")
    if told is not None:
        take(settings.results_topic, "c", 0, id="c", revision=1, state=told)
    problems = [text for _, text in reading.done().problems]
    assert problems == ([f"the results say {told} of command c, the ledger done"] if is_wrong else [])
