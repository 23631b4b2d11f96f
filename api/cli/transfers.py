"""`xferq transfer`, `cancel`, `status`: commands and what has become of them, over HTTP."""

from typing import Annotated, Any

import typer

from api.cli.output import note, print_columns, print_json, progress
from api.client import ApiClient
from api.models import CommandStatus
from streams.settings.settings import load_settings
from streams.telemetry.logs import printable

Reason = Annotated[str, typer.Option("--reason", help="The reason; it goes into the delivery log.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress until it is done, then print the counts.")]
Id = Annotated[
    str | None,
    typer.Option("--id", help="The command's id. Repeating a command with the same id has no further effect."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def transfer(
    target: Annotated[str, typer.Option("--target", help="Where the messages go: a URL.", show_default=False)],
    reason: Reason,
    campaign: Annotated[str | None, typer.Option(help="Only queues of this campaign.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only queues of this tenant.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only queues for this domain.")] = None,
    routing_domain: Annotated[str | None, typer.Option(help="Only queues with this routing domain.")] = None,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="Only this queue; may be given more than once.")
    ] = None,
    wait: Wait = False,
    id: Id = None,
    as_json: AsJson = False,
) -> None:
    """Move scheduled queues into the xfer queue of a target.

    Takes what is in the queues now. **Without any criterion, this means every scheduled queue.**

    Example: `xferq transfer --target http://mx2.example.com/ --reason "maintenance of mx1" --tenant mytenant`
    """
    body: dict[str, Any] = {
        "target": target,
        "reason": reason,
        "campaign": campaign,
        "tenant": tenant,
        "domain": domain,
        "routing_domain": routing_domain,
        "queue_names": queue or None,
    }
    with ApiClient.of(load_settings()) as client:
        key = client.start({name: value for name, value in body.items() if value is not None}, id)
        _follow(client, key, wait=wait, as_json=as_json)


def cancel(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The xfer queue.", show_default=False)],
    reason: Reason,
    wait: Wait = False,
    id: Id = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a transfer: put what is in an xfer queue back where it came from.

    Takes everything that is in the queue at this moment; what arrives later needs another cancel. Does not wait
    until it is done, except with --wait.

    Example: `xferq cancel http://mx2.example.com/.xfer.kumomta.internal --reason "mx2 is full" --wait`
    """
    with ApiClient.of(load_settings()) as client:
        key = client.cancel({"queue_name": queue, "reason": reason}, id)
        _follow(client, key, wait=wait, as_json=as_json)


def status(
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A command's id; without one, commands are listed.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", help="List only commands about this xfer queue.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="List at most this many.")] = 20,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Show the status of a command, or list commands, newest first.

    Examples: `xferq status`, `xferq status 6f1f6d1c8a554c3f9f0a6f3a8a3f4a0e --wait`
    """
    if wait and id is None:
        raise typer.BadParameter("--wait needs the ID of a command")
    with ApiClient.of(load_settings()) as client:
        if id is not None:
            found = _wait(client, id) if wait else client.status(id)
            _show(found, as_json=as_json)
            if wait:
                _exit_with(found)
            return
        listed = client.statuses(limit=limit, queue_name=queue)
    if as_json:
        print_json([item.model_dump() for item in listed])
        return
    print_columns(
        ["ID", "STATE", "RESTORED", "RETURNED", "REQUESTED", "TYPE", "QUEUE"],
        [
            [item.id, item.state, item.restored, item.returned, item.requested_at, item.type, item.queue_name]
            for item in listed
        ],
    )


def _follow(client: ApiClient, id: str, *, wait: bool, as_json: bool) -> None:
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


def _wait(client: ApiClient, id: str) -> CommandStatus:
    try:
        with progress() as bars:
            task = bars.add_task("accepted", total=None)
            for found in client.statuses_until_done(id):
                text = found.state if found.detail is None else f"{found.state}: {printable(found.detail)[:80]}"
                bars.update(task, description=text, completed=found.offsets_done or 0, total=found.offsets_total)
    except KeyboardInterrupt:
        note(f"\nstopped waiting; the command goes on: `xferq status {id} --wait`")
        raise typer.Exit(1) from None
    return found


def _show(found: CommandStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump())
        return
    for name, value in found.model_dump().items():
        if name == "returned_reasons":
            value = ", ".join(f"{reason}: {count}" for reason, count in value.items()) or None
        if value is not None:
            print(f"{name + ':':<18}{printable(str(value))}")


def _exit_with(found: CommandStatus) -> None:
    if found.state == "refused":
        raise typer.Exit(1)
