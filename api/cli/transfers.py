"""`xferq transfer`, `cancel` and all that `api.commands` has besides, and `status`: commands over HTTP."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from api.cli.headline import headline
from api.cli.output import note, print_json, progress
from api.cli.status_table import status_table, wants_colour
from api.commands import ENDPOINTS, Endpoint
from streams.domain.command import CRITERIA, Criteria
from streams.telemetry.logs import printable

if TYPE_CHECKING:
    from api.client import ApiClient
    from api.models import CommandStatus

Wait = Annotated[bool, typer.Option("--wait", help="Show the progress until it is done, then print the counts.")]
Id = Annotated[
    str | None,
    typer.Option("--id", help="The command's id. Repeating a command with the same id has no further effect."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def command_of(type: str) -> Callable[..., None]:
    """The command that asks for commands of one type, with an option for each field of their body."""
    endpoint = ENDPOINTS[type]

    def ask(*, wait: bool, id: str | None, as_json: bool, **fields: Any) -> None:
        body = {name: value for name, value in fields.items() if value not in (None, []) and value is not False}
        if issubclass(endpoint.model, Criteria):
            _require_asked(body)
        with _api() as client:
            _follow(client, client.submit(type, body, id), wait=wait, as_json=as_json)

    signature = Signature([*_parameters(endpoint)])
    ask.__signature__ = signature  # type: ignore[attr-defined]
    ask.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    ask.__doc__ = f"{endpoint.about}\n\nExample: `{_example(endpoint)}`"
    return ask


def _require_asked(body: Mapping[str, object]) -> None:
    """See that the body says which queues it takes, and says everything only by itself; as KumoMTA's kcli does."""
    given = [ENDPOINTS["xfer.start"].option(name) for name in CRITERIA if name in body]
    if given and "everything" in body:
        raise typer.BadParameter(f"--everything goes without {given[0]}")
    if not given and "everything" not in body:
        options = ", ".join(ENDPOINTS["xfer.start"].option(name) for name in CRITERIA)
        raise typer.BadParameter(f"which queues? none of {options} is given. --everything takes every scheduled queue")


def _api() -> "ApiClient":
    from api.client import ApiClient  # not for --help
    from streams.settings.settings import load_settings

    return ApiClient.of(load_settings())


def _parameters(endpoint: Endpoint) -> Iterator[Parameter]:
    types = get_type_hints(endpoint.model)  # without their limits
    for name, field in endpoint.body.model_fields.items():
        called, about = endpoint.option(name), field.description or ""
        shown: Any = {"help": f"{about[:1].upper()}{about[1:]}.", "show_default": False}
        option = typer.Option(called, **shown) if called[0] == "-" else typer.Argument(metavar=called, **shown)
        default: Any = Parameter.empty if field.is_required() else None
        yield Parameter(name, Parameter.KEYWORD_ONLY, annotation=Annotated[types[name], option], default=default)
    for name, annotation, default in (("wait", Wait, False), ("id", Id, None), ("as_json", AsJson, False)):
        yield Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _example(endpoint: Endpoint) -> str:
    """The first example of a body, as a command line."""
    words = ["xferq", endpoint.verb]
    for name, value in endpoint.examples[0].items():
        called = endpoint.option(name)
        for item in value if isinstance(value, list) else [value]:
            words += [called, str(item)] if called[0] == "-" else [str(item)]
    return shlex.join(words)


def status(
    id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A command's id, or how it begins; without one, commands are listed."),
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="List only commands about this xfer queue.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="List at most this many.")] = 20,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Show the status of a command, or list commands, newest first.

    The list shows how ids begin, as much of each as tells it apart; `--json` has all of everything.

    Examples: `xferq status`, `xferq status 6f1f6d1c8a554c3f9f0a6f3a8a3f4a0e --wait`
    """
    if wait and id is None:
        raise typer.BadParameter("--wait needs the ID of a command")
    with _api() as client:
        if id is not None:
            id = client.whole_id(id)
            found = _wait(client, id) if wait else client.status(id)
            _show(found, as_json=as_json)
            if wait:
                _exit_with(found)
            return
        listed = client.statuses(limit=limit, queue_name=queue)
        first_line = "" if as_json else headline(client)
    if as_json:
        print_json([item.model_dump() for item in listed])
        return
    print(printable(first_line))
    width, colour = shutil.get_terminal_size().columns, wants_colour(sys.stdout)
    for line in status_table(listed, datetime.now(UTC), width, colour=colour):
        print(line)


def withdraw(
    id: Annotated[str, typer.Argument(metavar="ID", help="A command's id, or how it begins.")],
    reason: Annotated[str | None, typer.Option(help="Why; the command's status shows it.")] = None,
) -> None:
    """Withdraw a command that has not begun: a cancel before its claim, a transfer before it selects its queues.

    Its status is then `refused`. A command that begins at this very moment goes on. Example: `xferq withdraw c1`
    """
    with _api() as client:
        id = client.whole_id(id)
        client.withdraw(id, reason)
    note(f"to be withdrawn; `xferq status {id}` shows whether it had begun")


def _follow(client: "ApiClient", id: str, *, wait: bool, as_json: bool) -> None:
    if not wait:
        if as_json:
            _show(client.status(id), as_json=True)
        else:
            print(id)
            note(f"accepted; `xferq status {id}` shows how far it is")
        return
    found = _wait(client, id)
    _show(found, as_json=as_json)
    _exit_with(found)


def _wait(client: "ApiClient", id: str) -> "CommandStatus":
    try:
        with progress(by_share=True) as bars:  # of offsets: how many of them are messages, shows when all are done
            task = bars.add_task("accepted", total=None)
            for found in client.statuses_until_done(id):
                moved = found.restored + found.returned
                text = f"{found.state} {moved:,} message{'' if moved == 1 else 's'}" if moved else found.state
                text = text if found.detail is None else f"{text}: {printable(found.detail)[:80]}"
                bars.update(task, description=text, completed=found.offsets_done or 0, total=found.offsets_total)
    except KeyboardInterrupt:
        note(f"\nstopped waiting; the command goes on: `xferq status {id} --wait`")
        raise typer.Exit(1) from None
    return found


def _show(found: "CommandStatus", *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump())
        return
    for name, value in found.model_dump().items():
        if name == "returned_reasons":
            value = ", ".join(f"{reason}: {count}" for reason, count in value.items()) or None
        if value is not None:
            print(f"{name + ':':<18}{printable(str(value))}")


def _exit_with(found: "CommandStatus") -> None:
    """A transfer that has found no queue to take is a failure, too: a criterion may be misspelt."""
    if found.state == "refused" or (found.type, found.state, found.queues) == ("xfer.start", "done", 0):
        raise typer.Exit(1)
