"""xferq: transfer queues on Kafka."""

from importlib.metadata import version

__version__ = version("xferq")
"""Of this installation: the git tag that it was built of, or what comes after it."""
