"""One Apache Kafka on this machine, as a KRaft node: broker and controller in one Java process."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from streams.broker.config import Membership, Route, log4j2_properties, server_properties, write_properties
from streams.broker.data_folder import DataFolder
from streams.broker.extra import not_installed
from streams.broker.failure import BrokerError, PortInUseError
from streams.broker.jars import KAFKA_VERSION, kafka_jars
from streams.broker.java import java_command
from streams.broker.ports import LOOPBACK, free_ports, is_free
from streams.broker.probe import live_nodes
from streams.broker.process import BrokerProcess

START_TIMEOUT_S = 60.0
_POLL_S = 0.05
_TAIL_LINES = 15
_TRIES = 5


class EmbeddedBroker:
    """An Apache Kafka of one's own, on loopback only; it ends with this process, however that ends.

    Also a context manager: started on entry, stopped on exit. All methods block; none is a coroutine.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int = 0,
        controller_port: int = 0,
        settings: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        on_progress: Callable[[str], None] | None = None,
        membership: Membership | None = None,
        route: Route | None = None,
    ) -> None:
        """Describe a broker; nothing is started or written yet.

        Args:
            data_dir: folder for everything the broker keeps, made if missing; kept at the end, and used again
                by the next start. None: a temporary one, removed by stop().
            port: loopback port for clients; 0 for a free one, chosen by the first start() and then kept.
            controller_port: the same for the controller.
            settings: broker settings (server.properties) on top of this class's own.
            heap_mb: largest Java heap, in MB of 1,048,576 bytes.
            on_progress: told in words what a start is doing (fetching, formatting, starting).
            membership: the node's place in an EmbeddedCluster; None for a cluster of one.
            route: ports of a second listener for clients that come through a proxy; None: there is none.
        """
        self._folder = DataFolder(data_dir)
        self._wanted_ports = (port, controller_port)
        self._port, self._controller_port = port, controller_port
        self._settings = dict(settings or {})
        self._heap_mb = heap_mb
        self._on_progress = on_progress or (lambda _: None)
        self._membership = membership
        self._route = route
        self._process: BrokerProcess | None = None
        self._log_start = 0

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients.

        Raises:
            BrokerError: the port was left to be chosen and nothing was started yet.
        """
        if not self._port:
            raise BrokerError("the broker has no port before its first start")
        return f"{LOOPBACK}:{self._port}"

    @property
    def port(self) -> int:
        """Port for clients; 0 if it is yet to be chosen."""
        return self._port

    @property
    def data_dir(self) -> Path:
        """The folder in use.

        Raises:
            BrokerError: it is a temporary one that isn't there now.
        """
        return self._folder.path

    @property
    def log_path(self) -> Path:
        """Kafka's own log, a text file in the data folder."""
        return self._folder.broker_log

    @property
    def java_pid(self) -> int | None:
        """Process id of Java while it runs."""
        return self._process.java_pid if self._process and self._process.is_running else None

    @property
    def watchdog_pid(self) -> int | None:
        """Process id of Java's watchdog while Java runs."""
        return self._process.watchdog_pid if self._process and self._process.is_running else None

    @property
    def is_running(self) -> bool:
        """True from the start until Java has ended, however it ended (a paused broker is running)."""
        return self._process is not None and self._process.is_running

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the broker and wait until it answers; the first start ever fetches Kafka before.

        Args:
            timeout_s: seconds that Kafka may take from its launch until it answers.

        Raises:
            BrokerError: with the reason and, where Kafka was launched, the end of its log.
        """
        if self.is_running:
            raise BrokerError("the broker is running already")
        for tries_left in reversed(range(_TRIES)):
            try:
                self.launch()
                self.wait_until_ready({self._node_id}, timeout_s)
                return
            except BaseException as error:
                self.kill()
                self._folder.remove_temporary()
                # A port chosen freely can be taken by another program meanwhile: choose again. A caller that
                # wants a certain one gets the error, and so does the cluster, which has told all nodes of its choice.
                if not (isinstance(error, PortInUseError) and tries_left and self._may_choose_again()):
                    raise
                self._port, self._controller_port = self._wanted_ports

    def launch(self) -> None:
        """The first half of start(), for a cluster: format the data folder if need be and start Java.

        Raises:
            BrokerError: as start(); nothing is cleaned up here.
        """
        if reason := not_installed():  # before 45 MB are fetched for nothing
            raise BrokerError(reason)
        jars = kafka_jars(self._on_progress)
        self._choose_ports()
        try:
            options = self._prepare(jars)
        except OSError as error:
            raise BrokerError(f"the broker's data folder can't be used: {error}") from error
        self._on_progress(f"starting Apache Kafka {KAFKA_VERSION} on {self.bootstrap_servers}")
        command = java_command("kafka.Kafka", jars, heap_mb=self._heap_mb, options=options)
        self._process = BrokerProcess(
            [*command, str(self._folder.server_properties)],
            console_log=self._folder.console_log,
            remove_dir=self._membership.scratch_dir if self._membership else self._folder.temporary,
        )

    def wait_until_ready(self, nodes: set[int], timeout_s: float = START_TIMEOUT_S) -> None:
        """The second half of start(): wait until the broker answers and knows these nodes to be alive.

        Raises:
            BrokerError: it ended, or did not get there in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not live_nodes(self._port) >= nodes:
            if not self.is_running:
                self._fail("Kafka ended while it was starting")
            if time.monotonic() > deadline:
                self._fail(f"Kafka did not answer on {self.bootstrap_servers} within {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def stop(self, timeout_s: float = 20.0) -> None:
        """End the broker in order and remove a temporary data folder; no-op if it doesn't run.

        Args:
            timeout_s: seconds after which it is killed instead.
        """
        if self._process:
            self._process.terminate(timeout_s)
            self._process = None
        self._folder.remove_temporary()

    def kill(self) -> None:
        """Crash: SIGKILL to Java. Its data folder stays for the next start, also a temporary one."""
        if self._process:
            self._process.kill()
            self._process = None

    def pause(self) -> None:
        """Make the broker hang (SIGSTOP): connections stay open, nothing is answered."""
        self._running_process().pause()

    def resume(self) -> None:
        """End a pause (SIGCONT)."""
        self._running_process().resume()

    @property
    def _route_ports(self) -> tuple[int, ...]:
        return (self._route.port,) if self._route else ()  # not the proxy's: it may well listen already

    @property
    def _node_id(self) -> int:
        return self._membership.node_id if self._membership else 1

    def _running_process(self) -> BrokerProcess:
        if self._process is None or not self._process.is_running:
            raise BrokerError("the broker isn't running")
        return self._process

    def _choose_ports(self) -> None:
        for port in (self._port, self._controller_port, *self._route_ports):
            if port and not is_free(port):
                raise PortInUseError(f"port {port} on {LOOPBACK} is in use by another program")
        chosen = iter(free_ports(2))
        self._port = self._port or next(chosen)
        self._controller_port = self._controller_port or next(chosen)

    def _may_choose_again(self) -> bool:
        return self._membership is None and all(
            is_free(port) for port in (*self._wanted_ports, *self._route_ports) if port
        )

    def _prepare(self, jars: Sequence[Path]) -> list[str]:
        """Make the data folder ready for Kafka; returns the options for Java that go with it."""
        folder = self._folder
        folder.open()
        cluster_id = folder.cluster_id(self._membership.cluster_id if self._membership else None)
        membership = self._membership or Membership(
            cluster_id=cluster_id, node_id=1, controllers={1: self._controller_port}
        )
        properties = server_properties(
            membership, port=self._port, log_dir=folder.kafka, settings=self._settings, route=self._route
        )
        write_properties(folder.server_properties, properties)
        write_properties(folder.log4j2_properties, log4j2_properties(folder.broker_log))
        options = [f"-Dlog4j2.configurationFile={folder.log4j2_properties}"]
        folder.format(cluster_id, jars, options)
        self._log_start = folder.broker_log.stat().st_size if folder.broker_log.exists() else 0
        return options

    def _fail(self, what: str) -> NoReturn:
        log = self._folder.log_since(self._log_start)
        if "Address already in use" in log:
            ports = " or ".join(str(port) for port in (self._port, self._controller_port, *self._route_ports))
            raise PortInUseError(f"port {ports} on {LOOPBACK} is in use: {what}")
        tail = "\n".join(log.splitlines()[-_TAIL_LINES:])
        raise BrokerError(f"{what}. The end of its log:\n{tail}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<EmbeddedBroker {LOOPBACK}:{self._port or '?'} {state}>"
