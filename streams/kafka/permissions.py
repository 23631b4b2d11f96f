"""Whether Kafka permits what a part of xferq will need: asked at the start, told in one message.

Only what has a name already: for queues, their groups and transactions it turns out where they are needed.
"""

import asyncio

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation

from streams.errors import Misconfigured
from streams.kafka.acls import HOLD_TOPIC, Acl, Part, acls
from streams.kafka.cluster import Cluster
from streams.kafka.translate import not_permitted
from streams.settings.settings import Settings

_LOOKED_AT = {"Describe": "DESCRIBE", "Read": "READ", "Write": "WRITE"}
"""What is asked for; what else is missing costs a warning (`streams.kafka.layout`)."""


async def require_permissions(kafka: Cluster, settings: Settings, part: Part) -> None:
    """See that Kafka lets this part do its work.

    Raises:
        Misconfigured: it does not; the message names each permission that is missing.
        Unavailable: Kafka does not answer.
    """
    wanted = [acl for acl in acls(settings) if acl.part == part and not acl.is_prefix and acl.name != HOLD_TOPIC]
    missing = await _missing(kafka, [acl for acl in wanted if acl.resource == "topic" and acl.operation in _LOOKED_AT])
    for acl in wanted:
        if acl.resource == "group" and acl.operation == "Read" and not await kafka.may_join(acl.name):
            missing.append(acl)
    if missing:
        raise Misconfigured(not_permitted(", ".join(map(str, missing))))


async def _missing(kafka: Cluster, wanted: list[Acl]) -> list[Acl]:
    names = sorted({acl.name for acl in wanted})
    timeout_s = kafka.settings.request_timeout_ms / 1000
    with kafka.connection.asking(f"looking at topics {', '.join(names)}"):
        futures = kafka.connection.admin.describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=timeout_s
        )
        permitted: dict[str, list[AclOperation] | None] = {}
        for name, future in futures.items():
            try:
                # None: a Kafka that does not tell.
                permitted[name] = (await asyncio.wrap_future(future)).authorized_operations
            except KafkaException as error:
                code = error.args[0].code()
                if code not in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    raise
                # One that is not there is another's business.
                permitted[name] = [] if code == KafkaError.TOPIC_AUTHORIZATION_FAILED else None
    return [
        acl
        for acl in wanted
        if (found := permitted[acl.name]) is not None and AclOperation[_LOOKED_AT[acl.operation]] not in found
    ]
