"""Logging: one line per change of state, on standard error: `event key=value ...`, or the same as JSON.

What stands in a line may come from anybody: names of queues, reasons, what a library says of them. Nothing of it
ends a line, begins one that looks like another event, or steers the terminal that shows it.
"""

import json
import logging
import math
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

_QUIET = {
    "aiokafka": logging.CRITICAL,
    "faust": logging.CRITICAL,
    "mode": logging.CRITICAL,
    "asyncio": logging.ERROR,
    "opentelemetry": logging.CRITICAL,
}
"""Libraries that log what the engine deals with anyway, and says itself."""
_THEIRS = re.compile(r"\bUnclosed AIOKafka|[\\/](?:aiokafka|faust|mode)[\\/]")
"""In what asyncio says of a task or an object that is one of those libraries'."""
_OURS = ("streams.", "api.")
_EVENT = re.compile(r"[a-z]+\.[a-z_]+(?![\w.])")
_CONVERSION = re.compile(r"(?:\b(\w+)=)?%(?:%|[-#0 +]*\d*(?:\.\d+)?([a-zA-Z]))")
_NAMES = {"id": "command_id"}
"""What a field is called in JSON where that is not its name in the line."""
FIXED = ("time", "level", "logger", "pid", "event", "message", "exception")
"""Keys of a JSON line that no field may have."""


def printable(text: str) -> str:
    """The text with escapes for all that is no printable character: what steers terminals, and ends of lines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class OneLine(logging.Formatter):
    """A line for each record; a traceback follows it, marked so that no line of it is taken for another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line."""
        return printable(super().formatMessage(record).rstrip("\n"))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The traceback."""
        return "\n".join(f"  | {printable(line)}" for line in super().formatException(ei).split("\n"))


class JsonLine(logging.Formatter):
    """An object on one line for each record, traceback included, in printable ASCII.

    The fields of one of our own lines are told by its template, so that nothing in a value passes for a field.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = _message(record)
        line: dict[str, object] = {
            "time": moment,
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
        }
        if record.name.startswith(_OURS):
            if (event := _EVENT.match(message)) is not None:
                line["event"] = event[0]
            line |= {key: value for key, value in _fields(record) if key not in FIXED}
        line["message"] = message
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII: JSON's own escapes stand for all that steers a terminal, but for one character.
        return json.dumps(line).replace("\x7f", "\\u007f")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().rstrip("\n")
    except Exception:  # noqa: BLE001 - a library's template and its values may not fit
        return str(record.msg)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """What stands in the template as `key=%s`, with its value."""
    values = record.args
    if not isinstance(record.msg, str) or not isinstance(values, tuple):
        return
    conversions = [found for found in _CONVERSION.finditer(record.msg) if found[2] is not None]
    if len(conversions) != len(values):
        return
    for found, value in zip(conversions, values, strict=True):
        if found[1] is not None:
            yield _NAMES.get(found[1], found[1]), _plain(value, is_repr=found[2] == "r")


def _plain(value: object, *, is_repr: bool) -> object:
    if value is None or isinstance(value, str | int):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, is_repr=is_repr) for item in value]
    return repr(value) if is_repr else str(value)


class _WithoutLogins(logging.Filter):
    """aiokafka logs its requests at DEBUG, those that carry a password or a token among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(type(part).__name__.startswith("Sasl") for part in record.args or ())


class _WithoutTheirTasks(logging.Filter):
    """asyncio logs errors of tasks that nobody has asked for; of a library's own task, the engine hears otherwise."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _THEIRS.search(_message(record)) is None


_THEIR_TASKS = _WithoutTheirTasks()


def set_up_logging(level: str = "INFO", format: str = "text") -> None:
    """Log to standard error from this level on, by its name; what libraries say of it only if that is DEBUG.

    As "text" or as "json". Then also Python's warnings and what nobody has caught are such lines.
    """
    handler = logging.StreamHandler()
    is_json = format == "json"
    handler.setFormatter(JsonLine() if is_json else OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiokafka.conn").addFilter(_WithoutLogins())
    quiet_libraries(is_quiet=level != "DEBUG")
    if is_json:
        logging.captureWarnings(capture=True)
        sys.excepthook = _uncaught
        threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    what = (kind, error or kind(), trace)
    logging.getLogger(__name__).critical("process.uncaught error=%s", kind.__name__, exc_info=what)


def complain(program: str, why: object) -> None:
    """Say on standard error why a program ends: for a person, or as a line of its log where that is JSON."""
    if any(isinstance(handler.formatter, JsonLine) for handler in logging.root.handlers):
        logging.getLogger(__name__).critical("process.ended program=%s why=%s", program, why)
    else:
        with suppress(OSError):
            print(f"{program}: {printable(str(why))}", file=sys.stderr, flush=True)


def quiet_libraries(*, is_quiet: bool = True) -> None:
    """Let libraries keep to themselves what is dealt with anyway; where nothing is set up they write to stderr."""
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet if is_quiet else logging.NOTSET)
    loops = logging.getLogger("asyncio")
    (loops.addFilter if is_quiet else loops.removeFilter)(_THEIR_TASKS)
