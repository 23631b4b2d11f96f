"""How many processors a worker counts, by affinity and control groups of both versions."""

import os
from pathlib import Path

import pytest

from streams.settings.processors import processors


def laid_out(root: Path, files: dict[str, str], own: str) -> tuple[Path, Path]:
    """Control groups with these files, and the file that says where this process is."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "own").write_text(own)
    return root, root / "own"


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "", 8),
        ({}, "0::/\n", 8),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 8),
        ({"cpu.max": "200000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
        ({"cpu.max": "9000000 100000\n"}, "0::/\n", 8),
        ({"a/b/cpu.max": "300000 100000\n"}, "0::/a/b\n", 3),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "300000 100000\n"}, "0::/a/b\n", 2),
        ({"a/cpu.max": "200000 100000\n"}, "0::/other\n", 8),
        ({"cpu.max": "200000 100000\n"}, "0::/seen/from/outside\n", 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/\n", 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/\n", 3),
        ({"cpu/d/cpu.cfs_quota_us": "300000\n", "cpu/d/cpu.cfs_period_us": "100000\n"}, "4:cpu:/d\n5:memory:/\n", 3),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "0\n"}, "4:cpu:/\n", 8),
        ({"cpu.max": "rubbish"}, "rubbish\n0::/../..\n", 8),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], own: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert processors(*laid_out(tmp_path, files, own)) == expected


def test_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert processors(*laid_out(tmp_path, {}, "")) == 1


def test_where_there_is_no_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors(*laid_out(tmp_path, {}, "")) == 1


def test_on_this_machine() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)
