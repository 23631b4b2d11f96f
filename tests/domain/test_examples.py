"""Every case of the contract's examples."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.domain.envelope import dump_envelope, parse_envelope, restore
from streams.domain.log_record import rebind_record
from streams.domain.queue_name import is_xfer
from streams.domain.returned import NotRestorable, ReturnReason
from streams.domain.timestamp import parse_time
from streams.domain.topic import is_queue_topic, queue_of, topic_of

EXAMPLES = json.loads((Path(__file__).parent.parent / "contract" / "examples.json").read_text(encoding="utf-8"))
XFER_QUEUE: str = EXAMPLES["xfer_queue"]
CODES = {
    "no xfer_queue_info": ReturnReason.NO_SAVED_INFO,
    "recipient without a domain, and no queue": ReturnReason.UNRESOLVABLE_QUEUE,
}


def titled(group: str) -> Any:
    cases = EXAMPLES[group]
    return pytest.mark.parametrize("case", cases, ids=[case.get("title", case.get("queue", ""))[:40] for case in cases])


@titled("topics")
def test_topic(case: dict[str, str]) -> None:
    assert topic_of(case["queue"]) == case["topic"]
    assert queue_of(case["topic"]) == (None if "--" in case["topic"] else case["queue"])
    assert is_queue_topic(case["topic"])


@titled("restored")
def test_restored(case: dict[str, Any]) -> None:
    assert is_xfer(XFER_QUEUE)
    envelope = parse_envelope(orjson.dumps(case["before"]))
    restored = restore(envelope, now=parse_time(case["now"]), xfer_queue=XFER_QUEUE)
    assert restored.queue == case["queue"]
    assert json.loads(dump_envelope(restored.envelope)) == case["after"]
    record = rebind_record(
        id="id",
        envelope=restored.envelope,
        queue=restored.queue,
        from_queue=XFER_QUEUE,
        reason=EXAMPLES["reason"],
        size=1,
        now=parse_time(case["now"]),
        node_id="node",
    )
    assert json.loads(record)["response"]["content"] == case["log_content"]


@titled("returned")
def test_returned(case: dict[str, Any]) -> None:
    envelope = parse_envelope(orjson.dumps(case["envelope"]))
    with pytest.raises(NotRestorable) as refused:
        restore(envelope, now=parse_time("2026-11-24T10:00:00Z"), xfer_queue=XFER_QUEUE)
    assert refused.value.code == CODES.get(case["title"], ReturnReason.INVALID_SAVED_INFO)
    assert envelope == case["envelope"]
