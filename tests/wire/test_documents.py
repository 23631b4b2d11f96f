"""The documents in docs/ for other services say what xferq goes by; they are valid and complete."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from jsonschema.validators import validator_for

from streams.domain.claim import Kind
from streams.domain.log_record import rebind_headers
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.topic import TOPIC_PREFIX, topic_of
from streams.domain.trace import TRACEPARENT, TRACESTATE, parse_trace
from streams.kafka.layout import INTERNAL_CONFIG, read_layout
from streams.kafka.topics import QUEUE_CONFIG
from streams.settings.settings import Settings
from tests.domain.test_trace import parents
from tests.pages import ROOT
from tests.wire.schemas import DOCUMENTS, UNSAID, components, document, to_text

DEFAULTS: Settings = Settings.model_construct()
"""Whatever the environment says."""
OURS: dict[str, Any] = json.loads((ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8"))
"""Written by hand, but for the schemas."""
CHANNELS, MESSAGES = OURS["channels"], OURS["components"]["messages"]
ROLES = {"commands": "commands", "deliveryLog": "log", "results": "results", "queue": "queues"}
"""Of the topics' file, by channel."""
META_SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text())


def values_of(tree: object, wanted: str) -> Iterator[Any]:
    """All values with a certain key, anywhere."""
    if isinstance(tree, dict):
        yield from (value for key, value in tree.items() if key == wanted)
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from values_of(child, wanted)


def target_of(tree: Any, reference: str) -> Any:
    """What `#/a/b` stands for; KeyError where that is nothing."""
    head, *steps = reference.split("/")
    assert head == "#"
    for step in steps:
        tree = tree[step]
    return tree


def complaints(value: object) -> list[str]:
    """What AsyncAPI's own schema finds wrong."""
    return [error.message for error in validator_for(META_SCHEMA)(META_SCHEMA).iter_errors(value)]


def test_the_schemas_are_those_of_today() -> None:
    how = "run `python -m tests.wire.schemas`"
    for name in DOCUMENTS:
        written = (ROOT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8")
        assert written == to_text(document(name)), how
    assert {file.name for file in (ROOT / "docs" / "schemas").iterdir()} == {f"{name}.json" for name in DOCUMENTS}
    assert OURS["components"]["schemas"] == components(), how


def payload(message: str) -> str:
    """The name of the schema of a message's value."""
    return str(MESSAGES[message]["payload"]["$ref"]).removeprefix("#/components/schemas/")


def messages_of(channel: str) -> list[str]:
    """The messages of a channel, each referred to by its own name."""
    found = CHANNELS[channel]["messages"]
    assert found == {name: {"$ref": f"#/components/messages/{name}"} for name in found}
    return list(found)


def test_the_messages_of_a_topic_are_what_xferq_reads_and_writes_there() -> None:
    assert [payload(message) for message in messages_of("commands")] == list(DOCUMENTS["command"])
    assert [payload(message) for message in messages_of("deliveryLog")] == list(DOCUMENTS["log-record"])
    assert [payload(message) for message in messages_of("results")] == list(DOCUMENTS["result"])
    assert messages_of("queue") == ["message"]
    assert sorted(MESSAGES) == sorted(message for channel in CHANNELS for message in messages_of(channel))
    for name, (channel, action) in {
        "carryOut": ("commands", "receive"),
        "log": ("deliveryLog", "send"),
        "tell": ("results", "send"),
        "take": ("queue", "receive"),
        "put": ("queue", "send"),
    }.items():
        operation = OURS["operations"][name]
        assert (operation["action"], operation["channel"]) == (action, {"$ref": f"#/channels/{channel}"})
        wanted = [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages_of(channel)]
        assert operation["messages"] == wanted


def test_each_message_has_a_key_that_is_text() -> None:
    for message in MESSAGES.values():
        assert message["bindings"]["kafka"]["key"]["type"] == "string"
        assert message["bindings"]["kafka"]["key"]["description"]


def test_the_headers_are_those_that_xferq_reads_and_writes() -> None:
    for message in messages_of("commands"):
        assert MESSAGES[message]["headers"]["properties"].keys() == {TRACEPARENT, TRACESTATE}
        assert "required" not in MESSAGES[message]["headers"]
    rebind, message = MESSAGES["rebind"]["headers"], MESSAGES["message"]["headers"]
    written = [name for name, _ in rebind_headers("c", "xfer.cancel", "a.example", "b.example")]
    assert list(rebind["properties"]) == rebind["required"] == written
    assert rebind["properties"]["kind"]["enum"] == list(get_args(Kind))
    assert (message["properties"].keys(), message["required"]) == ({"envelope"}, ["envelope"])
    assert message["properties"]["envelope"]["contentSchema"] == {"$ref": "#/components/schemas/Envelope"}


@given(parents)
def test_a_trace_that_xferq_takes_is_as_described(parent: str) -> None:
    for message in messages_of("commands"):
        pattern = MESSAGES[message]["headers"]["properties"][TRACEPARENT]["pattern"]
        assert re.search(pattern, parent) or not parse_trace(parent)


def test_the_asyncapi_document_is_valid() -> None:
    assert validator_for(META_SCHEMA) is jsonschema.Draft7Validator
    assert complaints(OURS) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"asyncapi": "2.6.0"},
        {"channels": {"commands": {"address": 5}}},
        {"channels": {"commands": {"bindings": {"kafka": {"partitions": 0, "bindingVersion": "0.5.0"}}}}},
        {"operations": {"carryOut": {"action": "eat", "channel": {"$ref": "#/channels/commands"}}}},
        {"components": {"schemas": {"Envelope": {"type": "thing"}}}},
    ],
)
def test_a_broken_one_is_not(broken: dict[str, Any]) -> None:
    assert complaints(OURS | broken)


@pytest.mark.parametrize("tree", [OURS, *map(document, DOCUMENTS)], ids=["asyncapi", *DOCUMENTS])
def test_every_reference_leads_somewhere(tree: dict[str, Any]) -> None:
    references = list(values_of(tree, "$ref"))
    assert references
    for reference in references:
        assert target_of(tree, reference), reference


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_schemas_are_valid(name: str) -> None:
    schema = document(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft7Validator.check_schema(schema)  # as part of the AsyncAPI document
    with pytest.raises(jsonschema.SchemaError):
        jsonschema.Draft202012Validator.check_schema(schema | {"oneOf": "nothing"})


def test_no_schema_has_words_that_draft_7_does_not_know() -> None:
    keys = {"dependentRequired", "dependentSchemas", "unevaluatedProperties", "prefixItems", "$anchor", "minContains"}
    for key in keys:
        assert list(values_of(OURS["components"]["schemas"], key)) == []


def test_a_reference_stands_alone() -> None:
    # In draft 7, whatever stands beside it is not looked at.
    def alone(tree: object) -> bool:
        if isinstance(tree, dict):
            return ("$ref" not in tree or len(tree) == 1) and all(map(alone, tree.values()))
        return all(map(alone, tree)) if isinstance(tree, list) else True

    assert alone(OURS)


def test_what_can_t_be_said_is_told() -> None:
    for name, texts in UNSAID.items():
        assert texts
        for text in texts:
            assert text in document(name)["$comment"]
            assert text in to_text(OURS).replace('\\"', '"')


def test_the_topics_are_those_of_the_settings() -> None:
    assert {name: channel["address"] for name, channel in CHANNELS.items()} == {
        "commands": DEFAULTS.commands_topic,
        "deliveryLog": DEFAULTS.log_topic,
        "results": DEFAULTS.results_topic,
        "queue": f"{TOPIC_PREFIX}{{name}}",
    }
    assert {name: channel["bindings"]["kafka"]["partitions"] for name, channel in CHANNELS.items()} == {
        "commands": DEFAULTS.commands_partitions,
        "deliveryLog": DEFAULTS.log_partitions,
        "results": DEFAULTS.results_partitions,
        "queue": DEFAULTS.queue_partitions,
    }
    group = DEFAULTS.group_template.replace("{topic}", f"{TOPIC_PREFIX}{{name}}")
    assert f"`{group}`" in CHANNELS["queue"]["description"]
    queues = ("mytenant@mail.example", f"http://mx2.example.com/{XFER_SUFFIX}")
    examples = [topic_of(queue).removeprefix(TOPIC_PREFIX) for queue in queues]
    assert CHANNELS["queue"]["parameters"]["name"]["examples"] == examples


def test_the_retention_is_that_of_the_topics() -> None:
    applied = read_layout(ROOT / "deploy" / "topics.toml").config
    for channel, role in ROLES.items():
        said = {
            name: ",".join(value) if isinstance(value, list) else json.dumps(value).strip('"')
            for name, value in CHANNELS[channel]["bindings"]["kafka"]["topicConfiguration"].items()
        }
        assert said == (QUEUE_CONFIG if role == "queues" else INTERNAL_CONFIG[role])
        assert said.items() <= applied[role].items()


def test_internal_topics_are_not_public() -> None:
    text = to_text(OURS)
    assert DEFAULTS.commands_topic in text
    assert DEFAULTS.drains_topic not in text
    assert DEFAULTS.ledger_topic not in text
