"""The keys of the ledger's records.

`claim/<topic>/<id>`, `drained/<topic>/<partition>/<id>`, `head/<topic>/<partition>`; `command/<id>`, a command's status
until its end, `outcome/<id>` from then on (`streams.commands.outcomes`), and `control/<id>`; those of transfers,
`selection/<topic>/<id>/<nonce>/<number>`, `passed/<topic>/<id>`, `tally/<topic>/<id>`; `id/<id>/<nonce>`
(`streams.commands.ids`); `pending/<topic or id>/<partition>/<offset>/<timestamp>` (`streams.commands.pending`); and
`waiting/<topic>/<partition or "heads">/<id>`, which nothing but the status rests on.
"""

HEADS = "heads"
UNCONFIRMED = "its dispatchers' group is to be looked at again"
"""Stands with the `HEADS` of a claim from its own transaction on, until step 7 is through: what does not wait yet."""


def claim_key(topic: str, id: str) -> str:
    """The ledger key of a claim."""
    return f"claim/{topic}/{id}"


def progress_key(topic: str, partition: int, id: str) -> str:
    """The ledger key of one range's progress."""
    return f"drained/{topic}/{partition}/{id}"


def earlier_progress_key(topic: str, partition: int, id: str) -> str:
    """The same as earlier versions had it, which wrote it into the ledger partition of the claim."""
    return f"progress/{topic}/{partition}/{id}"


def head_key(topic: str, partition: int) -> str:
    """The ledger key of a head."""
    return f"head/{topic}/{partition}"


def id_key(id: str, nonce: str) -> str:
    """The ledger key of a process that wants the id."""
    return f"id/{id}/{nonce}"


def waiting_key(topic: str, where: int | str, id: str) -> str:
    """The ledger key of why a claim does not get on: with one partition, or with its `HEADS`."""
    return f"waiting/{topic}/{where}/{id}"


def selection_key(topic: str, id: str, nonce: str, number: int) -> str:
    """The ledger key of some of what a transfer selected; `topic` is that of the xfer queue."""
    return f"selection/{topic}/{id}/{nonce}/{number}"


def passed_key(topic: str, id: str) -> str:
    """The ledger key of a queue that a transfer is done with, as there was nothing to claim."""
    return f"passed/{topic}/{id}"


def tally_key(topic: str, id: str) -> str:
    """The ledger key of how many queues a transfer has claimed; `topic` is that of the xfer queue."""
    return f"tally/{topic}/{id}"


def pending_key(name: str, position: tuple[int, int, int]) -> str:
    """The ledger key of a command that waits for long: partition and offset of its record, and timestamp in ms."""
    partition, offset, timestamp = position
    return f"pending/{name}/{partition}/{offset}/{timestamp}"


def command_key(id: str) -> str:
    """The ledger key of a command's status."""
    return f"command/{id}"


def outcome_key(id: str) -> str:
    """The ledger key of a command's end."""
    return f"outcome/{id}"


def control_key(id: str) -> str:
    """The ledger key of what an operator wants of a command."""
    return f"control/{id}"
