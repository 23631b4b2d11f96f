"""How values of settings may be written in the environment and in a file: lists, networks, what may be left empty."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr

from streams.domain.network import Network, parse_network


def _listed(value: object) -> object:
    """A list from the environment: JSON, or words with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("is not a valid JSON list") from None
    return [word.strip() for word in value.split(",") if word.strip()]


def _networks(value: object) -> object:
    listed = _listed(value)
    if not isinstance(listed, list | tuple):
        raise ValueError("must be a list of networks")
    return tuple(parse_network(str(word)) for word in listed)


def _template(value: str) -> str:
    try:
        value.format(topic="queue.x")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError("may hold {topic} and no other braces") from error
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _if_any(value: object) -> object:
    """An empty variable is one that is not set."""
    return None if value == "" else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Template = Annotated[str, AfterValidator(_template)]
MaybeFile = Annotated[Path | None, BeforeValidator(_if_any)]
MaybeText = Annotated[str | None, BeforeValidator(_if_any)]
MaybeSecret = Annotated[SecretStr | None, BeforeValidator(_if_any)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]
