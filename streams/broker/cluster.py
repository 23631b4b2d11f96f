"""Several embedded brokers as one Kafka cluster, for tests of faults."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.broker.config import Membership, Route
from streams.broker.data_folder import new_cluster_id
from streams.broker.failure import BrokerError, PortInUseError
from streams.broker.node import START_TIMEOUT_S, EmbeddedBroker
from streams.broker.ports import free_ports

_TRIES = 5


class EmbeddedCluster:
    """Kafka nodes on loopback, each broker and controller; topics replicated to up to three by default.

    Replication factor 3 and min.insync.replicas 2 with three nodes or more. A node of `nodes` can be stopped,
    killed, paused and started again by itself: it keeps its data and ports. A majority of the nodes must be up
    for a start of one to succeed; start() of the cluster starts all that aren't running. Also a context manager.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        data_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        relayed: bool = False,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        """Describe a cluster; nothing is started yet.

        Args:
            nodes: how many; their ids are 1 to nodes.
            data_dir: folder that gets one folder for each node, kept at the end; None for a temporary one.
            settings, heap_mb, on_progress: as for EmbeddedBroker, for every node.
            relayed: each node gets a second listener, for clients that come through a proxy: see `routes`. The
                nodes among themselves and the clients of bootstrap_servers go on without it.
        """
        self._size = nodes
        self._given_dir = data_dir
        self._scratch_dir: Path | None = None
        self._settings = dict(settings or {})
        self._heap_mb = heap_mb
        self._on_progress = on_progress
        self._relayed = relayed
        self._routes: dict[int, Route] = {}
        self._nodes: list[EmbeddedBroker] = []

    @property
    def nodes(self) -> list[EmbeddedBroker]:
        """The nodes in the order of their ids: nodes[0] has id 1. Empty before the first start."""
        return list(self._nodes)

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of every node, separated by commas.

        Raises:
            BrokerError: nothing was started yet.
        """
        if not self._nodes:
            raise BrokerError("the cluster has no ports before its first start")
        return ",".join(node.bootstrap_servers for node in self._nodes)

    @property
    def routes(self) -> dict[int, Route]:
        """For each node id the two ports of its relayed listener, kept as long as the nodes are.

        Empty before the first start, and where the cluster isn't relayed.
        """
        return dict(self._routes) if self._nodes else {}

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start every node that doesn't run, and wait until each knows all others.

        Args:
            timeout_s: seconds that Kafka may take from its launch until all answer.

        Raises:
            BrokerError: with the reason and the end of a log; nothing runs then.
        """
        for tries_left in reversed(range(_TRIES)):
            first = not self._nodes
            try:
                if first:
                    self._lay_out()
                self._start_nodes(timeout_s)
                return
            except BaseException as error:
                for node in self._nodes:
                    node.kill()
                if first:
                    self._nodes = []
                    self._remove_scratch()
                # Ports were chosen freely and one was taken meanwhile: choose again.
                if not (isinstance(error, PortInUseError) and first and tries_left):
                    raise

    def stop(self, timeout_s: float = 10.0) -> None:
        """End every node and remove a temporary data folder.

        The nodes end at the same time, so the last ones can't leave the cluster in order, for want of a quorum:
        whatever hasn't ended after timeout_s seconds is killed, which Kafka is made for.
        """
        if self._nodes:
            with ThreadPoolExecutor(len(self._nodes)) as pool:
                list(pool.map(lambda node: node.stop(timeout_s), self._nodes))
        if self._scratch_dir:
            self._nodes = []
            self._remove_scratch()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        running = sum(node.is_running for node in self._nodes)
        return f"<EmbeddedCluster {running} of {self._size} running>"

    def _lay_out(self) -> None:
        """Choose ports, which every node must know of all others, and folders."""
        folder = self._given_dir
        if folder is None:
            folder = self._scratch_dir = Path(tempfile.mkdtemp(prefix="xferq-cluster-"))
        ids = range(1, self._size + 1)
        drawn = iter(free_ports(4 * self._size))
        ports = {node_id: next(drawn) for node_id in ids}
        controllers = {node_id: next(drawn) for node_id in ids}
        self._routes = {node_id: Route(next(drawn), next(drawn)) for node_id in ids} if self._relayed else {}
        cluster_id = self._stored_cluster_id(folder)
        self._nodes = [
            EmbeddedBroker(
                folder / f"node-{node_id}",
                port=ports[node_id],
                controller_port=controllers[node_id],
                settings=self._settings,
                heap_mb=self._heap_mb,
                on_progress=self._on_progress,
                membership=Membership(
                    cluster_id=cluster_id,
                    node_id=node_id,
                    controllers=controllers,
                    scratch_dir=self._scratch_dir,
                ),
                route=self._routes.get(node_id),
            )
            for node_id in ids
        ]

    def _stored_cluster_id(self, folder: Path) -> str:
        """The id that the nodes' folders have from an earlier run, else a new one."""
        for stored in sorted(folder.glob("node-*/cluster.id")):
            return stored.read_text().strip()
        return new_cluster_id()

    def _start_nodes(self, timeout_s: float) -> None:
        down = [node for node in self._nodes if not node.is_running]
        with ThreadPoolExecutor(self._size) as pool:
            list(pool.map(lambda node: node.launch(), down))
            everyone = set(range(1, self._size + 1))
            list(pool.map(lambda node: node.wait_until_ready(everyone, timeout_s), self._nodes))

    def _remove_scratch(self) -> None:
        if self._scratch_dir:
            shutil.rmtree(self._scratch_dir, ignore_errors=True)
            self._scratch_dir = None
