"""What earlier versions read in a record that is no command any more."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.command import TYPES, InvalidCommand, parse_command
from streams.domain.earlier_command import earlier_command

from .strategies import json_values, texts

CANCEL = {"type": "xfer.cancel", "queue_name": "http://b.example/.xfer.kumomta.internal", "reason": "why"}
START = {"type": "xfer.start", "target": "http://b.example/", "reason": "why", "tenant": "t"}


@given(
    st.sampled_from([CANCEL, START]),
    st.dictionaries(texts.map(lambda name: f"?{name}"), json_values | texts, max_size=3),
)
def test_fields_that_are_not_known_are_passed_over(command: dict[str, str], more: dict[str, object]) -> None:
    found = earlier_command(orjson.dumps(command | more), "c")
    assert found == parse_command(orjson.dumps(command), fallback_id="c")


def test_an_empty_list_of_queues_was_a_list() -> None:
    found = earlier_command(orjson.dumps(START | {"queue_names": [], "id": "own"}), "own")
    assert found is not None
    assert found.content() == orjson.dumps(START | {"queue_names": []}, option=orjson.OPT_SORT_KEYS).decode()


def test_of_two_fields_the_last_one_counted() -> None:
    value = orjson.dumps(CANCEL)[:-1] + b', "reason": "because"}'
    with pytest.raises(InvalidCommand, match="reason is there twice"):
        parse_command(value, fallback_id="c")
    assert earlier_command(value, "c") == parse_command(orjson.dumps(CANCEL | {"reason": "because"}), fallback_id="c")


@given(st.none() | st.binary() | json_values.map(orjson.dumps) | st.sampled_from([b'{"type": []}', b'{"type": "x"}']))
def test_whatever_it_is(value: bytes | None) -> None:
    found = earlier_command(value, "c")
    assert found is None or type(found) in TYPES.values()
