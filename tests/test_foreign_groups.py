"""Foreign code has nurseries of its own: what leaves them in groups is taken for what it is."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

import trio_acp
from tests.test_audit import audited, raw, told
from trio_acp import MemoryAudit
from trio_acp._appender import Appender
from trio_acp.abc import PermissionPolicy
from trio_acp.testing import ScriptedAgent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from trio_acp.abc import Decision, PermissionRequest

pytestmark = pytest.mark.concurrency

TAKEN_BACK = json.dumps({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": "r1"}})


class TwoAtOnce(PermissionPolicy):
    """Asks two in a nursery: cancelled, it raises a group of several; fails as well if it is to."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    async def _one(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self.fails:
                raise ValueError("while it was cancelled")

    async def decide(self, request: PermissionRequest) -> Decision:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(self._one)
            await trio.sleep_forever()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("how", ["taken back", "stopped", "cut off"])
async def test_a_question_to_several_leaves_one_record(how: str, fails: bool, autojump_clock: MockClock) -> None:
    """A policy that asks in a nursery is on record once, as cancelled, whatever ends its question."""
    log, agent = MemoryAudit(), ScriptedAgent()
    last = {"taken back": f"raw {TAKEN_BACK}\nsleep 1", "stopped": "hang", "cut off": "close"}[how]
    async with audited(agent, log, TwoAtOnce(fails=fails)) as session:
        with suppress(trio_acp.TurnFailed), trio.move_on_after(5):
            await session.prompt(f"{raw(1)}\nsleep 1\n{last}")
    [record] = await log.list()
    assert "cancel" == record.decision
    if how != "cut off":
        assert {"cancel": 1} == told(agent)


async def test_a_write_that_fails_when_it_is_too_late_is_tried_again(autojump_clock: MockClock) -> None:
    """A log that has a nursery, and fails in it once its time is over, ends nothing but this attempt."""
    kept: list[int] = []
    first = True

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it was cancelled")

    async def write(records: Sequence[int]) -> None:
        nonlocal first
        if first:
            first = False
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(fail)
        kept.extend(records)

    appender = Appender("log", write, patience=1.0, most=10)
    appender.add(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(appender.run)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert [1] == kept
    assert 1 == appender.failures
