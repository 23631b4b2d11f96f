"""`xferq health`: whether what runs here can work, for whatever watches a container and has no curl."""

import ssl
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

import typer

from api.address import url_host
from api.transport import Answer, NoAnswer, NotReached, Transport
from streams.errors import Misconfigured, Unavailable
from streams.settings.settings import Settings, load_settings

_TIMEOUT_S = 4.0


class Part(StrEnum):
    """What has a port that can be asked."""

    API = "api"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class _Answer:
    url: str
    is_there: bool
    is_well: bool = False
    said: str = ""


def health(
    part: Annotated[
        Part | None, typer.Argument(help="Which one to ask; by default whichever is running.", show_default=False)
    ] = None,
) -> None:
    """Ask the api or the worker on this machine whether it can work: exit status 0 if it can, 1 if not.

    It uses the same settings as they do: addresses and ports, TLS, and the number of worker processes. It sends no
    password and needs none: an api that does not even let this machine in counts as working if it is alive.

    Example: `xferq health worker`
    """
    settings = load_settings()
    asked = [_ask_all(urls) for name, urls in _doors(settings).items() if part in (None, name)]
    if part is not None and not any(asked):
        raise Misconfigured("XFERQ_METRICS_PORT is 0: the worker has no port that could be asked")
    there = [answers for answers in asked if any(answer.is_there for answer in answers)]
    if not there:
        urls = " and ".join(answer.url for answers in asked for answer in answers)
        raise Unavailable(f"nothing of xferq's listens at {urls}")
    # Where some of a worker's processes are there, all have to be.
    answers = [answer for answers in there for answer in answers]
    for answer in answers:
        if not answer.is_well:
            raise Unavailable(f"{answer.url}: {answer.said}")
    for answer in answers:
        print(f"{answer.url}: {answer.said}")


def _doors(settings: Settings) -> dict[Part, list[str]]:
    """By part, the URLs at which it listens where the settings are these."""
    scheme = "https" if settings.api_tls_cert else "http"
    api = f"{scheme}://{url_host(settings.api_listen_host)}:{settings.api_listen_port}"
    host = url_host(settings.metrics_host)
    first = settings.metrics_port
    ports = range(first, first + settings.worker_processes) if first else ()
    return {Part.API: [api], Part.WORKER: [f"http://{host}:{port}" for port in ports]}


def _ask_all(urls: list[str]) -> list[_Answer]:
    # We ask ourselves, and tell nothing: the certificate is for the name that others know.
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return [_ask(url, tls) for url in urls]


def _ask(url: str, tls: ssl.SSLContext) -> _Answer:
    transport = Transport(url, tls=tls, environment={})
    try:
        answer = _get(transport, "/readyz")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            is_alive = _get(transport, "/livez").is_success
            return _Answer(url, True, is_alive, "alive; whether it can work it tells whom it lets in")
        return _Answer(url, True, answer.is_success, _well(answer) if answer.is_success else _detail(answer))
    except NotReached as error:
        return _Answer(url, False, said=str(error) or "can't be reached")
    except NoAnswer as error:
        return _Answer(url, True, said=str(error) or "no answer in time")


def _get(transport: Transport, path: str) -> Answer:
    return transport.exchange("GET", path, connect_s=_TIMEOUT_S, timeout_s=_TIMEOUT_S)


def _well(answer: Answer) -> str:
    """What a worker notes although it can work."""
    try:
        return "; ".join(["ok", *map(str, answer.json().get("notes", ()))])
    except (ValueError, AttributeError, TypeError):
        return "ok"


def _detail(answer: Answer) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"
