"""What each part of xferq has to be permitted on a Kafka that asks who may do what: the least of it, as data.

docs/acls.md is made of it: `python -m streams.acls` prints that page, by the settings of its environment.
"""

import shlex
from dataclasses import dataclass
from typing import Literal

from streams.settings import Settings, load_settings

Part = Literal["api", "worker", "operator", "dispatcher", "reader"]
Resource = Literal["topic", "group", "transactional-id"]

PARTS: dict[Part, str] = {
    "api": "`xferq api`",
    "worker": "`xferq worker`, all of its processes",
    "operator": "`xferq topics`, `queues`, `log` and `inject`; the other commands talk to the api alone",
    "dispatcher": "whoever takes messages out of the queues and sends them, in any language",
    "reader": "whoever reads the delivery log, in a group of its own: here it is called like the user",
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


def acls(settings: Settings) -> list[Acl]:
    """All that is needed, for the names in these settings.

    Kafka grants Describe with Read, Write or Delete, and DescribeConfigs with AlterConfigs.
    """
    internal = (settings.commands_topic, settings.drains_topic, settings.ledger_topic, settings.log_topic)
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

    looks = {"DescribeConfigs": "whether it would lose records"}
    topic("api", settings.commands_topic, {"Write": "sends commands", **looks})
    topic("api", settings.drains_topic, {"Describe": "its partitions", **looks})
    topic("api", settings.ledger_topic, {"Read": "status of commands", "Write": "that one is accepted", **looks})
    topic("api", settings.log_topic, {"Describe": "its partitions", **looks})
    queues("api", {"Describe": "whether the queue of a cancel exists"})

    topic("worker", settings.commands_topic, {"Read": "takes commands", **looks})
    topic("worker", settings.drains_topic, {"Read": "takes drain tasks", "Write": "publishes them", **looks})
    topic("worker", settings.ledger_topic, {"Read": "claims and progress", "Write": "the same", **looks})
    hangs = "whether a transaction of its own hangs there"
    topic("worker", settings.log_topic, {"Read": hangs, "Write": "AdminRebind records", **looks})
    found.append(Acl("worker", "group", settings.worker_group, "Read", "shares the work out"))
    queues(
        "worker",
        {
            "Read": f"takes what was claimed; {hangs}",
            "Write": "moves it",
            "Create": "queues that messages go to for the first time",
            "Delete": "frees the space of what was dispatched or moved",
            "DescribeConfigs": "what a queue takes, and whether it would lose messages",
        },
    )
    queue_groups("worker", "Read", "moves a queue's head, evicts and holds its dispatchers")
    transactions("worker", "xferq.claim.", "claims")
    transactions("worker", "xferq.drain.", "drains")
    topic("worker", HOLD_TOPIC, {"Describe": "holds groups of the new protocol; it does not exist"})

    for name in internal:
        look = "Read" if name == settings.log_topic else "Describe"
        why = "`xferq log`" if name == settings.log_topic else "`xferq topics`"
        topic("operator", name, {look: why, "Create": "`xferq topics`", "AlterConfigs": "`xferq topics`"})
    queues(
        "operator",
        {
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
    found.append(Acl("reader", "group", user_of("reader"), "Read", "joins, and commits"))
    return found


def user_of(part: Part) -> str:
    """The user that a part logs in as, on the page."""
    return f"xferq-{part}"


_HEAD = """\
# ACLs

What each part of xferq has to be permitted where Kafka asks who may do what (`authorizer.class.name`): this much, and
no more. It is made from [streams/acls.py](../streams/acls.py); with topics or groups of other names,
`python -m streams.acls` prints the page for the settings in its environment, and `xferq acls PART` a part's commands.

The whole job runs with exactly these (`tests/broker/test_least_acls.py::test_the_whole_job`). Where one of them is
missing a message names it: the operation, and on what
(`tests/broker/test_least_acls.py::test_what_is_said_where_one_is_missing`). Worker and api look at their start for
those on single topics and groups; for the others, where they are needed first.

Kafka grants Describe with Read, Write or Delete, and DescribeConfigs with AlterConfigs. Names that end in `*` are
prefixes. Each part logs in as a user of its own here; parts may share one.

Besides, whoever sends commands to Kafka without the api needs Write on topic `{commands}`, and what puts mail into
queues needs Write on the topics `queue.*`, with the transactional ids it uses. `xferq backup` and `restore` need what
the worker needs.
"""


def acls_page(settings: Settings) -> str:
    """The page in docs/, as Markdown."""
    everything = acls(settings)
    parts = [_HEAD.format(commands=settings.commands_topic)]
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


def acl_commands(settings: Settings, part: Part | None = None) -> str:
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
    print(acls_page(load_settings()), end="")
