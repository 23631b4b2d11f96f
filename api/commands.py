"""What the HTTP API and the command line say of each type of command: one row for each.

Paths, fields and their names are those of KumoMTA (crates/kumod/src/xfer/). The fields, their limits and descriptions
are the model's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:  # a list of the commands needs no model, and starts in half the time
    from pydantic import BaseModel, JsonValue

    from streams.domain.command import Command

    # A field of what follows has the name of the class of all classes.
    Model = type[Command]
    Body = type[BaseModel]

STATUS_PATH = "/api/admin/xfer/cancel/v1"
"""GET: list commands; with `/{id}`: one."""
EXAMPLE_QUEUE = "http://mx2.example.com/.xfer.kumomta.internal"
_FILLED_IN = {"type", "id", "requested_at", "requested_by"}


@dataclass(frozen=True)
class Endpoint:
    """How a command of one type is asked for."""

    type: str
    """Of its command: `streams.domain.command.TYPES` has the model."""
    path: str
    """Of the POST."""
    verb: str
    """The command of the command line."""
    body_name: str
    """What the OpenAPI document calls the body."""
    about: str
    """What it does, in Markdown: for the documentation of the API and for `--help`."""
    examples: "Sequence[dict[str, JsonValue]]"
    """Bodies. The first one is the command line's example, too."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the command line calls a field, if not `--its-name`; without dashes it is an argument, not an option."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """The `format` in the OpenAPI document, by field."""

    def option(self, name: str) -> str:
        """What the command line calls a field."""
        return self.options.get(name, f"--{name.replace('_', '-')}")

    @property
    def model(self) -> "Model":
        """The model of the command."""
        from streams.domain.command import TYPES

        return TYPES[self.type]

    @cached_property
    def body(self) -> "Body":
        """The model of the body: what the command has but for what xferq fills in, its type's own fields first."""
        from pydantic import ConfigDict, Field, create_model

        from streams.domain.fields import OTHER_FIELDS

        hints = get_type_hints(self.model, include_extras=True)
        names = dict.fromkeys(name for base in self.model.__mro__ for name in get_annotations(base))
        fields: dict[str, Any] = {}
        for name in [name for name in names if name in self.model.model_fields and name not in _FILLED_IN]:
            known = self.model.model_fields[name]
            more: dict[str, Any] = {"json_schema_extra": {"format": self.formats[name]}} if name in self.formats else {}
            fields[name] = (hints[name], Field(known.default, description=known.description, **more))
        extra: Any = {"examples": [*self.examples], **OTHER_FIELDS}
        config = ConfigDict(strict=True, frozen=True, extra="forbid", json_schema_extra=extra)
        return create_model(self.body_name, __config__=config, __doc__=self.model.__doc__, **fields)


_ROWS = (
    Endpoint(
        "xfer.cancel",
        path="/api/admin/xfer/cancel/v1",
        verb="cancel",
        body_name="XferCancelRequest",
        about="Take everything that is in the xfer queue now and put it back where it came from.\n\n"
        "Each message gets its original scheduling information back and leaves an AdminRebind record in the delivery "
        "log. The answer does not wait for this: follow the command's status. Messages that arrive in the queue later, "
        "or are in flight, are not affected; cancel again for those.",
        examples=[{"queue_name": EXAMPLE_QUEUE, "reason": "mx2 is back"}],
        options={"queue_name": "QUEUE"},
    ),
    Endpoint(
        "xfer.start",
        path="/api/admin/xfer/v1",
        verb="transfer",
        body_name="XferRequest",
        about="Move everything that is in the matching scheduled queues now into the xfer queue of a target.\n\n"
        "Without any criterion, this means EVERY scheduled queue; the command line wants `everything` for that. Each "
        "message's scheduling information is saved with it, so that a cancel can restore it. The answer does not wait "
        "for the move: follow the command's status.",
        examples=[
            {"target": "http://mx2.example.com/", "reason": "maintenance of mx1", "tenant": "mytenant"},
            {
                "target": "http://mx2.example.com/",
                "reason": "maintenance of mx1",
                "queue_names": ["mytenant@example.com", "example.net"],
            },
        ],
        options={"queue_names": "--queue"},
        formats={"target": "uri"},
    ),
)
ENDPOINTS: Mapping[str, Endpoint] = {endpoint.type: endpoint for endpoint in _ROWS}
"""By type of command."""
