"""The topics and users that xferq needs, as resources of Strimzi's operators (KafkaTopic, KafkaUser).

`python -m streams.ops.strimzi FOLDER LAYOUT [CLUSTER]` writes them, for the settings in the environment: LAYOUT is a
topics' file as in deploy/, CLUSTER the name of Strimzi's Kafka resource.
"""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from streams.domain.ledger_partitions import ledger_width
from streams.errors import XferqError
from streams.kafka.acls import PARTS, Acl, Part, acls, user_of
from streams.kafka.layout import Layout, read_layout
from streams.settings.settings import Settings, load_settings

API_VERSION = "kafka.strimzi.io/v1"
CLUSTER = "kafka"
"""What Strimzi's Kafka resource is called, unless something else is said."""

_HEAD = "# Made by `python -m streams.ops.strimzi`: change the settings, {source}, and make it again.\n"
_TYPES = {"topic": "topic", "group": "group", "transactional-id": "transactionalId"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
Resource = dict[str, Any]


def topics(settings: Settings, layout: Layout, cluster: str = CLUSTER) -> list[Resource]:
    """A KafkaTopic for each internal topic; queues are made by xferq itself.

    Args:
        layout: what each kind of topic is set to.
        cluster: the name of the Kafka resource.
    """
    found = []
    for role in ("commands", "drains", "ledger", "log"):
        name, partitions = getattr(settings, f"{role}_topic"), getattr(settings, f"{role}_partitions")
        if role == "ledger":
            partitions = ledger_width(partitions)
        spec: Resource = {"topicName": name, "partitions": partitions}
        if settings.replication_factor > 0:
            spec["replicas"] = settings.replication_factor
        spec["config"] = {key: _number(value) for key, value in layout.config[role].items()}
        found.append(_resource("KafkaTopic", _resource_name(name), cluster, spec))
    return found


def users(settings: Settings, cluster: str = CLUSTER) -> list[Resource]:
    """A KafkaUser for each part, who logs in with SCRAM and is permitted just what `streams.kafka.acls` says.

    Args:
        cluster: the name of the Kafka resource.
    """
    everything = acls(settings)
    return [_user(part, [acl for acl in everything if acl.part == part], cluster) for part in PARTS]


def _user(part: Part, own: list[Acl], cluster: str) -> Resource:
    rules: dict[tuple[str, str, bool], list[str]] = {}
    for acl in own:
        rules.setdefault((acl.resource, acl.name, acl.is_prefix), []).append(acl.operation)
    granted = [
        {
            "resource": {
                "type": _TYPES[kind],
                "name": name,
                "patternType": "prefix" if is_prefix else "literal",
            },
            "operations": operations,
        }
        for (kind, name, is_prefix), operations in rules.items()
    ]
    return _resource(
        "KafkaUser",
        user_of(part),
        cluster,
        {"authentication": {"type": "scram-sha-512"}, "authorization": {"type": "simple", "acls": granted}},
    )


def _resource(kind: str, name: str, cluster: str, spec: Resource) -> Resource:
    metadata = {"name": name, "labels": {"strimzi.io/cluster": cluster}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _resource_name(topic: str) -> str:
    """A name that Kubernetes takes; the topic's own stands in `topicName`."""
    return re.sub(r"[^a-z0-9.-]", "-", topic.lower()).strip(".-")


def _number(text: str) -> int | float | str:
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def to_yaml(resources: list[Resource], source: str) -> str:
    """A file of these resources.

    Args:
        source: where else what stands in them comes from.
    """
    text = yaml.safe_dump_all(resources, explicit_start=True, sort_keys=False, default_flow_style=None, width=120)
    return _HEAD.format(source=source) + str(text)


def write(folder: Path, layout: Path, cluster: str = CLUSTER) -> None:
    """Write topics.yaml and users.yaml into a folder, for the settings in the environment.

    Raises:
        Misconfigured: the layout can't be read, or asks for what would break a guarantee.
        InvalidSettings: a setting is not valid.
    """
    settings = load_settings()
    found = {
        "topics.yaml": to_yaml(topics(settings, read_layout(layout), cluster), f"or {layout.name}"),
        "users.yaml": to_yaml(users(settings, cluster), "or streams/kafka/acls.py"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m streams.ops.strimzi FOLDER LAYOUT [CLUSTER]")
    try:
        write(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    except XferqError as error:
        sys.exit(f"streams.ops.strimzi: {error}")
