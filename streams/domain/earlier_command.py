"""Commands as earlier versions read them: they passed over fields that they did not know, and took the last one of two;
an empty list of queues was none to them."""

from typing import Any

import orjson
from pydantic import ValidationError

from streams.domain.command import TYPES, Command
from streams.domain.fields import FieldTwice, counted, read_json


def earlier_command(value: bytes | None, id: str) -> Command | None:
    """The command of this id in a record that is none any more; None where it was none to earlier versions, either."""
    try:
        fields = read_json(value or b"")
    except FieldTwice as error:
        fields = error.fields
    except orjson.JSONDecodeError:
        return None
    if type(fields) is not dict or type(kind := fields.get("type")) is not str or kind not in TYPES:
        return None
    model = TYPES[kind]
    known: dict[str, Any] = {name: value for name, value in counted(fields, ()).items() if name in model.model_fields}
    is_empty = known.get("queue_names") == []
    if is_empty:
        del known["queue_names"]
    try:
        command = model.model_validate({**known, "id": id})
    except ValidationError:
        return None
    return command.model_copy(update={"queue_names": []}) if is_empty else command
