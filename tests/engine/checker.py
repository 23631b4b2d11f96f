"""The invariants, read from committed records and offsets alone."""

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import orjson

from streams.domain.claim import Claim, Progress
from streams.domain.result import shown
from streams.domain.status import Status
from streams.domain.topic import is_queue_topic
from streams.domain.transitions import ENDED
from tests.engine.world import World
from tests.fakes.broker import FakeTopic


class Checker:
    """Looks at a world from outside."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.excused: set[str] = set()
        """Messages that may be gone: their topic was deleted while they were in it."""

    # ---- the ledger, without the engine's own view of it

    def _ledger(self, *, ever: bool = False) -> dict[str, bytes]:
        """By key, what was written last; with `ever`, also what was removed since."""
        values: dict[str, bytes] = {}
        for log in self._world.broker.topics[self._world.settings.ledger_topic].logs:
            for record in log.all_records():
                key = (record.key or b"").decode()
                if record.value is not None:
                    values[key] = record.value
                elif not ever:
                    values.pop(key, None)
        return values

    def claims(self, *, ever: bool = False) -> list[Claim]:
        """All claims; with `ever`, also those that are forgotten, as their commands have ended."""
        return [Claim.model_validate_json(v) for k, v in self._ledger(ever=ever).items() if k.startswith("claim/")]

    def claims_written(self) -> Counter[str]:
        """How often each claim was ever written, by key."""
        logs = self._world.broker.topics[self._world.settings.ledger_topic].logs
        keys = [(record.key or b"").decode() for log in logs for record in log.all_records() if record.value]
        return Counter(key for key in keys if key.startswith("claim/"))

    def _progress(self, *, ever: bool = False) -> dict[tuple[str, int, str], Progress]:
        found = {}
        for key, value in self._ledger(ever=ever).items():
            if key.startswith("drained/"):
                _, topic, partition, id = key.split("/")
                found[(topic, int(partition), id)] = Progress.model_validate_json(value)
        return found

    def _heads(self, topic: FakeTopic) -> dict[int, int]:
        heads = {}
        for partition, log in enumerate(topic.logs):
            value = self._ledger().get(f"head/{topic.name}/{partition}")
            head = orjson.loads(value) if value else {}
            claimed = head["offset"] if head.get("topic_id") == topic.id else 0
            group = self._world.broker.group(self._world.settings.group_of(topic.name))
            heads[partition] = max(claimed, group.offset(topic.name, partition) or 0, log.start)
        return heads

    # ---- places

    def _queue_topics(self) -> list[FakeTopic]:
        return [topic for name, topic in self._world.broker.topics.items() if is_queue_topic(name)]

    def _in(self, topic: FakeTopic) -> Iterable[str]:
        """The ids of messages that are in the queue, or claimed of it and not drained yet."""
        progress = self._progress()
        places = {
            (partition, head, log.end)
            for (partition, head), log in zip(self._heads(topic).items(), topic.logs, strict=True)
        }
        for claim in self.claims():
            if claim.topic == topic.name and claim.topic_id == topic.id:
                for partition, (start, end) in claim.ranges.items():
                    step = progress.get((claim.topic, partition, claim.id))
                    if step is None or not step.done:
                        places.add((partition, start if step is None else step.offset, end))
        for partition, start, end in sorted(places):
            for record in topic.logs[partition].decided(start, end):
                yield (record.key or b"").decode()

    def places(self) -> dict[str, list[str]]:
        """For each message, the topics that it is in."""
        found: dict[str, list[str]] = {id: [] for id in self._world.injected}
        for topic in self._queue_topics():
            for id in self._in(topic):
                found.setdefault(id, []).append(topic.name)
        return found

    def excuse(self, topic: FakeTopic) -> None:
        """The topic is about to be deleted: what is in it goes with it."""
        self.excused |= set(self._in(topic))

    # ---- invariants

    def check(self) -> None:
        """All of them."""
        assert self._world.problems == []
        self.each_message_is_in_one_place()
        self.one_log_record_per_move()
        self.each_claim_is_made_once()
        self.ranges_don_t_overlap()
        self.nothing_claimed_was_freed()
        self.nothing_claimed_is_dispatched()
        self.results_are_true()

    def results(self) -> dict[str, list[dict[str, Any] | None]]:
        """What was published of each command, in order; None where it was removed."""
        topic = self._world.broker.topics.get(self._world.settings.results_topic)
        found: dict[str, list[dict[str, Any] | None]] = {}
        for log in [] if topic is None else topic.logs:
            for record in log.all_records():
                value = None if record.value is None else orjson.loads(record.value)
                found.setdefault((record.key or b"").decode(), []).append(value)
        return found

    def results_are_true(self) -> None:
        """No end that is none, no late writer behind it, and no end that is never told."""
        ledger = self._ledger(ever=True)
        for id, values in self.results().items():
            told = [value for value in values if value is not None]
            assert [value["revision"] for value in told] == sorted(value["revision"] for value in told), values
            outcome = ledger.get(f"outcome/{id}")
            end = None if outcome is None else Status.model_validate_json(outcome)
            for value in told:
                assert value["id"] == id
                assert "command" not in value
                is_end = value["state"] in ENDED
                assert not is_end or (end is not None and value["state"] == end.state), (id, values)
            assert end is None or told[-1]["state"] == end.state, (id, values)
            if end is not None and end.type is not None:
                assert told[-1] == {**shown(end), "revision": told[-1]["revision"]}

    def each_message_is_in_one_place(self) -> None:
        """Exactly one; none where it was dispatched."""
        dispatched = {(got.key or b"").decode() for d in self._world.dispatchers for got in d.got}
        for id, topics in self.places().items():
            assert len(topics) <= 1, f"{id} is in {topics}"
            assert topics or id in dispatched or id in self.excused, f"{id} is lost"

    def one_log_record_per_move(self) -> None:
        """A message has been written once more than it was moved or returned, and logged once per move."""
        copies: Counter[tuple[str, str]] = Counter()
        for topic in [*self._queue_topics(), *self._world.broker.deleted]:
            for log in topic.logs:
                for record in log.all_records():
                    if record.key is not None:
                        copies[(record.key.decode(), topic.name)] += 1
        returned = sum(step.returned for step in self._progress(ever=True).values())
        logs = self._world.broker.topics[self._world.settings.log_topic].logs
        records = [record for log in logs for record in log.all_records()]
        for record in records:
            line = orjson.loads(record.value or b"")
            assert line["id"].encode() == record.key
            about = {name: (value or b"").decode() for name, value in record.headers}
            assert list(about) == ["type", "command_id", "kind", "source", "destination"]
            assert about["destination"] == line["queue"]
            assert line["response"]["content"].startswith(f"Rebound from {about['source']} to {about['destination']}: ")
        restored = sum(step.restored for step in self._progress(ever=True).values())
        assert len(records) == restored
        assert sum(copies.values()) == len(self._world.injected) + restored + returned

    def each_claim_is_made_once(self) -> None:
        """Of one queue by one command."""
        assert [key for key, times in self.claims_written().items() if times > 1] == []

    def ranges_don_t_overlap(self) -> None:
        """No offset of a topic is claimed twice."""
        seen: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
        for claim in self.claims():
            for partition, range_ in claim.ranges.items():
                seen.setdefault((claim.topic, claim.topic_id, partition), []).append(range_)
        for where, ranges in seen.items():
            ranges.sort()
            for (_, end), (start, _) in pairwise(ranges):
                assert end <= start, f"{where}: {ranges}"

    def nothing_claimed_was_freed(self, dispatched: Collection[bytes | None] = ()) -> None:
        """What an unfinished claim has yet to drain is still there, but for what was dispatched before.

        A claim takes that, too, where the group's offsets are gone just then.
        """
        progress = self._progress()
        for claim in self.claims():
            topic = self._world.broker.topics.get(claim.topic)
            if topic is not None and topic.id == claim.topic_id:
                for partition, (start, _) in claim.ranges.items():
                    step = progress.get((claim.topic, partition, claim.id))
                    if step is None or not step.done:
                        left = start if step is None else step.offset
                        log = topic.logs[partition]
                        freed = {record.key for record in log.decided(left, max(left, log.start))}
                        assert freed <= set(dispatched), f"{claim.topic}/{partition} is freed beyond {left}"

    def _acknowledged(self) -> dict[str, float]:
        """Commands, with when they were: then their claims hold. Not those that the ledger has kept, whose claims came
        later."""
        topic = self._world.broker.topics[self._world.settings.commands_topic]
        kept = {tuple(key.split("/")[2:4]) for key in self._ledger(ever=True) if key.startswith("pending/")}
        found: dict[str, float] = {}
        for (tp, offset), at in self._world.group.acked_at.items():
            if tp.topic == topic.name and (str(tp.partition), str(offset)) not in kept:
                (record,) = topic.logs[tp.partition].records(offset, offset + 1)
                with suppress(ValueError, KeyError, TypeError):
                    found.setdefault(orjson.loads(record.value or b"")["id"], at)
        return found

    def nothing_claimed_is_dispatched(self) -> None:
        """Once a claim holds, who learns where to begin begins beyond it."""
        acknowledged = self._acknowledged()
        for claim in self.claims():
            since = acknowledged.get(claim.id)
            if since is None or any(
                (claim.topic, claim.id) in worker.engine.claimer.confirmation.failed for worker in self._world.workers
            ):
                continue
            for dispatcher in self._world.dispatchers:
                for got in dispatcher.got:
                    if got.topic_id == claim.topic_id and got.learned_at > since:
                        _, end = claim.ranges.get(got.partition, (0, 0))
                        assert got.offset >= end, f"{got} was claimed up to {end} by {claim.id} at {since}"

    def heads_hold(self) -> None:
        """The group's offsets are at or beyond every claim, or nothing is left of what was claimed."""
        for claim in self.claims():
            topic = self._world.broker.topics.get(claim.topic)
            if topic is not None and topic.id == claim.topic_id:
                group = self._world.broker.group(claim.group)
                for partition, (_, end) in claim.ranges.items():
                    if topic.logs[partition].start >= end:
                        continue
                    offset = group.offset(claim.topic, partition)
                    assert offset is not None, f"{claim.topic}/{partition} has no offset"
                    assert offset >= end, f"{claim.topic}/{partition} is at {offset}, claimed up to {end}"

    def counts(self, id: str) -> tuple[int, int]:
        """How many records the command's claims took, and how many log records came of them."""
        records = 0
        for claim in self.claims(ever=True):
            if claim.id == id:
                for topic in [*self._queue_topics(), *self._world.broker.deleted]:
                    if topic.id == claim.topic_id:
                        for partition, (start, end) in claim.ranges.items():
                            records += sum(1 for _ in topic.logs[partition].decided(start, end))
        restored = sum(step.restored for (_, _, claim_id), step in self._progress(ever=True).items() if claim_id == id)
        return records, restored
