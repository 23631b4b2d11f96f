"""What Linux says of processes: whose child, with which environment, listening where."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def stat_of(pid: int) -> tuple[str, int] | None:
    """A process's state (a letter) and its parent; None if there is none."""
    with suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    return None


def all_pids() -> list[int]:
    """Every process that there is."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def below(roots: Iterable[int]) -> set[int]:
    """These processes and all that come from them."""
    parents = {pid: stat[1] for pid in all_pids() if (stat := stat_of(pid))}
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def environment_of(pid: int) -> dict[str, str]:
    """What it was started with; nothing of one that has ended, or is somebody else's."""
    with suppress(OSError):
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        return dict(entry.split("=", 1) for entry in raw.split("\0") if "=" in entry)
    return {}


def listening_sockets(pid: int) -> Iterator[str]:
    """The addresses on which a process listens, as `ip:port` (Linux)."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    yield from (_address(line) for line in _tcp_lines(pid) if line.split()[9] in inodes and line.split()[3] == "0A")


def _tcp_lines(pid: int) -> Iterable[str]:
    for table in ("tcp", "tcp6"):
        yield from Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]


def _address(line: str) -> str:
    host, port = line.split()[1].split(":")
    if len(host) == 8:
        return ".".join(str(byte) for byte in reversed(bytes.fromhex(host))) + f":{int(port, 16)}"
    return f"[{host}]:{int(port, 16)}"
