"""Tunes the memory of a worker process for many objects and buffers that live for one transaction."""

import ctypes
import gc

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's mallopt(3)
_LARGE = 32 << 20
"""The most that glibc takes for the first, in bytes."""
_KEPT = 64 << 20
_COLLECT_AFTER = (50_000, 20, 50)


def tune_memory() -> None:
    """Let a drain use the same memory again and again; call once, when everything is imported.

    By default:
    1. Python's collector looks at all objects of a batch hundreds of times a second, and finds nothing.
    2. glibc gives the pages of batches and requests back to the system at the end of each transaction, and has
       new ones zeroed for the next: a sixth of a drain's time.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has no such thing
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _KEPT)
