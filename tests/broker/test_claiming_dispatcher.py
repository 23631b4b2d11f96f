"""A dispatcher that claims its own ranges before it sends: it doubles nothing, whatever is cancelled meanwhile."""

import threading
import time

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from tests.broker import checker
from tests.broker.scene import WAIT_S
from tests.broker.world import XferQueue
from tests.support.patience import deadline

_AT_ONCE = 7


class ClaimingDispatcher:
    """Takes over the queue's claim id, as a claimer does, and moves the head past what it is about to send.

    What it has claimed it sends in any case. Its crash in between is not looked at here: it would have to remember
    what it had claimed, as xferq does in its ledger.
    """

    def __init__(self, queue: XferQueue) -> None:
        self._queue = queue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._settings = {"bootstrap.servers": queue.servers, "log_level": 0}
        self.sent: list[bytes] = []
        self.failures = 0
        """How often a claim of its own came to nothing."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End when what is under way is done."""
        self._stop.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        reader = Consumer(
            {
                **self._settings,
                "group.id": self._queue.group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        while not self._stop.wait(0.02):
            try:
                claimed = self._claim(reader)
            except KafkaException:
                self.failures += 1
                continue
            self.sent += [message.key() or b"" for message in claimed]
        reader.close()

    def _claim(self, reader: Consumer) -> list[Message]:
        """Claim what comes next; all of it is ours once the commit is answered."""
        producer = Producer({**self._settings, "transactional.id": f"xferq.claim.{self._queue.topic}"})
        producer.init_transactions(WAIT_S)  # whoever was claiming just now starts again
        where = [TopicPartition(self._queue.topic, number) for number in range(4)]
        heads = [TopicPartition(at.topic, at.partition, max(at.offset, 0)) for at in reader.committed(where, WAIT_S)]
        reader.assign(heads)
        deadline = time.monotonic() + 0.3
        found: list[Message] = []
        while not found and time.monotonic() < deadline:
            found = [message for message in reader.consume(_AT_ONCE, 0.1) if message.error() is None]
        if not found:
            return []
        ends = {message.partition(): message.offset() + 1 for message in found}
        producer.begin_transaction()
        producer.send_offsets_to_transaction(
            [TopicPartition(self._queue.topic, partition, end) for partition, end in ends.items()],
            reader.consumer_group_metadata(),
            WAIT_S,
        )
        producer.commit_transaction(WAIT_S)
        return found


def test_a_dispatcher_that_claims_its_own_ranges_doubles_nothing(queue: XferQueue) -> None:
    dispatcher = ClaimingDispatcher(queue)
    restored = 0
    queue.put(*queue.messages(40))
    dispatcher.start()
    for _ in range(8):
        queue.put(*queue.messages(60))
        restored += queue.cancelled()["restored"]
    queue.put(*queue.messages(40))
    end = deadline()
    while queue.remaining() and not end.is_over:
        time.sleep(0.2)
    dispatcher.stop()
    sent = [message.key for message in queue.sent]
    back = [message.key or b"" for message in queue.restored()]
    assert len(back) == restored > 0
    assert len(dispatcher.sent) > 0
    assert sorted([*dispatcher.sent, *back]) == sorted(key or b"" for key in sent)
    assert checker.open_transactions(queue.servers, [queue.topic]) == []
