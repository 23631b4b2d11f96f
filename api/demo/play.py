"""The demo's play: mail goes into an xfer queue, dispatchers work on it, a cancel takes back what is left."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from api.client import ApiClient
from api.demo.corpus import ENVELOPE, Mail, make_corpus
from api.demo.deposit import deposit
from api.demo.evidence import Book, Command, Evidence
from api.demo.queues import scheduled_queues
from api.demo.readback import Readback
from api.demo.report import Report
from api.demo.stage import Stage, wait_for_topics
from api.models import CommandStatus
from streams.domain.envelope import dump_envelope, save
from streams.domain.target import normalise_target, xfer_queue_of
from streams.domain.topic import topic_of
from streams.errors import Refused, Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.contents import StoredRecord
from streams.kafka.dispatcher import Dispatcher
from streams.records import Record

_DISPATCHERS = 2
_SEND_ALL_S = 12.0
"""How long the dispatchers together would take for all messages: the cancel comes long before."""
_SHARE_SENT = 4
"""The cancel comes when one in so many messages is sent."""
_POLL_S = 0.02
_PATIENCE_S = 60.0
_BACK_S = 30.0
"""Time for the dispatchers to be back: a heartbeat (3 s), the hold (5 s by default), and a rebalance."""
_ENVELOPE_ROOM = 64 << 10
LATE = b"came-after-the-cancel"


class Play:
    """One performance; `perform` returns what there is to check."""

    def __init__(self, stage: Stage, report: Report, kafka: Cluster, client: ApiClient) -> None:
        self._stage = stage
        self._report = report
        self._kafka = kafka
        self._client = client
        self._readback = Readback(kafka, stage.settings)
        host = "bogus.kumomta.internal.notavalidtld"
        self._target = f"http://{stage.run}.{host}" if stage.run else f"http://{host}"
        self._xfer_queue = xfer_queue_of(normalise_target(self._target))
        self._xfer_topic = topic_of(self._xfer_queue)
        self._mails: list[Mail] = []
        self._dispatchers: list[Dispatcher] = []
        self.claim_ms = 0.0
        """From HTTP 200 to the claim."""
        self.seen_ms = 0.0
        """From HTTP 200 to the status that showed it."""

    async def perform(self, letters: Sequence[bytes]) -> Evidence:
        """All of it, in order.

        Raises:
            XferqError: it could not go on to its end.
        """
        put_in = await self._inject(letters)
        transfer, transferred, left = await self._transfer()
        async with AsyncExitStack() as exits:
            for dispatcher in self._dispatchers:
                exits.push_async_callback(dispatcher.stop)
            await self._dispatch()
            cancel, cancelled_at = await self._cancel()
            await self._go_on(cancelled_at)
        self._report.step("Read everything back, and count")
        self._report.say("with another Kafka library than the engine's, committed records only")
        queues = self._queues()
        found = await self._readback.queues(*queues, self._xfer_queue)
        log = await self._readback.topic(self._stage.settings.log_topic)
        return Evidence(
            mails=self._mails,
            xfer_queue=self._xfer_queue,
            transfer=transfer,
            cancel=cancel,
            put_in=put_in,
            left=left,
            transferred=transferred,
            back={queue: found[queue] for queue in queues},
            remaining=found[self._xfer_queue],
            log=log,
            books=[_book(dispatcher, cancelled_at) for dispatcher in self._dispatchers],
            late=frozenset({LATE}),
        )

    # ---- the scenes

    async def _inject(self, letters: Sequence[bytes]) -> dict[str, Sequence[StoredRecord]]:
        report, now = self._report, datetime.now(UTC)
        report.step("Put mail into scheduled queues")
        queues = scheduled_queues(self._stage.run, now)
        topics = {queue.name: topic_of(queue.name) for queue in queues}
        self._stage.made(*topics.values())
        failed = await self._kafka.create(topics.values())
        if failed:
            raise Refused(f"topics can't be created: {failed}")
        await wait_for_topics(self._kafka, topics.values())
        limit = await self._kafka.max_message_bytes(min(topics.values())) - _ENVELOPE_ROOM
        fitting = [letter for letter in letters if len(letter) <= limit]
        if len(fitting) < len(letters):
            report.say(
                f"{len(letters) - len(fitting)} messages are left out: Kafka takes none over {limit:,} bytes here"
            )
        self._mails = await asyncio.to_thread(make_corpus, fitting, queues, now)
        with report.bar("messages", len(self._mails)) as advance:
            await deposit(self._kafka, self._mails, lambda written: advance(written, None))
        size = sum(len(mail.value) for mail in self._mails)
        used = self._queues()
        report.say(f"{len(self._mails):,} messages, {size / 1e6:.1f} MB, in {len(used)} scheduled queues: a topic each")
        report.say("with tenants, campaigns, routing domains, schedules and attempts in each message's envelope")
        return await self._readback.queues(*used)

    async def _transfer(self) -> tuple[Command, Sequence[StoredRecord], dict[str, Sequence[StoredRecord]]]:
        report, queues = self._report, self._queues()
        report.step("Transfer all of it to another node, which can't be reached")
        reason = "demo: this node is going down"
        # By name: without any criterion a transfer takes every scheduled queue that Kafka holds.
        body = {"target": self._target, "reason": reason, "queue_names": queues}
        report.say(f"POST /api/admin/xfer/v1 {_shown(body)}")
        self._stage.made(self._xfer_topic)
        started = time.monotonic()
        id = await asyncio.to_thread(self._client.submit, "xfer.start", body)
        status = await self._follow(id, "transferred", lambda _: None)
        took = time.monotonic() - started
        report.say(f"{status.restored:,} messages are in the xfer queue {self._xfer_queue} after {took:.1f} s")
        report.say("each with its own scheduling saved in its envelope, and an AdminRebind record in the delivery log")
        self._dispatchers = self._hire()
        _, there = await asyncio.gather(
            asyncio.gather(*(dispatcher.join() for dispatcher in self._dispatchers)),
            self._readback.queues(self._xfer_queue, *queues),
        )
        return _outcome(status, reason), there.pop(self._xfer_queue), there

    def _hire(self) -> list[Dispatcher]:
        total = len(self._mails)
        pace_s = min(1.0, _SEND_ALL_S * _DISPATCHERS / max(total, 1))

        async def send(record: Record) -> None:
            await asyncio.sleep(pace_s)

        return [
            Dispatcher(
                self._kafka.connection,
                self._xfer_topic,
                self._stage.settings.group_of(self._xfer_topic),
                send,
                at_once=max(1, min(25, total // 20)),
                commit_every=max(1, min(100, total // 40)),
            )
            for _ in range(_DISPATCHERS)
        ]

    async def _dispatch(self) -> None:
        report = self._report
        report.step("Dispatchers take messages out of the xfer queue and send them")
        report.say(f"{_DISPATCHERS} of them, a Kafka consumer group; they commit now and then, so send at least once")
        await self._until(
            lambda: all(dispatcher.assigned_at for dispatcher in self._dispatchers), "the dispatchers to get partitions"
        )
        for dispatcher in self._dispatchers:
            dispatcher.work()
        goal = len(self._mails) // _SHARE_SENT
        with report.bar("sent", goal) as advance:
            await self._until(
                lambda: self._sent() >= goal, "the dispatchers to send", lambda: advance(self._sent(), None)
            )
        report.say(f"{self._sent():,} are sent, and they go on")

    async def _cancel(self) -> tuple[Command, float]:
        report = self._report
        report.step("Cancel the transfer, while they work")
        reason = "demo: this node is back"
        body = {"queue_name": self._xfer_queue, "reason": reason}
        report.say(f"POST /api/admin/xfer/cancel/v1 {_shown(body)}")
        cancelled_at = time.time()
        id = await asyncio.to_thread(self._client.submit, "xfer.cancel", body)
        answered_at = time.time()

        def look(status: CommandStatus) -> None:
            if status.claimed_at is not None and not self.seen_ms:
                self.seen_ms = (time.time() - answered_at) * 1000

        status = await self._follow(id, "restored", look)
        outcome = _outcome(status, reason)
        self.claim_ms = max(0.0, (outcome.claimed_at.timestamp() - answered_at) * 1000)
        seconds = (outcome.finished_at - outcome.claimed_at).total_seconds()
        report.say(
            f"200 {{}}; {self.claim_ms:.0f} ms later all that was in the queue was claimed: no dispatcher gets it now"
        )
        report.say(f"{status.restored:,} messages are back in their scheduled queues {seconds:.2f} s after that")
        return outcome, cancelled_at

    async def _go_on(self, cancelled_at: float) -> None:
        """One more message comes into the xfer queue: the dispatchers must still be there for it."""
        mail = self._mails[0]
        envelope = dump_envelope(save(mail.envelope, xfer_queue=self._xfer_queue, from_queue=mail.queue))
        late = replace(mail, id=LATE, queue=self._xfer_queue, headers=((ENVELOPE, envelope),))
        await deposit(self._kafka, [late], lambda _: None)

        def is_over() -> bool:
            return all(_evicted_at(dispatcher, cancelled_at) is not None for dispatcher in self._dispatchers) and any(
                polled.key == LATE and polled.sent_at is not None
                for dispatcher in self._dispatchers
                for polled in dispatcher.polled
            )

        try:
            await self._until(is_over, "the dispatchers to go on", within_s=_BACK_S)
        except Unavailable as error:
            self._report.say(str(error))  # the account will say what is wrong
        else:
            self._report.say(
                "the dispatchers saw their eviction, came back, and sent a message that came after the cancel"
            )

    # ---- what the scenes need

    def _queues(self) -> list[str]:
        """The queues that got mail; the order is that of the corpus."""
        return list(dict.fromkeys(mail.queue for mail in self._mails))

    def _sent(self) -> int:
        return sum(dispatcher.sent for dispatcher in self._dispatchers)

    async def _until(
        self,
        is_so: Callable[[], bool],
        what: str,
        look: Callable[[], None] = lambda: None,
        within_s: float = _PATIENCE_S,
    ) -> None:
        deadline = time.monotonic() + within_s
        while not is_so():
            self._stage.check()
            if time.monotonic() > deadline:
                raise Unavailable(f"waited {within_s:.0f} s in vain for {what}")
            look()
            await asyncio.sleep(_POLL_S)

    async def _follow(self, id: str, title: str, look: Callable[[CommandStatus], None]) -> CommandStatus:
        """The last status of a command, with a bar until then.

        Raises:
            Refused: the command was.
            Unavailable: it made no step for a minute, or something has ended.
        """
        before: CommandStatus | None = None
        changed_at = time.monotonic()
        with self._report.bar(title, None) as advance:
            while True:
                status = await asyncio.to_thread(self._client.status, id)
                look(status)
                if status.state == "done":
                    return status
                if status.state == "refused":
                    raise Refused(f"the command was refused: {status.detail}")
                if status != before:
                    before, changed_at = status, time.monotonic()
                if time.monotonic() - changed_at > _PATIENCE_S:
                    raise Unavailable(f"the command made no step for {_PATIENCE_S:.0f} s: {status}")
                self._stage.check()
                advance(status.offsets_done or 0, status.offsets_total)
                await asyncio.sleep(_POLL_S)


def _evicted_at(dispatcher: Dispatcher, cancelled_at: float) -> float | None:
    return next((moment for moment in dispatcher.lost_at if moment >= cancelled_at), None)


def _book(dispatcher: Dispatcher, cancelled_at: float) -> Book:
    return Book(dispatcher.polled, _evicted_at(dispatcher, cancelled_at))


def _outcome(status: CommandStatus, reason: str) -> Command:
    return Command(
        reason=reason,
        claimed_at=datetime.fromisoformat(status.claimed_at or ""),
        finished_at=datetime.fromisoformat(status.finished_at or ""),
        total=status.total or 0,
        restored=status.restored,
        returned=status.returned,
    )


def _shown(body: Mapping[str, Any]) -> str:
    """A request's body on a line; of a long list only how long it is."""
    short = {name: f"{len(value)} names" if isinstance(value, list) else value for name, value in body.items()}
    return json.dumps(short)
