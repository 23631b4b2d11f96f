"""xferq: transfer queues on Kafka."""

__version__ = "0.1.0"
