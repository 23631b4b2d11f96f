"""`xferq`, the command line."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer

from api.cli.configuration import configurable
from api.cli.output import flushed, note, open_output
from api.commands import ENDPOINTS
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
COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("processes", "See it work: mail goes into an xfer queue and comes back, on a real Kafka."),
    "up": ("processes", "Run Kafka, the API and a worker on this machine, until Ctrl-C."),
    "broker": ("processes", "Run the embedded Kafka alone, on loopback, until Ctrl-C."),
    "api": ("processes", "Run the HTTP API."),
    "worker": ("processes", "Run a worker, which carries out commands and moves messages. Run as many as you like."),
    "health": (
        "checkup",
        "Ask the api or the worker on this machine whether it can work: exit status 0 if it can, 1 if not.",
    ),
    "inject": ("injecting", "Put mail into a scheduled queue. Its topic is created if it does not exist."),
    "": ("transfers", "What `api.commands` has, by the names of its verbs."),
    "status": ("transfers", "Show the status of a command, or list commands, newest first."),
    "withdraw": (
        "transfers",
        "Withdraw a command that has not begun: a cancel before its claim, a transfer before it selects its queues.",
    ),
    "queues": ("inspection", "List the queues, and how full they are."),
    "log": ("delivery_log", "Print the delivery log: one AdminRebind record per moved message."),
    "topics": (
        "inspection",
        "Create xferq's topics, and give all of them, queues included, the settings they need.",
    ),
    "backup": ("keeping", "Print the ledger as it is now, for `xferq restore`."),
    "restore": (
        "keeping",
        "Put a backup into a new, empty ledger, which may have another name and number of partitions.",
    ),
    "acls": (
        "keeping",
        "Print the commands that grant a part of xferq just what it needs on Kafka; by default for all parts.",
    ),
    "config": ("configuration", "Print the settings in force and where each comes from; secrets are not shown."),
    "hash-password": (
        "passwords",
        "Print a line for XFERQ_API_USERS_FILE: the user, and a hash of the password (argon2).",
    ),
    "completion": ("completion", "Print a script by which a shell completes xferq's commands and options."),
}
"""All commands in the order of the help, each with its module in this package and the first words of its help."""


def commands() -> Mapping[str, str]:
    """All commands in the order of the help, with the first words of theirs."""
    found: dict[str, str] = {}
    for name, (_, about) in COMMANDS.items():
        found |= {name: about} if name else {one.verb: one.about.partition("\n")[0] for one in ENDPOINTS.values()}
    return found


def add_commands(arguments: Sequence[str]) -> None:
    """Give the app the command that the arguments ask for; where they ask for none, all of them, by name alone.

    What most commands need takes a second to import, and a list of them needs none of it.
    """
    asked = next((argument for argument in arguments if not argument.startswith("-")), "")
    if asked in commands():
        add_command(app, asked)
        return
    for name, about in commands().items():
        app.command(name, help=about)(_only_listed)


def add_command(to: typer.Typer, name: str) -> None:
    """Give an app the command of this name, with all that it needs."""
    of_type = {endpoint.verb: type for type, endpoint in ENDPOINTS.items()}.get(name)
    module = import_module(f"{__name__}.{COMMANDS['' if of_type else name][0]}")
    command = module.command_of(of_type) if of_type else getattr(module, name.replace("-", "_"))
    to.command(name)(configurable(command))


def _only_listed() -> None:
    """What a command is where the arguments ask for none."""


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from streams import __version__

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
    open_output()
    quiet_libraries()
    add_commands(sys.argv[1:])
    with flushed():
        try:
            app()
        except XferqError as error:
            complain("xferq", error)
            sys.exit(2 if isinstance(error, InvalidSettings) else 1)
