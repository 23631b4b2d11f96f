"""The workers' group: those of a version that does not see what this one writes are kept out of it."""

from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.groups import Groups
from streams.settings.topics import TopicSettings

ASSIGNOR = "xferq-3"
"""What all workers call their way of sharing out partitions: Kafka keeps members that name another out of the group.

Another one whenever workers of two versions must not run side by side.
"""


async def require_one_version(kafka: Cluster, settings: TopicSettings) -> None:
    """See that no worker of such a version is there: because of it Kafka would only turn this worker down.

    Raises:
        Unavailable: there is, or Kafka does not answer.
    """
    found = await Groups(kafka.connection).describe(settings.worker_group)
    if found.members and found.assignor not in ("", ASSIGNOR):
        raise Unavailable(
            f"{len(found.members)} workers of another version are in group {settings.worker_group}: they have to be "
            'stopped first (docs/runbook.md, "Upgrade and roll back")'
        )
