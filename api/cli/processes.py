"""`xferq up`, `broker`, `api`, `worker`, `demo`: what runs until it is told to end."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from api.address import DEFAULT_HOST, require_guarded
from api.children import Children, end_with_parent
from api.cli.output import broker_progress, note
from api.client import ApiClient
from api.embedded import announced, data_folder, require_plain, running_up, with_kafka
from streams.broker import EmbeddedBroker, PortInUseError
from streams.errors import Misconfigured, Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.kafka.reachable import require_reachable
from streams.settings.hosts import EMBEDDED
from streams.settings.settings import Settings, load_settings

KAFKA_PORT = 9092
_READY_S = 60.0
_POLL_S = 0.2

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Where the embedded Kafka keeps its data.", show_default="~/.local/share/xferq/kafka"),
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The embedded Kafka's port; 0 takes a free one.")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True)]


def demo(
    mail: Annotated[
        list[Path] | None,
        typer.Option(
            "--mail", help="Your own mail: an mbox, a maildir or a folder of .eml files; may be given more than once."
        ),
    ] = None,
) -> None:
    """See it work: mail goes into an xfer queue and comes back, on a real Kafka.

    It ends with a table of what went where, and with exit status 1 if a number is not as it must be. It takes less
    than two minutes, after fetching Kafka the first time, and leaves nothing behind.

    Example: `xferq demo --mail ~/Mail/archive.mbox`
    """
    from api.demo.run import run

    raise typer.Exit(run(load_settings(), mail))


def up(
    data: Data = None,
    port: Port = KAFKA_PORT,
    api_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The API's port; 0 takes a free one.", show_default="8000")
    ] = None,
) -> None:
    """Run Kafka, the API and a worker on this machine, until Ctrl-C.

    If XFERQ_BOOTSTRAP_SERVERS is set, it uses that Kafka instead of the embedded one. While it runs, the other
    commands find it by themselves.

    Example: `xferq up`, and in another terminal `xferq inject mytenant@example.com mail.mbox`
    """
    settings = load_settings(api_listen_port=api_port)
    if data is None and port == KAFKA_PORT and settings.bootstrap_servers == EMBEDDED and (it := running_up()):
        note(f"xferq is up already, by process {it.pid}\nKafka:  {it.bootstrap_servers}\nAPI:    {it.api_url}/docs")
        return
    with ExitStack() as stack:
        stack.enter_context(_ending_in_order())
        kafka: EmbeddedBroker | None = None
        if settings.bootstrap_servers == EMBEDDED:
            require_plain(settings)
            kafka = stack.enter_context(_embedded(data, port))
            settings = settings.model_copy(update={"bootstrap_servers": kafka.bootstrap_servers})
        asyncio.run(_prepare(settings))
        scheme = "https" if settings.api_tls_cert else "http"
        url = f"{scheme}://{DEFAULT_HOST}:{settings.api_listen_port or _free_port()}"
        children = stack.enter_context(Children())
        variables = {"XFERQ_BOOTSTRAP_SERVERS": settings.bootstrap_servers}
        children.start("api", ["api", "--host", DEFAULT_HOST, "--port", url.rpartition(":")[2]], variables)
        children.start("worker", ["worker"], variables)
        _await_ready(settings.model_copy(update={"api_url": url}), children)
        stack.enter_context(announced(settings.bootstrap_servers, url))
        note(f"\nKafka:  {settings.bootstrap_servers}\nAPI:    {url}/docs\nCtrl-C ends it.\n")
        while True:
            _require_all(children)
            if kafka is not None and not kafka.is_running:
                raise _ended(kafka)
            time.sleep(_POLL_S)


def broker(data: Data = None, port: Port = KAFKA_PORT) -> None:
    """Run the embedded Kafka alone, on loopback, until Ctrl-C.

    Example: `xferq broker`, then in other terminals `xferq topics`, `xferq api`, `xferq worker`
    """
    with ExitStack() as stack:
        stack.enter_context(_ending_in_order())
        running = stack.enter_context(_embedded(data, port))
        stack.enter_context(announced(running.bootstrap_servers))
        note(f"Kafka: {running.bootstrap_servers}\nIts log: {running.log_path}\nCtrl-C ends it.")
        while running.is_running:
            time.sleep(_POLL_S)
        raise _ended(running)


def api(
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default=DEFAULT_HOST)] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.", show_default="8000")
    ] = None,
    unprotected: Annotated[
        bool,
        typer.Option(
            "--unprotected", help="Let in everybody who can reach it, under any host name: no access control."
        ),
    ] = False,
    with_parent: WithParent = False,
) -> None:
    """Run the HTTP API.

    It also starts without Kafka: until Kafka is there it answers 503, and /readyz says what is missing. Clients on a
    trusted host (by default this machine) may use it; others need a user in XFERQ_API_USERS_FILE or a certificate.

    Example: `XFERQ_BOOTSTRAP_SERVERS=kafka-1:9092,kafka-2:9092 xferq api --port 8000`
    """
    from api.server import serve

    if with_parent:
        end_with_parent()
    settings = load_settings(api_listen_host=host, api_listen_port=port)
    if not unprotected:
        require_guarded(settings)  # before Kafka is looked for
    raise typer.Exit(serve(with_kafka(settings), unprotected=unprotected))


def worker(
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many processes share the work.", show_default="by the cores, 4 at most"),
    ] = None,
    with_parent: WithParent = False,
) -> None:
    """Run a worker, which carries out commands and moves messages. Run as many as you like.

    SIGTERM or Ctrl-C ends it within 10 s at the edge of a transaction; another worker takes over what is left.

    Example: `XFERQ_BOOTSTRAP_SERVERS=kafka-1:9092,kafka-2:9092 xferq worker`
    """
    from streams.worker.supervisor import run_workers

    run_workers(with_kafka(load_settings(worker_processes=processes)), with_parent=with_parent)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, and from then on disturb nothing that it has to put away.

    Nothing is lost if that is ended by force: what was started watches this process.
    """

    def end(_: int, __: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        note("ended")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _embedded(data: Path | None, port: int) -> Iterator[EmbeddedBroker]:
    with broker_progress() as show:
        running = EmbeddedBroker(data or data_folder(), port=port, on_progress=show)
        try:
            running.start()
        except PortInUseError as error:
            raise PortInUseError(f"{error}. --port names another one, --port 0 takes a free one") from error
    try:
        yield running
    finally:
        note("ending Kafka")
        running.stop()


async def _prepare(settings: Settings) -> None:
    async with Cluster(settings) as kafka:
        await require_reachable(kafka.connection)
        for report in await apply_layout(kafka.connection, settings):
            if not report.is_good:
                raise Misconfigured(f"topic {report.topic}: {'; '.join(report.details)}")


def _await_ready(settings: Settings, children: Children) -> None:
    deadline = time.monotonic() + _READY_S
    with ApiClient.of(settings) as client:
        while not client.is_ready():
            _require_all(children)
            if time.monotonic() > deadline:
                raise Unavailable(f"the api did not become ready within {_READY_S:.0f} s; {client.url}/readyz says why")
            time.sleep(_POLL_S)


def _require_all(children: Children) -> None:
    ended = children.ended()
    if ended is not None:
        name, status = ended
        raise Unavailable(f"the {name} has ended with status {status}; what it said stands above")


def _ended(kafka: EmbeddedBroker) -> Unavailable:
    return Unavailable(f"Kafka has ended by itself; its log is {kafka.log_path}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((DEFAULT_HOST, 0))
        return int(probe.getsockname()[1])
