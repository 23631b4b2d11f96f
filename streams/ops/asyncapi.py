"""xferq's public interface on Kafka as an AsyncAPI 3 document: topics, keys, headers, values, partitions, retention.

`python -m streams.ops.asyncapi docs` writes it and the JSON Schemas that it is made of into docs/. As everywhere, names
and partition counts of topics come from the environment (`XFERQ_...`).
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.domain.command import TYPES
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.schema import DEFINITIONS, DOCUMENTS, UNSAID, Schema, definitions, document
from streams.domain.topic import TOPIC_PREFIX, topic_of
from streams.domain.trace import TRACEPARENT, TRACEPARENT_PATTERN, TRACESTATE
from streams.kafka.layout import Layout
from streams.settings.settings import Settings, load_settings

_VERSION = "0.1.0"
"""Of what is said here, which is not xferq's own: it changes where the contract does."""
_KAFKA = "0.5.0"
"""The version of AsyncAPI's Kafka binding."""
_COMMANDS = {type.removeprefix("xfer."): model for type, model in TYPES.items()}
_QUEUE = "mytenant@mail.example"
_XFER_QUEUE = f"http://mx2.example.com/{XFER_SUFFIX}"
_KEEPS_ORDER = (
    "Partition: by the key with murmur2, the default of Java's clients and of aiokafka (librdkafka: "
    "`partitioner=murmur2_random`). Any other works as well, but does not keep the commands of one queue in order."
)


def asyncapi(settings: Settings) -> Schema:
    """The document for these settings' topics."""
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "xferq",
            "version": _VERSION,
            "description": "Transfer queues on Kafka. Read all of these topics with `isolation.level=read_committed`: "
            "what an aborted transaction left behind does not count. Ignore fields that you don't know.",
        },
        "defaultContentType": "application/json",
        "channels": _channels(settings),
        "operations": _operations(),
        "components": {"messages": _kinds(), "schemas": definitions()},
    }
    text = json.dumps(document).replace(DEFINITIONS, "#/components/schemas/")
    found: Schema = json.loads(text)
    return found


def documents(settings: Settings) -> dict[str, Schema]:
    """All that there is to be written down, by its place in the folder."""
    return {
        "asyncapi.json": asyncapi(settings),
        **{f"schemas/{name}.json": document(name) for name in DOCUMENTS},
    }


def to_text(value: Schema) -> str:
    """A document as it is written down."""
    return json.dumps(value, indent=2) + "\n"


def _channels(settings: Settings) -> Schema:
    config = Layout().config
    return {
        "commands": {
            "address": settings.commands_topic,
            "title": "Commands",
            "description": "Whoever may write here commands xferq. An invalid command is recorded as refused, with "
            f"the reason, and skipped. {_KEEPS_ORDER} Timestamps are set by the broker.",
            "messages": _messages(*_COMMANDS),
            "bindings": _binding(settings.commands_partitions, config["commands"]),
        },
        "deliveryLog": {
            "address": settings.log_topic,
            "title": "Delivery log",
            "description": "One record for each message that has been moved, written in the transaction that moves "
            "it. Partition: the message's partition in the queue that it was taken out of, modulo the number of "
            "partitions here; so not by the key. Timestamps are set by the broker.",
            "messages": _messages("rebind"),
            "bindings": _binding(settings.log_partitions, config["log"]),
        },
        "queue": {
            "address": f"{TOPIC_PREFIX}{{name}}",
            "title": "A queue, scheduled or xfer",
            "description": "The queue's head is the committed offset of its dispatchers' group, "
            f"`{settings.group_template.replace('{topic}', TOPIC_PREFIX + '{name}')}`; records below it are "
            "deleted, others never. Partition: any that the writer chooses; a message that is moved goes to the "
            "partition it was in, modulo the number of partitions. Its timestamp is kept.",
            "parameters": {
                "name": {
                    "description": "The queue's name in UTF-8: `A-Z a-z 0-9 .` stay, every other byte becomes `-` "
                    "and two lower-case hex digits. If the topic's name would be over 249 characters: the first "
                    "150 characters of that, `--`, and the SHA-256 of the name in hex.",
                    "examples": [topic_of(name).removeprefix(TOPIC_PREFIX) for name in (_QUEUE, _XFER_QUEUE)],
                }
            },
            "messages": _messages("message"),
            "bindings": _binding(settings.queue_partitions, config["queues"]),
        },
    }


def _operations() -> Schema:
    return {
        "carryOut": _operation("receive", "commands", "Carry out a command: claim, then drain.", *_COMMANDS),
        "log": _operation("send", "deliveryLog", "Record each message that has been moved.", "rebind"),
        "take": _operation("receive", "queue", "Take the messages that a command claims.", "message"),
        "put": _operation(
            "send", "queue", "Put them into another queue, or back at the tail of the same queue.", "message"
        ),
    }


def _kinds() -> Schema:
    return {
        **{name: _command(model.summary, model.__name__) for name, model in _COMMANDS.items()},
        "rebind": {
            "title": "A message has been moved",
            "headers": {
                "type": "object",
                "properties": {"type": {"const": "AdminRebind"}},
                "required": ["type"],
            },
            "payload": {"$ref": f"{DEFINITIONS}AdminRebind"},
            "bindings": _key("the message's id, which is also the message's own key"),
        },
        "message": {
            "title": "A message",
            "contentType": "message/rfc822",
            "headers": {
                "type": "object",
                "description": "Headers other than the envelope pass through unchanged, in their order.",
                "properties": {
                    "envelope": {
                        "type": "string",
                        "description": f"JSON. {_unsaid('envelope')}",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": f"{DEFINITIONS}Envelope"},
                    }
                },
                "required": ["envelope"],
            },
            "payload": {"description": "the message's bytes, of any kind; never changed"},
            "bindings": _key("the message's id"),
        },
    }


def _command(title: str, schema: str) -> Schema:
    return {
        "title": title,
        "description": _unsaid("command"),
        "headers": {
            "type": "object",
            "description": "W3C's trace context, optional: if xferq produces traces, the command's trace is this one. "
            "An invalid one is ignored; no command is refused because of it.",
            "properties": {
                TRACEPARENT: {"type": "string", "pattern": TRACEPARENT_PATTERN},
                TRACESTATE: {"type": "string"},
            },
        },
        "payload": {"$ref": f"{DEFINITIONS}{schema}"},
        "bindings": _key("the name of the xfer queue"),
    }


def _unsaid(name: str) -> str:
    return f"In addition to the schema: {'; '.join(UNSAID[name])}."


def _messages(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _operation(action: str, channel: str, summary: str, *messages: str) -> Schema:
    where = f"#/channels/{channel}"
    return {
        "action": action,
        "channel": {"$ref": where},
        "summary": summary,
        "messages": [{"$ref": f"{where}/messages/{name}"} for name in messages],
    }


def _key(description: str) -> Schema:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": _KAFKA}}


def _binding(partitions: int, config: Mapping[str, str]) -> Schema:
    return {
        "kafka": {
            "partitions": partitions,
            "topicConfiguration": {name: _value(name, text) for name, text in config.items()},
            "bindingVersion": _KAFKA,
        }
    }


def _value(name: str, text: str) -> Any:
    if name == "cleanup.policy":
        return text.split(",")
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdigit() else text


def write(folder: Path) -> None:
    """Write all of them into a folder, for the settings in the environment."""
    for path, value in documents(load_settings()).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(to_text(value), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m streams.ops.asyncapi FOLDER")
    write(Path(sys.argv[1]))
