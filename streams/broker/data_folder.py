"""The folder that holds everything one broker keeps."""

import base64
import fcntl
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from streams.broker.failure import BrokerError
from streams.broker.java import java_command
from streams.broker.process import java_environment
from streams.settings.folders import expanded

_FORMAT_TIMEOUT_S = 60.0
_LOCKED_S = 3.0
_LOOK_S = 0.1


def new_cluster_id() -> str:
    """A random cluster id in Kafka's spelling: a UUID in URL-safe base64, 22 characters."""
    while True:
        encoded = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not encoded.startswith("-"):  # would look like an option on StorageTool's command line
            return encoded


class DataFolder:
    """A broker's folder: a given one, which is kept, or a temporary one."""

    def __init__(self, given: Path | None) -> None:
        self._given = expanded(given) if given else None
        self._temporary: Path | None = None

    @property
    def path(self) -> Path:
        """Where it is.

        Raises:
            BrokerError: it is a temporary one that doesn't exist now.
        """
        folder = self._given or self._temporary
        if folder is None:
            raise BrokerError("a broker without a data folder of its own has none before its start")
        return folder

    @property
    def temporary(self) -> Path | None:
        """The path if it exists and is to be removed with the broker."""
        return self._temporary

    @property
    def kafka(self) -> Path:
        """Kafka's log.dirs."""
        return self.path / "kafka"

    @property
    def server_properties(self) -> Path:
        """Kafka's configuration file."""
        return self.path / "server.properties"

    @property
    def log4j2_properties(self) -> Path:
        """The configuration file for Kafka's log."""
        return self.path / "log4j2.properties"

    @property
    def broker_log(self) -> Path:
        """Kafka's log."""
        return self.path / "broker.log"

    @property
    def console_log(self) -> Path:
        """What Java wrote to its standard output and error in its last run."""
        return self.path / "console.log"

    def open(self) -> None:
        """Make the folder if it isn't there, and see that it can be used.

        Raises:
            BrokerError: a running broker uses it, or Kafka can't cope with its name.
            OSError: it can't be made or written.
        """
        if self._given is None and self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="xferq-broker-"))
        if "," in str(self.path):
            raise BrokerError(f"Kafka can't use a data folder with a comma in its path: {self.path}")
        self.kafka.mkdir(parents=True, exist_ok=True)
        # Kafka locks this file for as long as it runs, with the kind of lock that lockf asks for. Looked at
        # before anything is written, since the running broker's configuration lies in the same folder.
        # A process that was killed may hold it for a moment longer than it seems to live.
        deadline = time.monotonic() + _LOCKED_S
        with (self.kafka / ".lock").open("ab") as lock:
            while True:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except (BlockingIOError, PermissionError):
                    if time.monotonic() >= deadline:
                        raise BrokerError(f"a running broker uses the data folder {self.path}") from None
                time.sleep(_LOOK_S)

    def cluster_id(self, wanted: str | None) -> str:
        """The cluster id of this folder for good: the stored one, else the wanted one or a new one.

        Raises:
            BrokerError: the folder belongs to another cluster than the wanted one.
        """
        file = self.path / "cluster.id"
        if not file.exists():
            partial = file.with_suffix(".partial")
            partial.write_text((wanted or new_cluster_id()) + "\n")
            partial.replace(file)
        stored = file.read_text().strip()
        if wanted and stored != wanted:
            raise BrokerError(f"the data folder {self.path} belongs to another cluster, {stored}")
        return stored

    def format(self, cluster_id: str, jars: Sequence[Path], options: Sequence[str]) -> None:
        """Format it for Kafka, once in its life; server_properties must be written.

        Raises:
            BrokerError: StorageTool refuses; with what it said.
        """
        done = self.path / "formatted"
        if done.exists():
            return
        command = java_command("kafka.tools.StorageTool", jars, heap_mb=128, options=options)
        # --ignore-formatted: an earlier try may have been killed halfway.
        arguments = ["format", "--cluster-id", cluster_id, "--ignore-formatted", "--config"]
        try:
            result = subprocess.run(  # noqa: S603
                [*command, *arguments, str(self.server_properties)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=java_environment(),
                timeout=_FORMAT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BrokerError(f"formatting {self.path} took longer than {_FORMAT_TIMEOUT_S:.0f} s") from None
        if result.returncode != 0:
            said = result.stdout.decode(errors="replace").strip()
            raise BrokerError(f"Kafka can't format {self.path} (exit status {result.returncode}): {said}")
        done.touch()

    def log_since(self, start: int) -> str:
        """What Kafka logged from this byte on (all, if the log was begun anew since), and the console."""
        texts = []
        for file, at in ((self.broker_log, start), (self.console_log, 0)):
            if file.exists():
                data = file.read_bytes()
                texts.append(data[at if at <= len(data) else 0 :].decode(errors="replace"))
        return "\n".join(texts)

    def remove_temporary(self) -> None:
        """Remove the folder if it is a temporary one."""
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
