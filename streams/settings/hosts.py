"""How values of settings that name hosts may be written: what no part could use, none takes."""

from typing import Annotated

from pydantic import AfterValidator

from streams.domain.network import parse_host, parse_server
from streams.settings.notation import Words

EMBEDDED = "embedded"
"""The value of `bootstrap_servers` that asks for a broker of our own (`xferq up`, `xferq demo`)."""


def _servers(value: str) -> str:
    if value != EMBEDDED:
        for server in value.split(","):
            parse_server(server)
    return value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(parse_host, value))


Servers = Annotated[str, AfterValidator(_servers)]
"""Kafka's servers, which each of its clients would else read in its own way; or `EMBEDDED`."""
Hosts = Annotated[Words, AfterValidator(_hosts)]
"""Hosts as browsers ask for them."""
