"""The demo's account: right for a good run, and wrong for every way in which one can go bad."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from api.demo.tally import tally
from tests.demo.run_of import CLAIMED, EVICTED, FINISHED, Run, good_run, with_envelope

COUNT = 60


def test_a_good_run_is_all_right() -> None:
    result = tally(good_run(COUNT).evidence())
    assert result.problems == []
    assert result.total(lambda row: row.put_in) == COUNT
    assert result.total(lambda row: row.transferred) == COUNT
    # 4 partitions: 5 dispatched of each, of which 2 come twice; 3 were polled and not committed.
    assert result.total(lambda row: row.dispatched) == 20
    assert result.total(lambda row: row.back) == COUNT - 12
    assert result.total(lambda row: row.doubled) == 8
    assert (result.bound_at_claim, result.bound_after) == (4, 8)
    assert result.total(lambda row: row.lost) == 0
    assert result.total(lambda row: row.changed) == 0
    assert result.total(lambda row: row.logged_transfers) == COUNT
    assert result.total(lambda row: row.logged_cancels) == COUNT - 12


def first_queue(run: Run) -> str:
    return next(queue for queue, records in run.back.items() if records)


def lose_one(run: Run) -> None:
    del run.back[first_queue(run)][-1]


def restore_twice(run: Run) -> None:
    queue = first_queue(run)
    run.back[queue].append(replace(run.back[queue][-1], offset=10_000))


def restore_what_was_committed(run: Run) -> None:
    committed = next(polled for polled in run.books[0].polled if polled.committed_at is not None)
    moved = next(record for record in run.transferred if record.key == committed.key)
    mail = next(mail for mail in run.mails if mail.id == committed.key)
    run.back[mail.queue].append(replace(moved, offset=10_000))


def dispatch_after_the_eviction(run: Run) -> None:
    back = run.back[first_queue(run)][-1]
    polled = replace(run.books[0].polled[-1], key=back.key)
    polled.polled_at = EVICTED.timestamp() + 1
    polled.sent_at = polled.polled_at
    run.books[0] = replace(run.books[0], polled=[*run.books[0].polled, polled])


def commit_after_the_eviction(run: Run) -> None:
    """A member that has joined again commits what it had polled before: that does not make it dispatched only once."""
    polled = next(polled for polled in run.books[0].polled if polled.committed_at is None)
    polled.committed_at = EVICTED.timestamp() + 1


def never_evict(run: Run) -> None:
    run.books[1] = replace(run.books[1], evicted_at=None)


def leave_behind(run: Run) -> None:
    queue = first_queue(run)
    run.left[queue] = [run.put_in[queue][0]]


def leave_in_the_xfer_queue(run: Run) -> None:
    run.remaining.append(run.transferred[-1])


def forget_to_transfer(run: Run) -> None:
    del run.transferred[-1]


def transfer_twice(run: Run) -> None:
    run.transferred.append(replace(run.transferred[-1], offset=10_000))


def lose_at_the_start(run: Run) -> None:
    del run.put_in[first_queue(run)][0]


def stray(run: Run) -> None:
    first, second = [queue for queue, records in run.back.items() if records][:2]
    run.back[second].append(run.back[first].pop())


def overtake(run: Run) -> None:
    run.transferred = [replace(record, partition=0, offset=index) for index, record in enumerate(run.transferred)]
    records = run.back[first_queue(run)]
    run.back[first_queue(run)] = [replace(record, partition=0) for record in reversed(records)]


def change_back(**changes: object) -> Callable[[Run], None]:
    def spoil(run: Run) -> None:
        records = run.back[first_queue(run)]
        records[-1] = replace(records[-1], **changes)  # type: ignore[arg-type]

    return spoil


def change_envelope(**changes: object) -> Callable[[Run], None]:
    def spoil(run: Run) -> None:
        records = run.back[first_queue(run)]
        records[-1] = with_envelope(records[-1], **changes)

    return spoil


def change_a_byte(run: Run) -> None:
    records = run.back[first_queue(run)]
    value = bytearray(records[-1].value or b"")
    value[-1] ^= 1
    records[-1] = replace(records[-1], value=bytes(value))


def swap_headers(run: Run) -> None:
    records = run.back[first_queue(run)]
    records[-1] = replace(records[-1], headers=records[-1].headers[::-1])


def repeat_the_envelope(run: Run) -> None:
    records = run.back[first_queue(run)]
    records[-1] = replace(records[-1], headers=(*records[-1].headers, ("envelope", b"{}")))


def change_a_byte_on_the_way_there(run: Run) -> None:
    run.transferred[0] = replace(run.transferred[0], value=b"")


def forget_the_saved_info(run: Run) -> None:
    run.transferred[0] = with_envelope(run.transferred[0], meta={"queue": "x"})


def change_one_metadata(run: Run) -> None:
    records = run.back[first_queue(run)]
    envelope = json.loads(dict(records[-1].headers)["envelope"] or b"")
    envelope["meta"]["reception_protocol"] = "LMTP"
    records[-1] = with_envelope(records[-1], meta=envelope["meta"])


def unlog(content: bytes) -> Callable[[Run], None]:
    def spoil(run: Run) -> None:
        index = next(index for index, record in enumerate(run.log) if content in (record.value or b""))
        del run.log[index]

    return spoil


def log_twice(run: Run) -> None:
    run.log.append(replace(run.log[-1], offset=10_000))


def relog(old: bytes, new: bytes) -> Callable[[Run], None]:
    def spoil(run: Run) -> None:
        value = run.log[-1].value or b""
        assert old in value
        run.log[-1] = replace(run.log[-1], value=value.replace(old, new))

    return spoil


def log_under_another_key(run: Run) -> None:
    run.log[-1] = replace(run.log[-1], key=b"nobody")


def log_without_type(run: Run) -> None:
    run.log[-1] = replace(run.log[-1], headers=())


def log_what_did_not_happen(run: Run) -> None:
    committed = next(polled for polled in run.books[0].polled if polled.committed_at is not None)
    restored = next(record for record in run.log if b"test of a cancel" in (record.value or b""))
    mail = next(mail for mail in run.mails if mail.id == committed.key)
    there = next(record for record in run.log if record.key == mail.id)
    line = json.loads(there.value or b"")
    response = json.loads(restored.value or b"")["response"]
    xfer = line["queue"]
    line |= {
        "queue": mail.queue,
        "response": {**response, "content": f"Rebound from {xfer} to {mail.queue}: test of a cancel"},
    }
    run.log.append(replace(there, offset=10_000, value=json.dumps(line).encode()))


def miscount(run: Run) -> None:
    assert run.cancel is not None
    run.cancel = replace(run.cancel, total=run.cancel.total + 1)


def miscount_the_returned(run: Run) -> None:
    assert run.cancel is not None
    run.cancel = replace(run.cancel, returned=1, restored=run.cancel.restored - 1)


def never_dispatch_again(run: Run) -> None:
    run.late = frozenset({b"late"})


WAYS: list[tuple[Callable[[Run], None], str]] = [
    (lose_one, "1 messages are lost"),
    (restore_twice, "1 messages were restored more than once"),
    (restore_what_was_committed, "1 messages were dispatched and restored beyond the bound"),
    (dispatch_after_the_eviction, "1 messages were dispatched and restored beyond the bound"),
    (never_evict, "dispatcher 2 was never told"),
    (leave_behind, "1 messages stayed in their scheduled queues"),
    (leave_in_the_xfer_queue, "1 messages stayed in the xfer queue"),
    (forget_to_transfer, "1 messages are missing of those transferred"),
    (transfer_twice, "1 messages were transferred more than once"),
    (lose_at_the_start, "1 messages are missing of those put in"),
    (stray, "1 messages came back to another queue"),
    (overtake, "messages overtook others"),
    (change_a_byte, "1 messages back have other bytes"),
    (change_back(timestamp=1), "1 messages back have other bytes"),
    (swap_headers, "1 messages back have other bytes"),
    (repeat_the_envelope, "it has 2 envelopes"),
    (change_back(key=b"nobody"), "1 messages came back that never went in"),
    (change_a_byte_on_the_way_there, "1 messages transferred have other bytes"),
    (forget_the_saved_info, "1 messages transferred have a wrong envelope"),
    (change_envelope(num_attempts=3), "1 messages back have a wrong envelope"),
    (change_envelope(schedule={"expires": "3001-12-31T00:00:00Z"}), "1 messages back have a wrong envelope"),
    (change_envelope(added=1), "it has added, which it had not"),
    (change_envelope(due=None), "its due is None"),
    (change_envelope(due="2026-11-24T09:59:59Z"), "lies before the cancel"),
    (change_envelope(due="2026-11-25T10:00:00Z"), "is later than its schedule"),
    (change_one_metadata, "its reception_protocol is 'LMTP', not 'ESMTP'"),
    (unlog(b"test of a transfer"), "1 moves by the transfer are not in the log"),
    (unlog(b"test of a cancel"), "1 moves by the cancel are not in the log"),
    (log_twice, "1 moves by the cancel are in the log more than once"),
    (log_what_did_not_happen, "1 moves by the cancel are in the log but did not happen"),
    (relog(b"test of a cancel", b"another reason"), "1 log records are wrong"),
    (relog(b'"code":250', b'"code":550'), "1 log records are wrong"),
    (relog(b'"AdminRebind"', b'"Delivery"'), "1 log records are wrong"),
    (log_under_another_key, "1 log records are wrong"),
    (log_without_type, "1 log records are wrong"),
    (miscount, "the status of the cancel says total"),
    (miscount_the_returned, "the status of the cancel says total"),
    (never_dispatch_again, "1 messages that came after the cancel were not dispatched"),
]


@pytest.mark.parametrize(("spoil", "complaint"), WAYS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_went_wrong_is_said(spoil: Callable[[Run], None], complaint: str) -> None:
    run = good_run(COUNT)
    spoil(run)
    assert [problem for problem in tally(run.evidence()).problems if complaint in problem]


def test_what_comes_after_the_cancel_is_neither_doubled_nor_left_over() -> None:
    run = good_run(COUNT)
    polled = replace(run.books[0].polled[-1], key=b"late", polled_at=FINISHED.timestamp(), sent_at=FINISHED.timestamp())
    run.books[0] = replace(run.books[0], polled=[*run.books[0].polled, polled])
    run.remaining.append(replace(run.transferred[-1], key=b"late"))
    run.late = frozenset({b"late"})
    result = tally(run.evidence())
    assert result.problems == []
    assert result.bound == 12


def test_a_commit_after_the_eviction_makes_nothing_worse() -> None:
    run = good_run(COUNT)
    commit_after_the_eviction(run)
    result = tally(run.evidence())
    assert result.problems == []
    assert result.bound == 12


def test_an_empty_claim_evicts_nobody() -> None:
    """Where dispatchers were through with all of it, there is nothing to take and nobody to keep away."""
    run = good_run(8)
    before = CLAIMED - timedelta(seconds=1)
    for book in run.books:
        for polled in book.polled:
            polled.sent_at = polled.committed_at = before.timestamp()
    run.books = [replace(book, evicted_at=None) for book in run.books]
    assert run.cancel is not None
    run.cancel = replace(run.cancel, total=0, restored=0)
    assert tally(run.evidence()).problems == []
