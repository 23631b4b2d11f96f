"""What aiokafka's clients wait for where no broker can be reached: longer and longer, up to half a second.

By themselves they try again every 20 ms (`retry_backoff_ms`), which is right while brokers change places and idle work
while all of them are away. As long as any broker answers, nothing is waited for.
"""

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup

from streams.concurrency.backoff import backoff_s

_AT_ONCE = 20
"""So many rounds through all brokers fail without a wait."""
_FIRST_S = 0.02
_MOST_S = 0.5
_get_conn = AIOKafkaClient._get_conn
_metadata_update = AIOKafkaClient._metadata_update


async def get_conn(
    client: Any, node_id: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT, no_hint: bool = False
) -> Any:
    """`AIOKafkaClient._get_conn`: the connection to a broker; None where there is none, which then takes its time."""
    connection = await _get_conn(client, node_id, group=group, no_hint=no_hint)
    failures = getattr(client, "xferq_failures", 0) - _AT_ONCE
    if connection is None and failures > 0:
        await asyncio.sleep(backoff_s(failures, _FIRST_S, _MOST_S))
    return connection


async def metadata_update(client: Any, cluster_metadata: Any, topics: Any) -> Any:
    """`AIOKafkaClient._metadata_update`: whether any broker has told of the cluster."""
    has_answer = await _metadata_update(client, cluster_metadata, topics)
    client.xferq_failures = 0 if has_answer else getattr(client, "xferq_failures", 0) + 1
    return has_answer
