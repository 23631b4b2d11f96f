"""`xferq demo`: what to play with, the stage around the play, and a clean end in every case."""

import asyncio
import logging
import os
import platform
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.client import ApiClient
from api.demo.evidence import Evidence
from api.demo.letters import python_test_mails, written_letters
from api.demo.play import Play
from api.demo.report import Report
from api.demo.stage import Stage
from api.demo.tally import tally
from api.mail.files import Mail, NoMail, read_paths
from streams.errors import Misconfigured, XferqError
from streams.kafka.cluster import Cluster
from streams.settings.settings import Settings

_COUNT = 4_000
_COUNT_VARIABLE = "XFERQ_DEMO_MESSAGES"
"""For tests: how many messages the demo writes itself."""
_MOST = 20_000
_MOST_BYTES = 200_000_000
"""Of own mail, at most: the demo is to take less than two minutes."""
INTERRUPTED = 130

_TITLE = "[bold]xferq: transfer queues on Kafka[/bold]\n"
_ABOUT = (
    "A mail platform keeps each scheduled queue in a Kafka topic. A [bold]transfer[/bold] moves messages into an "
    "[bold]xfer queue[/bold], bound for another node. A [bold]cancel[/bold] takes everything that is in the xfer queue "
    "at that moment and puts it back where it came from, each message exactly once, with its original scheduling "
    "information and a record in the delivery log. Watch both on a real Kafka."
)


def run(settings: Settings, mail: list[Path] | None) -> int:
    """Play the demo; the exit status: 0, 1 if a number is not what it must be, 2 if `mail` can't be read.

    Args:
        mail: mbox files, maildirs, .eml files to play with; None for the demo's own messages.
    """
    report = Report()
    try:
        letters, about = _letters(mail)
    except Misconfigured as error:
        report.failure(str(error))
        return 2
    report.console.print(_TITLE)
    report.console.print(_ABOUT)
    # Dispatchers that lose their group are part of the play; the library would call it an error.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        with _terminated_like_interrupted():
            return _perform(settings, report, letters, about)
    except KeyboardInterrupt:
        report.failure("stopped; all that ran for it is ended")
        return INTERRUPTED
    except (XferqError, OSError) as error:
        report.failure(str(error))
        return 1


def _perform(settings: Settings, report: Report, letters: Sequence[bytes], about: str) -> int:
    report.step("Start Kafka, the api and a worker")
    with Stage(settings, report) as stage:
        report.say(f"Kafka: {stage.settings.bootstrap_servers}, api: {stage.api_url}/docs")
        report.say(about)
        with ApiClient(stage.api_url) as client:
            evidence, play = asyncio.run(_play(stage, report, client, letters))
        account = tally(evidence)
        report.table(account)
        report.figures(account, evidence.cancel, claim_ms=play.claim_ms, seen_ms=play.seen_ms)
        report.verdict(account)
    return 1 if account.problems else 0


async def _play(stage: Stage, report: Report, client: ApiClient, letters: Sequence[bytes]) -> tuple[Evidence, Play]:
    async with Cluster(stage.settings) as kafka:
        play = Play(stage, report, kafka, client)
        return await play.perform(letters), play


def _letters(mail: list[Path] | None) -> tuple[list[bytes], str]:
    """The messages to play with, and a line about them.

    Raises:
        Misconfigured: `mail` can't be read, or holds none.
    """
    if mail:
        return _own_letters(mail)
    version = platform.python_version()
    test_mails = python_test_mails()
    where = (
        f"the {len(test_mails)} test mails of CPython {version}"
        if test_mails
        else f"(the test mails of CPython are not installed with this Python {version})"
    )
    written = list(written_letters(_count()))
    return test_mails + written, f"mail: {where}, and {len(written):,} messages written for this"


def _own_letters(paths: list[Path]) -> tuple[list[bytes], str]:
    letters: list[bytes] = []
    refused: list[NoMail] = []
    size = 0
    more = ""
    for found in read_paths(paths):
        if isinstance(found, NoMail):
            refused.append(found)
        elif isinstance(found, Mail):
            if len(letters) == _MOST or size + len(found.data) > _MOST_BYTES:
                more = "the first "
                break
            letters.append(found.data)
            size += len(found.data)
    first = next((f"{found.source} {found.why}" for found in refused), "")
    if not letters:
        raise Misconfigured(f"--mail: {first or f'there is no message in {_listed(paths)}'}")
    others = f"; {len(refused):,} left out, of which the first {first}" if refused else ""
    return letters, f"mail: {more}{len(letters):,} messages of {_listed(paths)}{others}"


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def _count() -> int:
    text = os.environ.get(_COUNT_VARIABLE, str(_COUNT))
    if not text.isdigit():
        raise Misconfigured(f"{_COUNT_VARIABLE}: {text!r} is not a number of messages")
    return int(text)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Within this, SIGTERM ends the demo as Ctrl-C does: in order."""

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
