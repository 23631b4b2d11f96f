"""xferq: transfer queues on Kafka."""

__version__: str
"""Of this installation: the git tag that it was built of, or what comes after it."""


def __getattr__(name: str) -> str:
    # Looked up when somebody asks: that takes as long as the rest of a command's start.
    if name == "__version__":
        from importlib.metadata import version

        return version("xferq")
    raise AttributeError(name)
