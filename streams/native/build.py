"""Builds the compiled extension where cargo is found: `python -m streams.native.build`. Python does without it, too."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXTENSION = HERE / "_native.abi3.so"
_NEEDS = (1, 83)
_GOES_ON = "drains run in Python, which does all of it"


def build(wish: str = "auto") -> tuple[bool, str]:
    """Whether it is built now, and one line about it.

    Args:
        wish: `no` leaves it out; `yes` raises where it can't be built.

    Raises:
        RuntimeError: it has to be built, and can't be.
    """
    why = "it is not wanted" if wish == "no" else _needed() or _compiled()
    if why and wish == "yes":
        raise RuntimeError(f"the compiled drain can't be built: {why}")
    return not why, f"compiled drain: not built, as {why}; {_GOES_ON}" if why else f"compiled drain: built {EXTENSION}"


def _needed() -> str:
    """What is missing, if anything."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return "there is no cargo"
    result = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = re.match(r"cargo (\d+)\.(\d+)", result.stdout)
    if version is None or (int(version[1]), int(version[2])) < _NEEDS:
        return f"cargo is older than {'.'.join(map(str, _NEEDS))}"
    return ""


def _compiled() -> str:
    """Compile it; why that failed, if it did."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
    result = subprocess.run(  # noqa: S603
        ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)],  # noqa: S607
        cwd=HERE,
        env={**os.environ, "PYO3_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
        return f"cargo failed ({errors[0].strip() if errors else result.returncode})"
    built = target / "release" / ("lib_native.dylib" if sys.platform == "darwin" else "lib_native.so")
    # In its place at once: a process that runs keeps the one that it has loaded.
    partial = EXTENSION.with_suffix(".partial")
    shutil.copyfile(built, partial)
    partial.replace(EXTENSION)
    return ""


if __name__ == "__main__":
    print(build(os.environ.get("BUILD_XFERQ_NATIVE", "auto"))[1])
