"""Where settings stand: the command line, the environment, a file. What is in none of them is a default."""

import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from streams.errors import InvalidSettings

PREFIX = "XFERQ_"
CONFIG = "XFERQ_CONFIG"
"""The variable that names the file."""

NOT_SETTINGS = frozenset({CONFIG, "XFERQ_CACHE_DIR", "XFERQ_DEMO_MESSAGES"})
"""Variables that are read straight from the environment: where settings are, what is before them, what is for tests."""

FLAGS = {"worker_processes": "--processes", "api_listen_host": "--host", "api_listen_port": "--port"}
DEFAULT = "default"

# Kubernetes tells every container of each Service in its namespace, maybe one called xferq or xferq-api.
_SERVICE_LINK = re.compile(r"XFERQ\w*_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)")
_SERVICE_PORT = re.compile(r"XFERQ\w*_PORT")
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return f"{PREFIX}{name.upper()}"


@dataclass(frozen=True)
class Sources:
    """Where each setting stands, by name, and what it is there."""

    origins: Mapping[str, str]
    """By setting: `--flag`, `XFERQ_...`, the file's path, or `default`."""
    values: Mapping[str, object]
    """By setting that stands anywhere: the value, as it is written there."""

    @classmethod
    def read(cls, known: Collection[str], flags: Mapping[str, object]) -> "Sources":
        """Look at all sources, each once, for settings of these names.

        Args:
            flags: the settings that the command line has given.

        Raises:
            InvalidSettings: the file can't be read, or something is set that there is not.
        """
        file = _config_file()
        in_file = {} if file is None else _values_in(file, known)
        in_environment = _values_in_environment(known)
        origins = dict.fromkeys(known, DEFAULT)
        origins |= dict.fromkeys(in_file, str(file))
        origins |= {name: variable(name) for name in in_environment}
        origins |= {name: FLAGS.get(name, name) for name in flags}
        return cls(origins, {**in_file, **in_environment, **flags})

    def place_of(self, name: str) -> str:
        """The setting and where it stands, for a message about its value."""
        origin = self.origins.get(name, DEFAULT)
        if origin.startswith((PREFIX, "--")):
            return origin
        return variable(name) if origin in (DEFAULT, name) else f"{name} in {origin} ({variable(name)})"


def inherited() -> Collection[int]:
    """The descriptors that a process started by this one must get, to read the file that XFERQ_CONFIG names."""
    found = _DESCRIPTOR.fullmatch(os.environ.get(CONFIG, ""))
    return [] if found is None else [int(found[1])]


def _config_file() -> Path | None:
    """The file that XFERQ_CONFIG names, which can be read again, also by processes that this one starts.

    A pipe (`--config <(sops -d xferq.toml)`) gives what is in it once, and that may be secret. It is kept in memory,
    under a descriptor that the variable names from then on.
    """
    name = os.environ.get(CONFIG, "")
    if not name:
        return None
    file = Path(name)
    try:
        if stat.S_ISREG(file.stat().st_mode) or file.is_dir():
            return file
        if not hasattr(os, "memfd_create"):
            raise InvalidSettings(f"{CONFIG} or --config: {file} is a pipe; on this system it has to be a file")
        number = os.memfd_create("xferq.toml")
        os.write(number, file.read_bytes())
    except OSError as error:
        raise _unreadable(file, error) from None
    os.environ[CONFIG] = f"/dev/fd/{number}"
    return Path(os.environ[CONFIG])


def _values_in(file: Path, known: Collection[str]) -> Mapping[str, object]:
    try:
        with file.open("rb") as opened:
            found = tomllib.load(opened)
    except OSError as error:
        raise _unreadable(file, error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{file} is not valid TOML: {error}") from None
    for key, value in found.items():
        if key not in known:
            kind = f"a table [{key}]" if isinstance(value, dict) else f"a setting {key}"
            raise InvalidSettings(f"{file}: there is no such thing as {kind}{_meant(key, known)}")
    return found


def _unreadable(file: Path, error: OSError) -> InvalidSettings:
    return InvalidSettings(f"{CONFIG} or --config: {file} can't be read: {error.strerror}")


def _values_in_environment(known: Collection[str]) -> Mapping[str, str]:
    found = {}
    for key, value in os.environ.items():
        upper = key.upper()
        if not upper.startswith(PREFIX) or upper in NOT_SETTINGS:
            continue
        name = upper.removeprefix(PREFIX).lower()
        if name in known:
            found[name] = value
        elif not _is_from_kubernetes(upper, value):
            raise InvalidSettings(f"there is no setting {key} (environment){_meant(name, known, PREFIX)}")
    return found


def _is_from_kubernetes(key: str, value: str) -> bool:
    is_port = _SERVICE_PORT.fullmatch(key) is not None and _SERVICE_URL.match(value) is not None
    return is_port or _SERVICE_LINK.fullmatch(key) is not None


def _meant(name: str, known: Collection[str], prefix: str = "") -> str:
    from difflib import get_close_matches  # only for what is wrong

    close = get_close_matches(name.lower(), known, n=1)
    if not close:
        return "; docs/settings.md lists those that there are"
    return f"; {prefix}{close[0].upper() if prefix else close[0]}?"
