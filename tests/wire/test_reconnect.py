"""How often aiokafka's clients ask while no broker can be reached, and while some can."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aiokafka.client
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError
from aiokafka.structs import BrokerMetadata

from streams.kafka.wire.install import install
from tests.fakes.clock import timeless

AWAY, THERE = 1, 2


class Brokers:
    """Some that can be reached, as far as connections go; how often each was tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: set[int] = set()
        self.tried: list[int] = []
        monkeypatch.setattr(aiokafka.client, "create_conn", self.connect)

    async def connect(self, _: str, port: int, **__: object) -> Any:
        self.tried.append(port)
        if port not in self.there:
            raise ConnectionRefusedError

        async def answer(_: object) -> Any:
            return SimpleNamespace(brokers=[port])

        return SimpleNamespace(connected=lambda: False, send=answer, close=lambda **_: asyncio.sleep(0))


async def ask(client: AIOKafkaClient, for_s: float) -> None:
    """As a consumer does that has nothing else to do."""
    until = asyncio.get_running_loop().time() + for_s
    while asyncio.get_running_loop().time() < until:
        with suppress(NodeNotReadyError):
            await client.send(AWAY, None)
        await asyncio.sleep(0.02)


def a_client(monkeypatch: pytest.MonkeyPatch) -> AIOKafkaClient:
    install()
    install()  # once more does nothing
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    client.cluster._brokers = {port: BrokerMetadata(port, "127.0.0.1", port, None) for port in (AWAY, THERE)}
    monkeypatch.setattr(client.cluster, "update_metadata", lambda _: None)
    return client


@timeless
async def test_brokers_that_are_all_away_are_asked_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    brokers, client = Brokers(monkeypatch), a_client(monkeypatch)
    client._sync_task = asyncio.create_task(client._md_synchronizer())
    await ask(client, 0.3)
    assert len(brokers.tried) > 20
    brokers.tried.clear()
    await ask(client, 60)
    assert 60 < len(brokers.tried) < 900, "it asks neither all the time nor never"
    brokers.tried.clear()
    await ask(client, 2)
    assert len(brokers.tried) > 1, "one that is back is found at once"
    await client.close()


@timeless
async def test_as_long_as_one_is_there_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    brokers, client = Brokers(monkeypatch), a_client(monkeypatch)
    client._sync_task = asyncio.create_task(client._md_synchronizer())
    await ask(client, 30)
    brokers.there.add(THERE)
    await ask(client, 5)
    brokers.tried.clear()
    await ask(client, 10)
    assert brokers.tried.count(AWAY) > 300
    await client.close()
