"""The documents in docs/ for other services: those of today, valid, complete."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema.validators import validator_for

from streams.domain.schema import DOCUMENTS, UNSAID, document
from streams.kafka.layout import INTERNAL_CONFIG
from streams.kafka.topics import QUEUE_CONFIG
from streams.ops.asyncapi import asyncapi, documents, to_text
from streams.settings.settings import Settings
from tests.pages import ROOT
from tests.support.patience import WAIT_S

DEFAULTS: Settings = Settings.model_construct()
"""Whatever the environment says."""
OURS = asyncapi(DEFAULTS)
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


def test_they_are_those_of_today() -> None:
    for path, value in documents(DEFAULTS).items():
        written = (ROOT / "docs" / path).read_text(encoding="utf-8")
        assert written == to_text(value), "run `python -m streams.ops.asyncapi docs`"
    assert {file.name for file in (ROOT / "docs" / "schemas").iterdir()} == {f"{name}.json" for name in DOCUMENTS}


def test_the_command_writes_them_with_the_names_of_the_settings(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XFERQ_")}
    command = [sys.executable, "-m", "streams.ops.asyncapi", str(tmp_path / "a" / "b")]
    subprocess.run(command, check=True, env=environment | {"XFERQ_LOG_TOPIC": "elsewhere"}, cwd=ROOT, timeout=WAIT_S)
    expected = documents(Settings.model_construct(log_topic="elsewhere"))
    for path, value in expected.items():
        assert json.loads((tmp_path / "a" / "b" / path).read_text()) == value
    assert expected["asyncapi.json"] != OURS


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
    settings = Settings.model_construct(commands_topic="c", log_topic="l", group_template="g.{topic}", log_partitions=3)
    channels = asyncapi(settings)["channels"]
    assert [channel["address"] for channel in channels.values()] == ["c", "l", "queue.{name}"]
    assert channels["deliveryLog"]["bindings"]["kafka"]["partitions"] == 3
    assert "`g.queue.{name}`" in channels["queue"]["description"]


def test_the_retention_is_that_of_the_topics() -> None:
    roles = {"commands": INTERNAL_CONFIG["commands"], "deliveryLog": INTERNAL_CONFIG["log"], "queue": QUEUE_CONFIG}
    for channel, config in roles.items():
        said = OURS["channels"][channel]["bindings"]["kafka"]["topicConfiguration"]
        assert said["cleanup.policy"] == [config["cleanup.policy"]]
        assert said["retention.ms"] == int(config["retention.ms"])
        assert said.keys() == config.keys()


def test_internal_topics_are_not_public() -> None:
    text = to_text(OURS)
    assert DEFAULTS.commands_topic in text
    assert DEFAULTS.drains_topic not in text
    assert DEFAULTS.ledger_topic not in text
