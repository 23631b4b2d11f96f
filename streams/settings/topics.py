"""Settings of the topics and consumer groups."""

from pydantic import BaseModel, Field, field_validator


class TopicSettings(BaseModel):
    """What the topics and groups are called, and what they are made like."""

    commands_topic: str = Field("xferq.commands", description="topic of cancel and transfer commands")
    drains_topic: str = Field("xferq.drains", description="topic of drain tasks (internal)")
    ledger_topic: str = Field(
        "xferq.ledger", description="topic of claims, progress, heads and command status (compacted)"
    )
    log_topic: str = Field("delivery-log", description="topic of AdminRebind records")
    results_topic: str = Field(
        "xferq.results", description="topic of what has become of each command, for other services (compacted)"
    )
    group_template: str = Field(
        "xferq.dispatch.{topic}",
        description="consumer group of a queue topic's dispatchers; may contain {topic}",
    )
    worker_group: str = Field("xferq.worker", description="consumer group of the workers (Faust's)")

    # Topics that xferq creates.
    commands_partitions: int = Field(32, ge=1, description="partitions of commands; at least one per worker")
    drains_partitions: int = Field(
        32, ge=1, description="partitions of drain tasks; at least one per worker; never changed"
    )
    ledger_partitions: int = Field(
        32, ge=1, description="partitions of the ledger, which has as many more for drains' progress; never changed"
    )
    log_partitions: int = Field(8, ge=1, description="partitions of the delivery log")
    results_partitions: int = Field(8, ge=1, description="partitions of the results; never changed")
    queue_partitions: int = Field(4, ge=1, description="partitions of a queue topic that xferq creates")
    replication_factor: int = Field(
        -1, ge=-1, description="replicas of topics that xferq creates; -1: broker's default"
    )

    @field_validator("group_template")
    @classmethod
    def _template_is_usable(cls, value: str) -> str:
        try:
            value.format(topic="queue.x")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may hold {topic} and no other braces") from error
        return value

    def group_of(self, topic: str) -> str:
        """The consumer group whose committed offsets are the heads of queue topic `topic`."""
        return self.group_template.format(topic=topic)
