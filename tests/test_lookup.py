"""Looks at the ends of logs, again and again."""

from streams.lookup import LogEnds
from streams.settings.settings import Settings
from tests.fakes.broker import Broker
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka


@timeless
async def test_an_idle_topic_costs_one_request_and_an_open_transaction_is_seen() -> None:
    broker, faults = Broker(), Faults()
    broker.create("t", 3)
    logs = broker.topics["t"].logs
    ends = LogEnds(FakeKafka(broker, Settings(), faults), "t", range(3))

    async def asked() -> list[str]:
        before = len(faults.passed)
        await ends.look()
        return [name.partition(":")[0] for name in faults.passed[before:]]

    logs[1].append([(1, b"k", b"v", ())])
    assert await asked() == ["high_watermarks", "stable_ends"]
    assert (ends.stable, ends.written) == ({0: 0, 1: 1, 2: 0}, {0: 0, 1: 1, 2: 0})
    assert await asked() == ["high_watermarks"]
    broker.take_over("id")
    transaction = broker.begin("id", 60)
    logs[2].append([(1, b"k", b"v", ())], transaction)
    for _ in range(2):  # it may end at any time
        assert await asked() == ["high_watermarks", "stable_ends"]
        assert (ends.stable[2], ends.written[2]) == (0, 1)
    broker.decide(transaction, commit=True)
    assert await asked() == ["high_watermarks", "stable_ends"]
    assert ends.stable == ends.written == {0: 0, 1: 1, 2: 2}
    assert await asked() == ["high_watermarks"]
