"""`xferq`, the command line."""

import sys
from typing import Annotated

import typer

from api.cli.checkup import health
from api.cli.configuration import config, configurable
from api.cli.injecting import inject
from api.cli.inspection import log, queues, topics
from api.cli.keeping import acls, backup, restore
from api.cli.output import note
from api.cli.passwords import hash_password
from api.cli.processes import api, broker, demo, up, worker
from api.cli.transfers import cancel, status, transfer
from streams import __version__
from streams.errors import InvalidSettings, XferqError
from streams.logs import complain, quiet_libraries

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
for _command in (
    demo,
    up,
    broker,
    api,
    worker,
    health,
    inject,
    transfer,
    cancel,
    status,
    queues,
    log,
    topics,
    backup,
    restore,
    acls,
    config,
    hash_password,
):
    app.command(_command.__name__.replace("_", "-"))(configurable(_command))


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
    try:
        app()
    except XferqError as error:
        complain("xferq", error)
        sys.exit(2 if isinstance(error, InvalidSettings) else 1)
