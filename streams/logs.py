"""Logging: one line per change of state, `event key=value ...`, on standard error."""

import logging
import os

_QUIET = {"aiokafka": logging.CRITICAL, "faust": logging.ERROR, "mode": logging.ERROR, "asyncio": logging.ERROR}
"""Libraries that log what the engine deals with anyway, and says itself."""


def set_up_logging() -> None:
    """Log to standard error; `XFERQ_LOG_LEVEL` is the level, also of the libraries if it is DEBUG."""
    level = os.environ.get("XFERQ_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(
        level=getattr(logging, level, logging.INFO), format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    if level != "DEBUG":
        for name, quiet in _QUIET.items():
            logging.getLogger(name).setLevel(quiet)
