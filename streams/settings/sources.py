"""Where settings stand: the command line, the environment, a file. What is in none of them is a default."""

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
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
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return f"{PREFIX}{name.upper()}"


def config_file() -> Path | None:
    """The file that XFERQ_CONFIG names, if it does."""
    name = os.environ.get(CONFIG, "")
    return Path(name) if name else None


@dataclass(frozen=True)
class Sources:
    """Where each setting stands, by name."""

    origins: Mapping[str, str]
    """By setting: `--flag`, `XFERQ_...`, the file's path, or `default`."""

    @classmethod
    def read(cls, known: Collection[str], flags: Collection[str] = ()) -> "Sources":
        """Look at all sources, for settings of these names.

        Args:
            flags: the settings that the command line has given.

        Raises:
            InvalidSettings: the file can't be read, or something is set that there is not.
        """
        file = config_file()
        in_file = () if file is None else _keys_in(file, known)
        in_environment = _names_in_environment(known)
        origins = dict.fromkeys(known, DEFAULT)
        origins |= dict.fromkeys(in_file, str(file))
        origins |= {name: variable(name) for name in in_environment}
        origins |= {name: FLAGS.get(name, name) for name in flags}
        return cls(origins)

    def place_of(self, name: str) -> str:
        """The setting and where it stands, for a message about its value."""
        origin = self.origins.get(name, DEFAULT)
        if origin.startswith((PREFIX, "--")):
            return origin
        return variable(name) if origin in (DEFAULT, name) else f"{name} in {origin} ({variable(name)})"


def _keys_in(file: Path, known: Collection[str]) -> Collection[str]:
    try:
        with file.open("rb") as opened:
            found = tomllib.load(opened)
    except OSError as error:
        raise InvalidSettings(f"{CONFIG} or --config: {file} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{file} is not valid TOML: {error}") from None
    for key, value in found.items():
        if key not in known:
            kind = f"a table [{key}]" if isinstance(value, dict) else f"a setting {key}"
            raise InvalidSettings(f"{file}: there is no such thing as {kind}{_meant(key, known)}")
    return found


def _names_in_environment(known: Collection[str]) -> list[str]:
    found = []
    for key, value in os.environ.items():
        upper = key.upper()
        if not upper.startswith(PREFIX) or upper in NOT_SETTINGS:
            continue
        name = upper.removeprefix(PREFIX).lower()
        if name in known:
            found.append(name)
        elif not _is_from_kubernetes(upper, value):
            raise InvalidSettings(f"there is no setting {key} (environment){_meant(name, known, PREFIX)}")
    return found


def _is_from_kubernetes(key: str, value: str) -> bool:
    is_port = _SERVICE_PORT.fullmatch(key) is not None and _SERVICE_URL.match(value) is not None
    return is_port or _SERVICE_LINK.fullmatch(key) is not None


def _meant(name: str, known: Collection[str], prefix: str = "") -> str:
    close = get_close_matches(name.lower(), known, n=1)
    if not close:
        return "; docs/settings.md lists those that there are"
    return f"; {prefix}{close[0].upper() if prefix else close[0]}?"
