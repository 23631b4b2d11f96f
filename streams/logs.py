"""Logging: one line per change of state, `event key=value ...`, on standard error.

What stands in a line may come from anybody: names of queues, reasons, what a library says of them. Nothing of it
ends a line, begins one that looks like another event, or steers the terminal that shows it.
"""

import logging
from typing import Any

_QUIET = {
    "aiokafka": logging.CRITICAL,
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "asyncio": logging.ERROR,
    "opentelemetry": logging.CRITICAL,
}
"""Libraries that log what the engine deals with anyway, and says itself."""


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


class _WithoutLogins(logging.Filter):
    """aiokafka logs its requests at DEBUG, those that carry a password or a token among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(type(part).__name__.startswith("Sasl") for part in record.args or ())


def set_up_logging(level: str = "INFO") -> None:
    """Log to standard error from this level on, by its name; what libraries say of it only if that is DEBUG."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiokafka.conn").addFilter(_WithoutLogins())
    quiet_libraries(is_quiet=level != "DEBUG")


def quiet_libraries(*, is_quiet: bool = True) -> None:
    """Let libraries keep to themselves what is dealt with anyway; where nothing is set up they write to stderr."""
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet if is_quiet else logging.NOTSET)
