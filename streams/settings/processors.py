"""How many processors this process may use: of the machine, by its affinity, and by the limits of its control group."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def processors(root: Path = _ROOT, own: Path = _OWN) -> int:
    """The least of what the affinity and the control groups permit, at least 1; part of one counts as a whole.

    Args:
        root: where control groups are mounted.
        own: the file that says in which of them this process is.
    """
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affine, *map(math.ceil, _quotas(root, own))]))


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """Each limit of this process's groups and of all above them, in processors."""
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        mounted = root if not controllers else root / "cpu"
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container its own group may be what is mounted, although the path is the one outside.
        path = mounted / group.lstrip("/")
        for folder in {mounted, path, *(parent for parent in path.parents if parent.is_relative_to(mounted))}:
            words = (_text(folder / "cpu.max") or _first_version(folder)).split()
            if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
                yield int(words[0]) / int(words[1])


def _first_version(folder: Path) -> str:
    return f"{_text(folder / 'cpu.cfs_quota_us').strip()} {_text(folder / 'cpu.cfs_period_us').strip()}"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
