"""What real encoders write is moved by the compiled drain: Python's, Go's, Jackson, serde_json and orjson."""

import json
from pathlib import Path

import orjson
import pytest

from streams.domain.claim import Claim
from tests.fakes.log import FakeRecord
from tests.native.compared import CLAIMS, in_python, require_same_moves
from tests.native.corpus.generate import values
from tests.native.extension import needs_native

pytestmark = needs_native
FILES = sorted((Path(__file__).parent / "corpus").glob("*.jsonl"))
CORPORA = {file.stem: file.read_bytes().splitlines() for file in FILES} | {
    "python, fresh": [json.dumps(value).encode() for value in values(1_000, seed=2)],
    "python, UTF-8, indented": [json.dumps(value, ensure_ascii=False, indent=1).encode() for value in values(500, 3)],
    "orjson, fresh": [orjson.dumps(value) for value in values(1_000, seed=4)],
}


def test_every_encoder_has_a_file() -> None:
    assert [file.stem for file in FILES] == ["go", "jackson", "orjson", "python", "serde"]
    assert {len(CORPORA[file.stem]) for file in FILES} == {200}


@pytest.mark.parametrize("claim", CLAIMS[:2], ids=lambda claim: claim.kind)
@pytest.mark.parametrize("raws", CORPORA.values(), ids=CORPORA)
def test_nearly_all_of_it_is_moved_natively(raws: list[bytes], claim: Claim) -> None:
    before = sum(in_python().values())
    records = [
        FakeRecord(1, offset, 1_700_000_000_000, b"%d" % offset, b"body", (("envelope", raw),))
        for offset, raw in enumerate(raws)
    ]
    known_topics_only = require_same_moves(records, claim, {})
    left = sum(in_python().values()) - before
    assert left <= len(raws) / 1000
    assert known_topics_only > len(raws) / 2
