"""`xferq config`, and `--config` of every command: what is set, and where."""

import inspect
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.output import print_columns, print_json
from streams.settings.sources import CONFIG

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help=f"A TOML file with settings, named in lower case; {CONFIG} names it as well."
    ),
]


def configurable(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option `--config`: the file is for processes that it starts, too."""

    @wraps(command)
    def run(*, config: Path | None = None, **options: Any) -> None:
        if config is not None:
            os.environ[CONFIG] = str(config)
        command(**options)

    signature = inspect.signature(command)
    option = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = command.__annotations__ | {"config": ConfigFile}
    return run


def config(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False) -> None:
    """Print the settings in force and where each comes from; secrets are not shown.

    Order of precedence: command line, environment, file, defaults.

    Example: `xferq config --config /etc/xferq.toml`
    """
    from api.client import without_credentials
    from streams.native.extension import is_used
    from streams.settings.settings import load_with_origins

    settings, origins = load_with_origins()
    values = settings.shown()
    values["api_url"] = without_credentials(settings.api_url)
    rows = {name: {"value": value, "from": origins[name]} for name, value in values.items()}
    rows["native"]["is_used"] = is_used(settings)
    if as_json:
        print_json(rows)
        return
    values["native"] = f"{settings.native} ({'used' if is_used(settings) else 'not used'})"
    print_columns(
        ["SETTING", "VALUE", "FROM"],
        [[name, _text(value), origins[name]] for name, value in values.items()],
    )


def _text(value: object) -> object:
    if isinstance(value, list):
        return ",".join(map(str, value)) or None
    return value
