"""What is no command, and was one to an earlier version. What never was one: see test_commands.py."""

from typing import Any

import pytest

from streams.commands.ids import Ids
from streams.domain.command import CancelCommand, StartCommand
from streams.domain.status import Status, hash_of, name_of
from tests.engine.world import TARGET, XFER_QUEUE, World
from tests.fakes.clock import timeless

_EARLIER = {"type": "xfer.start", "target": TARGET, "reason": "why", "id": "old"}


@timeless
@pytest.mark.parametrize("more", [{"queue_names": []}, {"tennant": "t"}], ids=str)
@pytest.mark.parametrize("state", ["accepted", "waiting", None])
async def test_what_was_a_command_to_an_earlier_version_has_an_end(more: dict[str, Any], state: Any) -> None:
    """Its id is taken already, by the hash of what that version read."""
    async with World() as world:
        world.inject(3)
        understood = {name: value for name, value in more.items() if name == "queue_names"}
        command = StartCommand.model_validate(_EARLIER).model_copy(update=understood)
        status = Status.of(command, state=state or "waiting", requested_at="2026-01-01T00:00:00Z")
        await Ids(world.ledger).take("old", hash_of(command))
        if state is not None:
            await world.ledger.record_status(name_of(status), status)
        world.publish(_EARLIER | more)
        worker = world.worker()
        ended = await world.ended("old")
        assert (ended.state, ended.type, ended.command) == ("refused", "xfer.start", hash_of(command))
        assert ended.detail is not None
        assert next(iter(more)) in ended.detail
        assert world.ledger.claims_of("old") == []
        await world.until(lambda: not list(worker.unacknowledged()))


@timeless
async def test_what_has_begun_under_an_earlier_version_is_not_refused_any_more() -> None:
    async with World() as world:
        world.inject(3)
        world.worker(drains=False)
        world.cancel("c")
        await world.until(lambda: bool(world.ledger.claims_of("c")))
        world.workers[0].kill()
        cancel = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "why", "id": "c"}
        world.publish(cancel | {"dry_run": True})
        worker = world.worker()
        assert (await world.ended("c")).state == "done"
        await world.until(lambda: not list(worker.unacknowledged()))


@timeless
async def test_an_id_is_nobody_else_s_although_he_writes_what_is_no_command() -> None:
    async with World() as world:
        world.inject(3)
        command = CancelCommand(queue_name=XFER_QUEUE, reason="why", id="c")
        await Ids(world.ledger).take("c", hash_of(command))
        cancel = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "another", "id": "c"}
        for other in (cancel | {"dry_run": True}, {"id": "c"}, {"id": "c", "type": []}):
            world.publish(other)
        world.cancel("c")
        world.worker()
        assert (await world.ended("c")).state == "done"
