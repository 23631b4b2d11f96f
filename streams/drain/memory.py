"""The memory of all drains of a process: each that runs has an equal share of it."""

from contextlib import AbstractContextManager


class Memory:
    """So many bytes, for whatever drains hold until it is sent and acknowledged."""

    def __init__(self, bytes: int) -> None:
        """`bytes` is for all drains together."""
        self.bytes = bytes
        self.running = 0
        """How many shares are in use."""

    def share(self) -> "Share":
        """One that is not yet in use."""
        return Share(self)


class Share(AbstractContextManager[None]):
    """One drain's, from the beginning to the end of the block."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    @property
    def bytes(self) -> int:
        """What this drain may hold just now; less as soon as others begin."""
        return self._memory.bytes // max(1, self._memory.running)

    def __enter__(self) -> None:
        self._memory.running += 1

    def __exit__(self, *_: object) -> None:
        self._memory.running -= 1
