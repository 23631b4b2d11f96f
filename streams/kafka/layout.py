"""The topics that xferq needs, with their settings: creates them, compares them, puts right what differs."""

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streams.domain.ledger_partitions import ledger_width, wrong_width
from streams.domain.topic import is_queue_topic
from streams.errors import Misconfigured, Refused, Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.connection import Connection
from streams.kafka.topics import CLEAN_ELECTIONS, KEEPS_ALL, QUEUE_CONFIG, Topics
from streams.kafka.unsafe_queues import is_same
from streams.kafka.widen_ledger import widen_ledger
from streams.lookup import find_topic
from streams.settings.settings import Settings

Outcome = Literal["ok", "created", "changed", "missing", "drift", "failed"]
GOOD: frozenset[str] = frozenset({"ok", "created", "changed"})
_DAY_MS = 24 * 60 * 60 * 1000
_log = logging.getLogger(__name__)

# The broker's time: Kafka turns down a record that claims to be from an hour ahead, and with a clock that is wrong
# a worker would get nowhere.
_OF_THE_BROKER = {"message.timestamp.type": "LogAppendTime"}

INTERNAL_CONFIG: Mapping[str, Mapping[str, str]] = {
    # As long as the status of finished commands is kept.
    # Far shorter than XFERQ_KEEP_COMMANDS_DAYS: a command that comes again, should the workers' offsets be lost,
    # must find the status that says that it was carried out.
    "commands": {
        "cleanup.policy": "delete",
        "retention.ms": str(7 * _DAY_MS),
        "segment.ms": str(_DAY_MS),
        **CLEAN_ELECTIONS,
        **_OF_THE_BROKER,
    },
    # Tasks are nudges: the ledger knows what there is to do.
    "drains": {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS), **_OF_THE_BROKER},
    # Small segments, because the one that is written to is never compacted and every start reads it all.
    "ledger": {
        "cleanup.policy": "compact",
        "segment.bytes": str(64 << 20),
        "min.cleanable.dirty.ratio": "0.2",
        **CLEAN_ELECTIONS,
        **_OF_THE_BROKER,
    },
    "log": {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS), **CLEAN_ELECTIONS, **_OF_THE_BROKER},
    "results": {"cleanup.policy": "compact", **CLEAN_ELECTIONS, **_OF_THE_BROKER},
}
"""Settings by role; a layout file adds to them and may overrule what is not in `_FIXED`."""

_FIXED: Mapping[str, Mapping[str, str]] = {
    "commands": {"cleanup.policy": "delete"},
    "drains": {"cleanup.policy": "delete"},
    "ledger": {"cleanup.policy": "compact", **CLEAN_ELECTIONS},
    "log": {"cleanup.policy": "delete"},
    "results": {},
    "queues": {**KEEPS_ALL, **CLEAN_ELECTIONS},
}
"""What the guarantees rest on: a layout file that says otherwise is refused."""


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What was found about one topic and done about it; `details` are sentences for people."""

    topic: str
    outcome: Outcome
    details: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether the topic is now as it should be."""
        return self.outcome in GOOD


@dataclass(frozen=True, slots=True)
class Layout:
    """What every topic should be like; `config` by role: commands, drains, ledger, log, results, queues."""

    config: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {**INTERNAL_CONFIG, "queues": QUEUE_CONFIG})


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    setting: str
    count: int
    """What the setting says."""
    is_exact: bool
    config: Mapping[str, str]

    @property
    def partitions(self) -> int:
        return ledger_width(self.count) if self.setting == "LEDGER" else self.count


def read_layout(path: Path) -> Layout:
    """The layout in a TOML file: one table per role, Kafka's topic settings in it.

    Raises:
        Misconfigured: it can't be read, or asks for what would break a guarantee.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: not valid TOML: {error}") from error
    config = {role: dict(values) for role, values in Layout().config.items()}
    for role, table in tables.items():
        if role not in config or not isinstance(table, dict):
            raise Misconfigured(f"{path}: [{role}] is none of {', '.join(f'[{known}]' for known in config)}")
        for key, value in table.items():
            text = _as_text(value)
            if text is None:
                hint = f' (a key with dots needs quotes: "{key}...")' if isinstance(value, dict) else ""
                raise Misconfigured(f"{path}: [{role}] {key} is not a string, number or boolean{hint}")
            fixed = _FIXED[role].get(key, text)
            if fixed != text:
                raise Misconfigured(f"{path}: [{role}] {key} must be {fixed}, or messages or records could be lost")
            config[role][key] = text
    return Layout(config)


async def apply_layout(
    connection: Connection, settings: Settings, layout: Layout | None = None, *, check: bool = False
) -> list[TopicReport]:
    """Create the internal topics that are missing, and give all topics, queues included, their settings.

    Args:
        layout: None for what stands in this module.
        check: only look.

    Raises:
        Unavailable: Kafka is away. What was done until then stays done; doing it again does no harm.
    """
    layout = layout or Layout()
    topics = Topics(connection)
    names = set(await topics.names())
    reports: list[TopicReport] = []
    internal = _internal(settings, layout)
    missing = [wanted for wanted in internal if wanted.name not in names]
    for wanted in missing:
        reports.append(
            TopicReport(wanted.name, "missing") if check else await _create(topics, wanted, settings.replication_factor)
        )
    present = [wanted for wanted in internal if wanted.name in names]
    widened = not check and await widen_ledger(connection, settings)
    queues = [
        _Wanted(name, "QUEUE", 0, False, layout.config["queues"]) for name in sorted(names) if is_queue_topic(name)
    ]
    configs = await topics.configs([wanted.name for wanted in [*present, *queues]])
    for wanted in [*present, *queues]:
        report = await _compare(topics, wanted, configs.get(wanted.name), check=check)
        if widened and report.is_good and wanted.setting == "LEDGER":
            details = (f"{wanted.partitions} partitions, instead of {settings.ledger_partitions}", *report.details)
            report = TopicReport(wanted.name, "changed", details)
        reports.append(report)
    return reports


async def require_topics(kafka: Cluster, settings: Settings) -> None:
    """See that the internal topics are there, with what the settings say and the guarantees rest on.

    Where Kafka does not let us look at topics' settings, it stays with the partition counts.

    Raises:
        Misconfigured: one is missing, has another number of partitions, or would lose records.
        Unavailable: Kafka does not answer.
    """
    internal = _internal(settings, Layout())
    for wanted in internal:
        topic = await find_topic(kafka, wanted.name)
        if topic is None and wanted.setting == "RESULTS":
            continue  # the workers work without, and warn
        if topic is None:
            raise Misconfigured(
                f"topic {wanted.name} (XFERQ_{wanted.setting}_TOPIC) does not exist: create it with `xferq topics`"
            )
        if wanted.is_exact and topic.partitions != wanted.partitions:
            raise Misconfigured(_wrong_count(wanted, topic.partitions))
    await require_sound(kafka.connection, settings)


async def require_sound(connection: Connection, settings: Settings) -> None:
    """See that those internal topics that are there have the settings that the guarantees rest on.

    Raises:
        Misconfigured: one would lose records.
        Unavailable: Kafka does not answer.
    """
    for wanted in _internal(settings, Layout()):
        try:
            configs = await Topics(connection).configs([wanted.name])
        except Refused as error:
            _log.info("topics.unchecked topic=%s error=%s", wanted.name, error)
            continue
        _require_sound(wanted, configs.get(wanted.name, {}))


def _require_sound(wanted: _Wanted, config: Mapping[str, str]) -> None:
    """What Kafka does not tell counts as right."""
    for key, value in _FIXED[wanted.setting.lower()].items():
        if key in config and not is_same(config[key], value):
            raise Misconfigured(
                f"topic {wanted.name} (XFERQ_{wanted.setting}_TOPIC): {key} is {config.get(key)}, must be {value}, or "
                "records would be lost: `xferq topics` puts it right"
            )


def _internal(settings: Settings, layout: Layout) -> list[_Wanted]:
    return [
        _Wanted(name, role.upper(), count, role not in ("log", "results"), layout.config[role])
        for role, name, count in (
            ("commands", settings.commands_topic, settings.commands_partitions),
            ("drains", settings.drains_topic, settings.drains_partitions),
            ("ledger", settings.ledger_topic, settings.ledger_partitions),
            ("log", settings.log_topic, settings.log_partitions),
            ("results", settings.results_topic, settings.results_partitions),
        )
    ]


async def _create(topics: Topics, wanted: _Wanted, replication_factor: int) -> TopicReport:
    failure = (await topics.create({wanted.name: wanted.partitions}, wanted.config, replication_factor)).get(
        wanted.name
    )
    if failure is not None:
        return TopicReport(wanted.name, "failed", (f"can't be created: {failure}",))
    # Created is not yet known to the brokers: a worker that is started next would say that it does not exist.
    if not await topics.is_shown(wanted.name, wanted.partitions):
        return TopicReport(wanted.name, "failed", ("created, but Kafka does not show it",))
    return TopicReport(wanted.name, "created", (f"{wanted.partitions} partitions",))


async def _compare(topics: Topics, wanted: _Wanted, config: Mapping[str, str] | None, *, check: bool) -> TopicReport:
    if config is None:
        return await _gone(topics, wanted)
    if wanted.is_exact:
        found = await topics.describe(wanted.name)
        if found is not None and found.partitions != wanted.partitions:
            return TopicReport(wanted.name, "drift", (_wrong_count(wanted, found.partitions),))
    differing = {key: value for key, value in wanted.config.items() if not is_same(config.get(key), value)}
    if not differing:
        return TopicReport(wanted.name, "ok")
    details = tuple(f"{key} is {config.get(key)}, should be {value}" for key, value in differing.items())
    if check:
        return TopicReport(wanted.name, "drift", details)
    try:
        await topics.alter(wanted.name, differing)
    except Unavailable as error:
        if await topics.describe(wanted.name) is None:
            return await _gone(topics, wanted)
        return TopicReport(wanted.name, "failed", (*details, str(error)))
    return TopicReport(
        wanted.name, "changed", tuple(f"{key}: {config.get(key)} -> {value}" for key, value in differing.items())
    )


async def _gone(topics: Topics, wanted: _Wanted) -> TopicReport:
    """A topic that was listed a moment ago: a queue may come and go, xferq's own topics may not."""
    if wanted.setting != "QUEUE":
        return TopicReport(wanted.name, "missing", ("deleted meanwhile",))
    if not await topics.is_free(wanted.name, -1):
        return TopicReport(wanted.name, "failed", ("a broker does not know it, but the controller does: try again",))
    return TopicReport(wanted.name, "ok", ("deleted meanwhile",))


def _wrong_count(wanted: _Wanted, partitions: int) -> str:
    if wanted.setting == "LEDGER":
        return wrong_width(wanted.name, partitions, wanted.count)
    return (
        f"topic {wanted.name} has {partitions} partitions, but XFERQ_{wanted.setting}_PARTITIONS is {wanted.partitions}"
    )


def _as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
