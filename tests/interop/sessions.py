"""What the tests do with a peer, whatever connects them: one session, a policy that remembers, a few words."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

import trio_acp

from . import peers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Answer(trio_acp.abc.PermissionPolicy):
    """Gives the same answer to everything; None never answers."""

    def __init__(self, decision: trio_acp.abc.Decision | None) -> None:
        self.decision = decision
        self.asked: list[trio_acp.abc.PermissionRequest] = []
        self.was_asked = trio.Event()

    async def decide(self, request: trio_acp.abc.PermissionRequest) -> trio_acp.abc.Decision:
        """Remember the request and answer it."""
        self.asked.append(request)
        self.was_asked.set()
        if self.decision is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return self.decision


@asynccontextmanager
async def open_session(
    runtime: trio_acp.AcpRuntime, directory: Path, permissions: trio_acp.abc.PermissionPolicy | None = None
) -> AsyncIterator[trio_acp.Session]:
    """Yield a session of a manager whose store is in `directory`, all under the deadline of a test."""
    with trio.fail_after(peers.TEST_LIMIT):
        async with trio_acp.open_session_manager(
            runtimes={"peer": runtime},
            store=trio_acp.SQLiteStore(directory / "sessions.db"),
            permissions=permissions or Answer("deny"),
        ) as manager:
            yield await manager.start_session("agent:peer:acp:1", agent="peer", cwd=str(directory))


async def first_event_then_cancel(session: trio_acp.Session, reason: str) -> trio_acp.Outcome | None:
    """Run the prompt that waits until it is cancelled; cancel it once it has started to answer."""
    async with session.turn("wait") as turn:
        async for _ in turn:
            turn.cancel(reason)
    return turn.outcome
