"""The least permissions that each part of xferq needs on a Kafka with ACLs, as data.

docs/acls.md is made from it: `python -m streams.kafka.acls` prints that page, for the settings in its environment.
"""

import shlex
from dataclasses import dataclass
from typing import Literal

from streams.settings.settings import load_settings
from streams.settings.topics import TopicSettings

Part = Literal["api", "worker", "operator", "dispatcher", "reader"]
Resource = Literal["topic", "group", "transactional-id"]

PARTS: dict[Part, str] = {
    "api": "`xferq api`",
    "worker": "`xferq worker`, all of its processes",
    "operator": "`xferq topics`, `queues`, `log` and `inject`; all others talk only to the api, except `backup` and "
    "`restore`",
    "dispatcher": "a program that takes messages out of the queues and sends them, in any language",
    "reader": "a program that reads the delivery log, in a group of its own; here the group has the user's name",
}
HOLD_TOPIC = "xferq.hold"
"""A topic that does not exist: what the holder in a group of the new protocol subscribes to."""
_QUEUES = "queue."


@dataclass(frozen=True, slots=True)
class Acl:
    """One permission; `is_prefix`: for all names that begin with `name`."""

    part: Part
    resource: Resource
    name: str
    operation: str
    purpose: str
    is_prefix: bool = False

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.is_prefix else ''}"


KAFKAS_OWN = ("__transaction_state", "__consumer_offsets")
"""Kafka's topics of transactions and of groups' offsets."""


def ledger_group(settings: TopicSettings) -> str:
    """The group, without members, in which the id of the ledger's topic is remembered."""
    return f"{settings.worker_group}.ledger"


def acls(settings: TopicSettings) -> list[Acl]:
    """All that is needed, for the names in these settings.

    Kafka grants Describe with Read, Write or Delete, and DescribeConfigs with AlterConfigs.
    """
    internal = (
        settings.commands_topic,
        settings.drains_topic,
        settings.ledger_topic,
        settings.log_topic,
        settings.results_topic,
    )
    before, braces, _ = settings.group_template.partition("{topic}")
    groups, is_prefix = (before + _QUEUES, True) if braces else (before, False)
    found: list[Acl] = []

    def topic(part: Part, name: str, purposes: dict[str, str], *, is_prefix: bool = False) -> None:
        found.extend(Acl(part, "topic", name, operation, why, is_prefix) for operation, why in purposes.items())

    def queues(part: Part, purposes: dict[str, str]) -> None:
        topic(part, _QUEUES, purposes, is_prefix=True)

    def queue_groups(part: Part, operation: str, why: str) -> None:
        found.append(Acl(part, "group", groups, operation, why, is_prefix))

    def transactions(part: Part, prefix: str, why: str) -> None:
        found.append(Acl(part, "transactional-id", prefix, "Write", why, is_prefix=True))

    looks = {"DescribeConfigs": "checks that it would not lose records"}
    topic("api", settings.commands_topic, {"Write": "sends commands", **looks})
    topic("api", settings.drains_topic, {"Describe": "finds its partitions", **looks})
    topic(
        "api",
        settings.ledger_topic,
        {
            "Read": "reads the status of commands",
            "Write": "records that a command is accepted, whose an id is, and that one is to be withdrawn",
            **looks,
        },
    )
    topic("api", settings.log_topic, {"Describe": "finds its partitions", **looks})
    topic("api", settings.results_topic, {"Describe": "finds its partitions", **looks})
    queues("api", {"Describe": "checks that the queue of a cancel exists"})

    same = "checks that the ledger is the one that was used so far"
    found.append(Acl("api", "group", ledger_group(settings), "Describe", same))
    found.append(Acl("api", "group", settings.worker_group, "Describe", "sees whether workers are at work"))
    elects = {"DescribeConfigs": "checks that no leader is elected that would not know what is committed"}
    for part in ("api", "worker"):
        for name in KAFKAS_OWN:
            topic(part, name, elects)

    topic("worker", settings.commands_topic, {"Read": "takes commands", **looks})
    topic("worker", settings.drains_topic, {"Read": "takes drain tasks", "Write": "publishes them", **looks})
    topic("worker", settings.ledger_topic, {"Read": "reads claims and progress", "Write": "writes them", **looks})
    hangs = "checks whether a transaction of its own hangs there"
    topic("worker", settings.log_topic, {"Read": hangs, "Write": "writes AdminRebind records", **looks})
    tells = "publishes what becomes of commands"
    topic("worker", settings.results_topic, {"Read": hangs, "Write": tells, **looks})
    found.append(Acl("worker", "group", settings.worker_group, "Read", "shares the work out"))
    found.append(Acl("worker", "group", ledger_group(settings), "Read", same))
    queues(
        "worker",
        {
            "Read": f"takes what was claimed; {hangs}",
            "Write": "moves it",
            "Create": "creates queues that messages go to for the first time",
            "Delete": "frees the space of what was dispatched or moved",
            "DescribeConfigs": "checks what a queue accepts, and that it would not lose messages",
        },
    )
    queue_groups("worker", "Read", "moves a queue's head, evicts and holds its dispatchers")
    transactions("worker", "xferq.claim.", "makes claims, and ends cancels")
    transactions("worker", "xferq.command.", "begins transfers, and ends all commands but cancels")
    transactions("worker", "xferq.drain.", "drains what was claimed")
    topic("worker", HOLD_TOPIC, {"Describe": "holds groups of the new protocol; the topic does not exist"})

    for name in internal:
        reads = {settings.log_topic: "`xferq log`", settings.ledger_topic: "`xferq queues`: what was claimed"}
        look = {"Read": reads[name]} if name in reads else {"Describe": "`xferq topics`"}
        topic("operator", name, {**look, "Create": "`xferq topics`", "AlterConfigs": "`xferq topics`"})
    queues(
        "operator",
        {
            "Read": "`xferq queues`: counts messages",
            "Write": "`xferq inject`, `queues`",
            "Create": "`xferq inject`",
            "AlterConfigs": "`xferq topics`, `inject`",
        },
    )
    queue_groups("operator", "Describe", "`xferq queues`")
    transactions("operator", "xferq.inject.", "`xferq inject`")

    queues("dispatcher", {"Read": "takes messages"})
    queue_groups("dispatcher", "Read", "joins, and commits")
    topic("reader", settings.log_topic, {"Read": "reads records"})
    topic("reader", settings.results_topic, {"Read": "reads records"})
    found.append(Acl("reader", "group", user_of("reader"), "Read", "joins, and commits"))
    return found


def user_of(part: Part) -> str:
    """The user that a part logs in as, on the page."""
    return f"xferq-{part}"


def acl_tables(settings: TopicSettings) -> str:
    """What each part needs, and the commands that grant it, as Markdown: docs/acls.md has it for the defaults."""
    everything = acls(settings)
    parts = []
    for part, what in PARTS.items():
        own = [acl for acl in everything if acl.part == part]
        rows = "\n".join(
            f"| {acl.resource} | `{acl.name}{'*' if acl.is_prefix else ''}` | {acl.operation} | {acl.purpose} |"
            for acl in own
        )
        commands = acl_commands(settings, part)
        parts.append(
            f"## {part.capitalize()}\n\n{what[0].upper() + what[1:]}.\n\n"
            f"| resource | name | operation | what for |\n|---|---|---|---|\n{rows}\n\n```sh\n{commands}\n```\n"
        )
    return "\n".join(parts)


def acl_commands(settings: TopicSettings, part: Part | None = None) -> str:
    """Kafka's commands that grant a part what it needs, or all parts, for a shell: the first that fails is the last."""
    found = []
    for each in PARTS if part is None else [part]:
        found += _commands([acl for acl in acls(settings) if acl.part == each])
    return " \\\n&& ".join(found)


def _commands(own: list[Acl]) -> list[str]:
    """Kafka's commands: one for each resource, with all its operations."""
    by_name: dict[tuple[str, str, bool], list[str]] = {}
    for acl in own:
        by_name.setdefault((acl.resource, acl.name, acl.is_prefix), []).append(acl.operation)
    return [
        f'kafka-acls.sh --bootstrap-server "$KAFKA" --command-config admin.properties --add \\\n'
        f"  --allow-principal User:{user_of(own[0].part)} {' '.join(f'--operation {name}' for name in operations)} \\\n"
        f"  --{resource} {shlex.quote(name)}{' --resource-pattern-type prefixed' if is_prefix else ''}"
        for (resource, name, is_prefix), operations in by_name.items()
    ]


if __name__ == "__main__":
    print(acl_tables(load_settings()), end="")
