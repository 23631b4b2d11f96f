"""The judgement on a fault run: pure rules over its history. Nothing of xferq's own code takes part in it."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from tests.faults.history import Batch, History, Place, Range
from tests.faults.mail import HOMES, SOURCES, message

TRANSFERRED = SOURCES + HOMES
"""The number of the topic that transfers bring messages to."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, and the message that it was broken for, if it was one's."""

    rule: str
    text: str
    number: int | None = None


@dataclass(slots=True)
class Verdict:
    """What was found wrong, and how much there was."""

    violations: list[Violation] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)

    def say(self, rule: str, text: str, number: int | None = None) -> None:
        """A violation."""
        self.violations.append(Violation(rule, text, number))
        self.totals[f"violations: {rule}"] += 1


def judge(history: History, acknowledged: Collection[int], ids: Collection[str]) -> Verdict:
    """Judge a run that has come to rest: all of its commands ended, its dispatchers gone.

    Args:
        history: what the topics say.
        acknowledged: by message number from 0, whether Kafka had confirmed the message when it was put in.
        ids: all commands that were published.
    """
    verdict = Verdict()
    for number, problem in history.problems:
        verdict.say("changed", problem, number)
    _judge_ranges(history, verdict)
    _judge_commands(history, ids, verdict)
    for number, confirmed in enumerate(acknowledged):
        _judge_message(history, number, bool(confirmed), verdict)
    for number in history.places.keys() - set(range(len(acknowledged))):
        verdict.say("never sent", f"m{number} is in {history.places[number]}", number)
    _judge_order(history, verdict)
    _judge_dispatchers(history, verdict)
    return verdict


# ---- claims and commands


def _judge_ranges(history: History, verdict: Verdict) -> None:
    for where, ranges in history.ranges.items():
        for before, after in pairwise(ranges):
            if after.start < before.end:
                verdict.say("claimed twice", f"{where}: {before} and {after}")
        for taken in ranges:
            drained = history.drained.get((*where, taken.id))
            verdict.totals["ranges claimed"] += 1
            if drained is None or not drained.done or drained.lost:
                verdict.say("not drained", f"{where}: {taken}: {drained}")
        if history.heads.get(where, 0) < ranges[-1].end:
            verdict.say(
                "head below a claim", f"{where} is at {history.heads.get(where)}, claimed up to {ranges[-1].end}"
            )


def _judge_commands(history: History, ids: Collection[str], verdict: Verdict) -> None:
    """The numbers of each status are those of its ranges, and each range's are those of the records in it."""
    counted: Counter[tuple[int, int, str]] = Counter()
    hopeless: Counter[tuple[int, int, str]] = Counter()
    for number, places in history.places.items():
        for place in places:
            taken = history.claim_of(place)
            if taken is not None:
                counted[(place[0], place[1], taken.id)] += 1
                hopeless[(place[0], place[1], taken.id)] += message(number).is_hopeless
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for where, drained in history.drained.items():
        sums[where[2]] += Counter(restored=drained.restored, returned=drained.returned)
        if drained.restored + drained.returned != counted[where]:
            verdict.say("miscounted", f"{where}: {drained}, but it took {counted[where]} messages")
        if drained.returned != hopeless[where]:
            verdict.say("returned wrongly", f"{where}: {drained}, but {hopeless[where]} could not be restored")
    for id in ids:
        status = history.statuses.get(id)
        if status is None or status["state"] != "done":
            verdict.say("not done", f"{id}: {status}")
            continue
        verdict.totals["commands done"] += 1
        if (status["restored"], status["returned"]) != (sums[id]["restored"], sums[id]["returned"]):
            verdict.say("miscounted", f"{id}: {status}, its ranges {dict(sums[id])}")


# ---- messages


def _judge_message(history: History, number: int, confirmed: bool, verdict: Verdict) -> None:
    places = history.places.get(number, [])
    if not places:
        if confirmed:
            verdict.say("lost", f"m{number} is nowhere", number)
        else:
            verdict.totals["never confirmed, and not there"] += 1
        return
    verdict.totals["messages"] += 1
    claimed: Counter[int] = Counter()
    left = []
    for place in places:
        if history.claim_of(place) is None:
            left.append(place)
        else:
            claimed[place[0]] += 1
    origins = _origins(history, number)
    verdict.totals["put in twice by their own producer"] += origins - 1
    if len(left) > origins:
        verdict.say("doubled", f"m{number} is in {left}", number)
    elif len(left) < origins:
        verdict.say("lost", f"m{number} was taken out of {places} and put nowhere", number)
    for place in left:
        if place in history.sent:
            verdict.totals["dispatched"] += 1
        elif place[2] < history.heads.get(place[:2], 0):
            verdict.say("skipped", f"m{number} in {place} was passed over: neither claimed nor dispatched", number)
        else:
            verdict.totals["in their queues at the end"] += 1
    _judge_moves(history, number, Counter(place[0] for place in places), claimed, verdict)


def _origins(history: History, number: int) -> int:
    """How often the message was put in.

    Once, but for this: an idempotent producer that has lost an answer may begin a new epoch and send again what was
    there already (librdkafka does, seen once in a million messages). The broker takes that for another message, and
    so does xferq. What xferq itself puts into that queue is returned, and counted (`returned wrongly`).
    """
    item = message(number)
    if item.is_hopeless:
        return 1
    return max(1, sum(place[0] == item.source for place in history.places.get(number, [])))


def _judge_moves(history: History, number: int, there: Counter[int], claimed: Counter[int], verdict: Verdict) -> None:
    """Each claim of it has put it into one place, and has left one record in the log if it moved it there."""
    item = message(number)
    source, home = item.source, SOURCES + item.home
    if item.is_hopeless:
        expected = Counter({source: 1 + claimed[source]})
        verdict.totals["returned"] += claimed[source]
        moves: Counter[int] = Counter()
    else:
        moves = +Counter({home: claimed[source] + claimed[TRANSFERRED], TRANSFERRED: claimed[home]})
        expected = Counter({source: _origins(history, number)}) + moves
        verdict.totals["restored"] += moves[home]
        verdict.totals["transferred"] += moves[TRANSFERRED]
    if there != expected:
        verdict.say("moved wrongly", f"m{number} is in topics {dict(there)}, its claims make that {expected}", number)
    logged = Counter(history.logged.get(number, []))
    verdict.totals["AdminRebind records"] += logged.total()
    if logged != moves:
        verdict.say("logged wrongly", f"m{number} is logged as {dict(logged)}, it was moved {dict(moves)}", number)


def _judge_order(history: History, verdict: Verdict) -> None:
    """In each partition of a queue, what came from one partition of another stands in the order it had there.

    A message's places in its home are those of its restores, one after the other: the first came out of the
    queue that it was put into, the next ones out of the one that transfers bring it to; and the other way round.
    """
    moves: dict[tuple[int, int], list[tuple[int, int, int, int]]] = defaultdict(list)
    for number, places in history.places.items():
        item = message(number)
        if item.is_hopeless:
            continue
        home = SOURCES + item.home
        first = [place for place in places if place[0] == item.source]
        at_home = sorted(place for place in places if place[0] == home)
        away = sorted(place for place in places if place[0] == TRANSFERRED)
        for before, after in (*zip([*first, *away], at_home, strict=False), *zip(at_home, away, strict=False)):
            moves[after[:2]].append((after[2], *before))
    for (topic, partition), found in moves.items():
        found.sort()
        last: dict[tuple[int, int], int] = {}
        for offset, from_topic, from_partition, from_offset in found:
            verdict.totals["moves in order"] += 1
            if last.get((from_topic, from_partition), -1) > from_offset:
                verdict.say(
                    "order",
                    f"{(topic, partition, offset)} came from {(from_topic, from_partition, from_offset)}, behind "
                    f"{last[(from_topic, from_partition)]}",
                )
            last[(from_topic, from_partition)] = from_offset


# ---- dispatchers


def _judge_dispatchers(history: History, verdict: Verdict) -> None:
    """Twice is only what a member had polled before it learned that it was evicted.

    A batch that was committed while its membership was good is nobody else's to take; between the making of a
    claim and the claim's second look, a member that has joined unseen may still commit what it has sent.
    """
    doubled_by: Counter[tuple[str, int, int]] = Counter()
    for place, batches in history.sent.items():
        taken = history.claim_of(place)
        verdict.totals["sent by dispatchers, in all"] += len(batches)
        for batch in batches:
            if taken is not None:
                verdict.totals["sent by a dispatcher and restored as well"] += 1
                doubled_by[(batch.by, batch.membership, place[0])] += 1
                _judge_double(history, place, taken, batch, verdict)
        if len(batches) > 1:
            verdict.totals["sent twice by dispatchers"] += 1
            _judge_resent(place, batches, verdict)
    verdict.totals["most of one membership"] = max(doubled_by.values(), default=0)


def _judge_double(history: History, place: Place, taken: Range, batch: Batch, verdict: Verdict) -> None:
    claimed_at = _seconds(taken.claimed_at)
    confirmed_at = history.confirmed.get((place[0], taken.id), math.inf)
    verdict.totals["sent and restored, of a claim whose second look is not on record"] += confirmed_at == math.inf
    what = f"{place}, {batch}, {taken}, confirmed by {confirmed_at}"
    if batch.assigned_at > confirmed_at:
        verdict.say("dispatched after the claim", f"by one who came later: {what}")
    elif batch.committed_at is None:
        return
    elif batch.committed_at < claimed_at:
        verdict.say("claimed after it was dispatched", what)
    elif batch.committed_at > confirmed_at:
        verdict.say("dispatched after the claim", f"by one who was not evicted: {what}")
    else:
        verdict.totals["sent and restored, committed between claim and second look"] += 1


def _judge_resent(place: Place, batches: list[Batch], verdict: Verdict) -> None:
    for first in batches:
        for second in batches:
            if first.committed_at is not None and second.assigned_at > first.committed_at:
                verdict.say("dispatched again", f"{place}: {first}, then {second}")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
