"""What docs/runbook.md says is told by xferq is told by it, word for word; each entry has all its parts."""

import re
from functools import cache

import pytest
from prometheus_client.metrics import MetricWrapperBase

from streams.settings.settings import Settings
from streams.telemetry import metrics
from tests.pages import ROOT, sections
from tests.runbook.installation import RUNBOOK

ENTRIES = (
    "a-drain-stands-still",
    "a-transaction-hangs",
    "group-offsets-expired-or-rewound",
    "a-fenced-worker",
    "a-command-waits-and-is-not-wanted-any-more",
    "a-lost-topic",
    "upgrade-and-roll-back",
    "moving-to-other-topics",
    "sizing",
    "backup-of-the-ledger",
    "before-kafka-maintenance",
)
WITHOUT_AN_END = {"sizing"}
TEXT = RUNBOOK.read_text(encoding="utf-8")


@cache
def sources() -> str:
    return "\n".join(
        path.read_text(encoding="utf-8") for part in ("streams", "api") for path in (ROOT / part).rglob("*.py")
    )


def test_the_entries() -> None:
    assert tuple(sections(RUNBOOK)) == ENTRIES


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_has_all_its_parts(entry: str) -> None:
    text = sections(RUNBOOK)[entry]
    parts = ["**Don't", "Tried by `tests/runbook/"] + ["**Over"] * (entry not in WITHOUT_AN_END)
    for part in parts:
        assert part in text, part


def test_links_within_the_page() -> None:
    linked = re.findall(r"\]\(#([\w-]+)\)", TEXT)
    assert linked
    assert set(linked) <= set(ENTRIES)


def test_metrics_that_are_named_exist() -> None:
    collectors = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    known = {f"{collector._name}{suffix}" for collector in collectors for suffix in ("", "_total")}
    named = set(re.findall(r"(?<![\w/])xferq_[a-z_]+[a-z]", TEXT))
    assert len(named) > 5
    for name in named:
        assert name in known, name


def test_events_that_are_named_exist() -> None:
    named = set(re.findall(r"`((?:drain|claim|command|worker|maintenance|ledger|api)\.[a-z_]+)", TEXT))
    assert len(named) > 8
    for event in named:
        assert f'"{event}' in sources(), event


@pytest.mark.parametrize(
    "words",
    [
        "would unpack to",
        "more than a worker may hold",
        "a transaction is open",
        "can't be read to its end",
        "Kafka does not permit",
        "truncated",
        "nothing comes",
        "no answer",
        "can't be reached",
        "another producer took over, or the transaction timed out",
        "to be withdrawn, at its turn",
        "it was withdrawn",
        "does not exist: create it with",
        "messages were lost in Kafka before they were drained",
        "can't get on",
    ],
)
def test_what_is_quoted_is_said(words: str) -> None:
    assert words in sources()


def test_settings_that_are_named_exist() -> None:
    for name in re.findall(r"XFERQ_[A-Z]+(?:_[A-Z]+)*", TEXT):
        assert name.removeprefix("XFERQ_").lower() in Settings.model_fields, name
