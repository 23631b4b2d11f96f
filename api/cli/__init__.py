"""`xferq`, the command line."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer

from api.cli.configuration import configurable
from api.cli.output import note
from api.commands import ENDPOINTS
from streams import __version__
from streams.errors import InvalidSettings, XferqError
from streams.telemetry.logs import complain, quiet_libraries

app = typer.Typer(
    name="xferq",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Transfer queues on Kafka: move scheduled mail queues to another node, and undo that.\n\n"
    "Try it: `xferq demo` shows everything at work. `xferq up` starts Kafka, the API and a worker on this machine; "
    "then `inject` mail, `transfer` it, `cancel` the transfer, and look at `status`, `queues` and `log`.\n\n"
    "Every setting is an environment variable `XFERQ_...`, or is in the file named by `--config`; `xferq config` shows "
    "the settings in force. XFERQ_BOOTSTRAP_SERVERS names a Kafka cluster; without it, the embedded one is used.",
)
_COMMANDS: Mapping[str, str] = {
    "demo": "processes",
    "up": "processes",
    "broker": "processes",
    "api": "processes",
    "worker": "processes",
    "health": "checkup",
    "inject": "injecting",
    **{endpoint.verb: "transfers" for endpoint in ENDPOINTS.values()},
    "status": "transfers",
    "withdraw": "transfers",
    "queues": "inspection",
    "log": "inspection",
    "topics": "inspection",
    "backup": "keeping",
    "restore": "keeping",
    "acls": "keeping",
    "config": "configuration",
    "hash-password": "passwords",
}
"""All commands in the order of the help, with the module of this package that has each."""


def add_commands(arguments: Sequence[str]) -> None:
    """Give the app the command that the arguments ask for; all of them where they ask for none.

    What one command needs takes less than half of the time that importing everything takes.
    """
    of_types = {endpoint.verb: type for type, endpoint in ENDPOINTS.items()}
    asked = next((argument for argument in arguments if not argument.startswith("-")), "")
    for name in [asked] if asked in _COMMANDS else _COMMANDS:
        module = import_module(f"{__name__}.{_COMMANDS[name]}")
        command = module.command_of(of_types[name]) if name in of_types else getattr(module, name.replace("-", "_"))
        app.command(name)(configurable(command))


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"xferq {__version__}")
        raise typer.Exit


@app.callback()
def before_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What `xferq` takes before a command; its help is the app's."""


def main() -> None:
    """Run the command line. Exit status: 0, 1 where it failed, 2 where it was used wrongly."""
    if not __debug__:
        note("xferq: don't run it with python -O or PYTHONOPTIMIZE: that disables safety checks in its Kafka library")
        sys.exit(2)
    quiet_libraries()
    add_commands(sys.argv[1:])
    try:
        app()
    except XferqError as error:
        complain("xferq", error)
        sys.exit(2 if isinstance(error, InvalidSettings) else 1)
