"""Where the embedded broker of this user is: a file that `xferq up` and `xferq broker` leave while they run."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from streams.errors import Misconfigured
from streams.settings.folders import user_folder
from streams.settings.hosts import EMBEDDED
from streams.settings.settings import Settings

_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """A broker, the process that runs it, and the API that goes with it, where there is one."""

    pid: int
    bootstrap_servers: str
    api_url: str | None = None


def data_folder() -> Path:
    """Where the embedded broker keeps its data by default: `xferq/kafka` in the user's XDG data folder.

    Raises:
        Misconfigured: there is no such folder, as the user has no home.
    """
    return user_folder("XDG_DATA_HOME", ".local/share") / "xferq" / "kafka"


def state_file() -> Path:
    """The file that says where it runs: `xferq/embedded.json` in the user's XDG state folder.

    Raises:
        Misconfigured: there is no such folder, as the user has no home.
    """
    return user_folder("XDG_STATE_HOME", ".local/state") / "xferq" / "embedded.json"


@contextmanager
def announced(bootstrap_servers: str, api_url: str | None = None) -> Iterator[None]:
    """Let the other commands find the broker within the block.

    Raises:
        Misconfigured: the file can't be written.
    """
    mine = Running(os.getpid(), bootstrap_servers, api_url)
    file = state_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{mine.pid}")
        partial.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise Misconfigured(
            f"{file} can't be written ({error.strerror}): XDG_STATE_HOME names another place"
        ) from error
    try:
        yield
    finally:
        if _read(file) == mine:
            with suppress(OSError):
                file.unlink()


def find() -> Running | None:
    """The broker that runs now; what a process that was killed has left doesn't count."""
    try:
        running = _read(state_file())
    except Misconfigured:  # who has no home has no broker in it
        return None
    return running if running is not None and _is_alive(running.pid) else None


def running_up() -> Running | None:
    """What another `xferq up` has said of itself, if its Kafka can be reached."""
    running = find()
    if running is None or running.api_url is None:
        return None
    host, _, port = running.bootstrap_servers.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_LOOK_S):
            return running
    except (OSError, ValueError):
        return None  # a process that was killed has left the file, and another one has its number


def with_kafka(settings: Settings) -> Settings:
    """The settings with the address of a Kafka in them: their own, or the embedded one's.

    Raises:
        Misconfigured: there is neither.
    """
    if settings.bootstrap_servers != EMBEDDED:
        return settings
    require_plain(settings)
    running = find()
    if running is None:
        from streams.broker.extra import not_installed

        raise Misconfigured(
            "no Kafka to talk to: "
            + (not_installed() or "XFERQ_BOOTSTRAP_SERVERS names none, and no `xferq up` or `xferq broker` is running")
        )
    return settings.model_copy(update={"bootstrap_servers": running.bootstrap_servers})


def require_plain(settings: Settings) -> None:
    """See that the settings fit the embedded broker, which is on loopback and knows neither TLS nor a login.

    Raises:
        Misconfigured: they don't.
    """
    if settings.kafka_security_protocol != "PLAINTEXT":
        raise Misconfigured(
            f"XFERQ_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}, but XFERQ_BOOTSTRAP_SERVERS names "
            "no Kafka: the embedded one speaks PLAINTEXT"
        )


def api_url(settings: Settings) -> str:
    """Where the API is: as the settings say, else where `xferq up` has put it, else the default."""
    if "api_url" not in settings.model_fields_set and settings.bootstrap_servers == EMBEDDED:
        running = find()
        if running is not None and running.api_url is not None:
            return running.api_url
    return settings.api_url.rstrip("/")


def _read(file: Path) -> Running | None:
    try:
        return Running(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, TypeError):
        return isinstance(pid, int)
    return True
