"""What runs while the demo plays: Kafka, the api and one worker, each a process of its own, ended with it."""

import asyncio
import re
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from api.children import Children
from api.demo.report import Report
from api.embedded import require_plain
from api.transport import NoAnswer, NotReached, Transport
from streams.broker import EmbeddedBroker
from streams.domain.ledger_partitions import ledger_width
from streams.errors import Unavailable, XferqError
from streams.kafka.cluster import Cluster
from streams.kafka.connection import Connection
from streams.kafka.layout import INTERNAL_CONFIG, apply_layout
from streams.kafka.reachable import require_reachable
from streams.kafka.topics import Topics
from streams.settings.hosts import EMBEDDED
from streams.settings.settings import Settings

_START_S = 60.0
_ASK_S = 5.0
_POLL_S = 0.05
_TAIL_LINES = 12
_LISTENING = re.compile(r"api\.listening url=(http://\S+)")
_AT_WORK = re.compile(r"worker\.assigned partitions=([1-9]\d*)")
_BROKER_SETTINGS = {
    # One's own mail may hold attachments of this size; Kafka's default is 1 MiB.
    "message.max.bytes": str(40 << 20),
}


class StageError(XferqError):
    """Something that the demo needs does not run; the message shows the end of its log."""


class Stage:
    """A context manager: all of it runs inside, nothing of it is left outside.

    `run` is empty on a broker of the demo's own. On a cluster that the settings name it is a short random
    text, and stands in the name of everything that the demo makes there.
    """

    def __init__(self, settings: Settings, report: Report) -> None:
        self._report = report
        self._exits = ExitStack()
        self.is_embedded = settings.bootstrap_servers == EMBEDDED
        self.run = "" if self.is_embedded else f"demo{uuid.uuid4().hex[:8]}"
        self.settings = settings if self.is_embedded else settings.model_copy(update=_own_names(self.run))
        self.api_url = ""
        self._is_closed = False
        self._made: set[str] = set()
        self._children = Children()
        self._logs: dict[str, Path] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, remove what was made; a second time nothing.

        Ctrl-C is switched off meanwhile: an impatient user would leave processes behind.
        """
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if not self._is_closed:
                self._is_closed = True
                with self._report.doing() as say:
                    say("ending what was started")
                    self._exits.close()
        finally:
            signal.signal(signal.SIGINT, before)

    def made(self, *topics: str) -> None:
        """Topics to remove at the end, where the cluster is not the demo's to throw away."""
        self._made.update(topics)

    def check(self) -> None:
        """See that everything is still running.

        Raises:
            StageError: something is not.
        """
        ended = self._children.ended()
        if ended is not None:
            name, status = ended
            raise StageError(f"the {name} has ended with status {status}. The end of its log:\n{self._tail(name)}")

    def _start(self) -> None:
        with self._report.doing() as say:
            if self.is_embedded:
                require_plain(self.settings)
                broker = EmbeddedBroker(settings=_BROKER_SETTINGS, on_progress=say)
                self._exits.callback(broker.stop)
                broker.start()
                self.settings = self.settings.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
                folder = broker.data_dir  # so removed with it, even after a kill -9
            else:
                asyncio.run(require_reachable(Connection(self.settings)))
                folder = Path(tempfile.mkdtemp(prefix="xferq-demo-"))
                self._exits.callback(shutil.rmtree, folder, ignore_errors=True)
            say("creating topics")
            asyncio.run(self._make_topics())
            say("starting the api and a worker")
            self._exits.enter_context(self._children)
            for name, *arguments in (("worker",), ("api", "--port", "0")):
                self._logs[name] = folder / f"xferq-{name}.log"
                self._children.start(name, [name, *arguments], _environment(self.settings, folder), self._logs[name])
            self.api_url = self._wait_for("api", _LISTENING)
            self._wait_until_ready()
            self._wait_for("worker", _AT_WORK)

    def _wait_for(self, name: str, pattern: re.Pattern[str]) -> str:
        """Wait until something stands in a child's log; the pattern's first group."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            found = pattern.search(self._logs[name].read_text(errors="replace"))
            if found is not None:
                return found[1]
            self.check()
            time.sleep(_POLL_S)
        raise StageError(f"the {name} was not ready in time. The end of its log:\n{self._tail(name)}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        missing = "it does not answer"
        # No proxy of the surroundings: the api is on loopback.
        transport = Transport(self.api_url, environment={})
        while time.monotonic() < deadline:
            self.check()
            try:
                answer = transport.exchange("GET", "/readyz", connect_s=_ASK_S, timeout_s=_ASK_S)
            except (NotReached, NoAnswer) as error:
                missing = str(error)
            else:
                if answer.is_success:
                    return
                missing = answer.body.decode(errors="replace")
            time.sleep(_POLL_S)
        raise StageError(f"the api is not ready: {missing}. The end of its log:\n{self._tail('api')}")

    def _tail(self, name: str) -> str:
        lines = self._logs[name].read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    async def _make_topics(self) -> None:
        """Make the internal topics; on a user's cluster the demo looks at no other topic, let alone changes one."""
        settings = self.settings
        async with Cluster(settings) as kafka:
            if self.is_embedded:
                reports = await apply_layout(kafka.connection, settings)
                bad = [f"{report.topic}: {'; '.join(report.details)}" for report in reports if not report.is_good]
                if bad:
                    raise StageError(f"topics can't be created: {', '.join(bad)}")
                return
            self._exits.callback(lambda: asyncio.run(self._remove_topics()))
            for role, name, partitions in (
                ("commands", settings.commands_topic, settings.commands_partitions),
                ("drains", settings.drains_topic, settings.drains_partitions),
                ("ledger", settings.ledger_topic, ledger_width(settings.ledger_partitions)),
                ("log", settings.log_topic, settings.log_partitions),
                ("results", settings.results_topic, settings.results_partitions),
            ):
                self.made(name)
                topics = Topics(kafka.connection)
                failed = await topics.create({name: partitions}, INTERNAL_CONFIG[role], settings.replication_factor)
                if failed:
                    raise StageError(f"topic {name} can't be created: {failed[name]}")
            await wait_for_topics(kafka, self._made)

    async def _remove_topics(self) -> None:
        async with Cluster(self.settings) as kafka:
            try:
                await Topics(kafka.connection).delete(self._made)
            except Unavailable as error:
                self._report.say(f"these topics could not be removed ({error}): {', '.join(sorted(self._made))}")


async def wait_for_topics(kafka: Cluster, names: Collection[str]) -> None:
    """Wait until Kafka shows topics that were created: its brokers know them a little later only.

    Raises:
        StageError: it does not.
    """
    deadline = time.monotonic() + _START_S
    while not set(names) <= set(await kafka.topics()):
        if time.monotonic() > deadline:
            raise StageError(f"created, but Kafka does not show all of these topics: {', '.join(names)}")
        await asyncio.sleep(_POLL_S)


def _own_names(run: str) -> dict[str, str]:
    """Names that no other xferq on the cluster has.

    The groups as well: a worker frees the space below the heads of every queue, by its own ledger. With a
    group template of the demo's own it finds no heads but the demo's.
    """
    return {
        "commands_topic": f"xferq.{run}.commands",
        "drains_topic": f"xferq.{run}.drains",
        "ledger_topic": f"xferq.{run}.ledger",
        "log_topic": f"xferq.{run}.delivery-log",
        "results_topic": f"xferq.{run}.results",
        "worker_group": f"xferq.{run}.worker",
        "group_template": f"xferq.{run}.dispatch.{{topic}}",
    }


def _environment(settings: Settings, folder: Path) -> dict[str, str]:
    names = ("bootstrap_servers", *_own_names(""))
    own = {f"XFERQ_{name.upper()}": str(getattr(settings, name)) for name in names}
    # Its own api, for this machine alone, however another one is set up.
    plain = dict.fromkeys(("USERS_FILE", "TLS_CERT", "TLS_KEY", "TLS_KEY_PASSWORD", "TLS_CLIENT_CA"), "")
    own |= {f"XFERQ_API_{name}": value for name, value in plain.items()}
    own |= {"XFERQ_API_TRUSTED_HOSTS": "127.0.0.0/8", "XFERQ_API_TRUSTED_PROXIES": ""}
    own |= {"XFERQ_API_LISTEN_HOST": "127.0.0.1", "XFERQ_LOG_LEVEL": "INFO"}
    # Faust makes a data folder where temporary things go.
    return {**own, "XFERQ_METRICS_PORT": "0", "XFERQ_WORKER_PROCESSES": "1", "TMPDIR": str(folder)}
