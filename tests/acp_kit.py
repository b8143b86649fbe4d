"""What the tests of the ACP stack share: a manager connected to a scripted agent, in virtual time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_acp.abc import Instrument, PermissionPolicy, SessionStore


@asynccontextmanager
async def managed(
    agent: ScriptedAgent,
    *,
    settings: trio_acp.Settings | None = None,
    store: SessionStore | None = None,
    permissions: PermissionPolicy | None = None,
    instrument: Instrument | None = None,
    **options: Any,
) -> AsyncIterator[trio_acp.SessionManager]:
    """Open a manager whose runtime ``agent`` is `agent`; `options` go to its `AcpRuntime`."""
    async with trio_acp.open_session_manager(
        {"agent": trio_acp.AcpRuntime(dial_agent(agent), **options)},
        settings=settings,
        store=store,
        permissions=permissions,
        instrument=instrument,
    ) as manager:
        yield manager


@asynccontextmanager
async def session_with(agent: ScriptedAgent, **options: Any) -> AsyncIterator[trio_acp.Session]:
    """Open a manager and one session of `agent`."""
    async with managed(agent, **options) as manager:
        yield await manager.start_session("k", agent="agent", cwd="/repo")


def received(agent: ScriptedAgent, *methods: str) -> list[str]:
    """Return the methods the agent got, in order: all, or only those named."""
    return [entry.method for entry in agent.log if entry.method and (not methods or entry.method in methods)]


def prompts(agent: ScriptedAgent) -> list[str]:
    """Return the texts of the prompts the agent got, in order."""
    return [
        entry.params["prompt"][0]["text"]
        for entry in agent.log
        if entry.method == "session/prompt" and isinstance(entry.params, dict)
    ]


def connections(agent: ScriptedAgent, method: str) -> list[int]:
    """Return the numbers of the connections on which the agent got `method`."""
    return [entry.connection for entry in agent.log if entry.method == method]
