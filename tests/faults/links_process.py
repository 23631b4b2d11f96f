"""The links between Kafka's nodes, in a process of its own: started by links.py with the doors as JSON.

Each door is [node, its name, port to listen on, port of the node]. Who comes through it is told by the client id of
its first request: nodes say which one they are, clients are nobody's.
"""

import asyncio
import contextlib
import re
from dataclasses import dataclass, field

from streams.broker.ports import LOOPBACK
from tests.faults.ordered import obey

_NODE = re.compile(r"(?:broker-|raft-client-|AddPartitionsManager-client-)?(\d+)(?:-[a-z].*)?")
"""Client ids of nodes, such as `1`, `raft-client-1` and `broker-1-fetcher-0`."""
_PIECE = 1 << 16
_ID_AT = 14
"""In a request: its length, key, version, correlation id, and the length of the client id come before that."""

Link = tuple[int, int, str]
"""From one node, to another one's door of this name."""


def sender_of(request: bytes) -> int:
    """The node in the client id of a request's header; 0 where there is none."""
    length = int.from_bytes(request[_ID_AT - 2 : _ID_AT], "big")
    found = _NODE.fullmatch(request[_ID_AT : _ID_AT + length].decode(errors="replace"))
    return int(found[1]) if found else 0


@dataclass(slots=True)
class _State:
    """A link: whether it takes anything, and what goes over it."""

    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    is_refused: bool = False
    writers: set[asyncio.StreamWriter] = field(default_factory=set)


class Links:
    """What can be ordered."""

    def __init__(self) -> None:
        self._states: dict[Link, _State] = {}

    async def cut(self, links: list[tuple[int, int, str]], silently: bool) -> None:
        """Let nothing pass over these links any more: with a reset for who tries, or without a word."""
        for link in links:
            state = self._state(link)
            if silently:
                state.goes_on.clear()
            else:
                state.is_refused = True
                for writer in state.writers:
                    writer.transport.abort()

    async def mend(self) -> None:
        """Let all pass over all links again; what was held back arrives."""
        for state in self._states.values():
            state.is_refused = False
            state.goes_on.set()

    async def seen(self) -> list[Link]:
        """The links over which somebody has come."""
        return sorted(self._states)

    def _state(self, link: Link) -> _State:
        sender, receiver, door = link
        state = self._states.get((sender, receiver, door))
        if state is None:
            state = self._states[sender, receiver, door] = _State()
            state.goes_on.set()
        return state

    async def serve(
        self, node: int, door: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A connection that comes through a door, to its end."""
        ends = [writer]
        state = None
        try:
            first = await reader.read(_PIECE)
            state = self._state((sender_of(first), node, door))
            if state.is_refused:
                return
            answers, target = await asyncio.open_connection(LOOPBACK, port)
            ends.append(target)
            state.writers |= set(ends)
            if state.is_refused:  # cut while we connected
                return
            await state.goes_on.wait()
            target.write(first)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(state, reader, target))
                pumps.create_task(_pump(state, answers, writer))
        except* OSError:  # one of the two has ended: so does the other one
            pass
        finally:
            for end in ends:
                end.transport.abort()
                if state is not None:
                    state.writers.discard(end)


async def _pump(state: _State, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(_PIECE):
        await state.goes_on.wait()
        target.write(piece)
        await target.drain()
    raise ConnectionResetError  # Kafka never closes one direction only


async def _begin(doors: list[tuple[int, str, int, int]]) -> Links:
    links = Links()
    for node, door, listens, port in doors:

        async def serve(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            place: tuple[int, str, int] = (node, door, port),
        ) -> None:
            with contextlib.suppress(OSError):
                await links.serve(*place, reader, writer)

        await asyncio.start_server(serve, LOOPBACK, listens, backlog=1000)
    return links


if __name__ == "__main__":
    obey(_begin)
