"""The side of the official Python SDK: one scenario, told on standard output.

Usage: ``python -m benchmarks.cancellation.sdk_side SCENARIO AGENT ARGUMENT...``

It runs where the SDK is installed, and uses nothing of trio_acp but the agent's command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import acp
from acp.schema import AllowedOutcome, RequestPermissionResponse

from .plan import (
    CANCEL_CLOSE,
    GIVE_UP,
    LATE_ANSWER,
    NEXT,
    OBSERVE,
    RESIST,
    SCENARIOS,
    STRIKE,
    TIDY_UP,
    TIMEOUT,
    Scenario,
)
from .telling import CountWarnings, Told

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Application:
    """The client that the SDK calls: it notes updates, and its permission handler does what the scenario says."""

    def __init__(self, scenario: Scenario, told: Told) -> None:
        self._handler = scenario.handler
        self._told = told
        self.updated = asyncio.Event()
        self.asked = asyncio.Event()

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Note an update."""
        self._told.delivered.append((time.monotonic(), str(update.content.text)))
        self.updated.set()

    async def request_permission(
        self, options: Any, session_id: str, tool_call: Any, **_: Any
    ) -> RequestPermissionResponse:
        """Allow, sooner or later."""
        self._told.handler_cancelled = False
        self.asked.set()
        if self._handler == "resist":
            await self._resist()
        else:
            await self._take_a_while()
        return RequestPermissionResponse(outcome=AllowedOutcome(option_id=options[0].option_id, outcome="selected"))

    async def _resist(self) -> None:
        until = time.monotonic() + RESIST
        while (left := until - time.monotonic()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
                return
            self._told.handler_cancelled = True

    async def _take_a_while(self) -> None:
        try:
            await asyncio.sleep(LATE_ANSWER)
        except asyncio.CancelledError:
            self._told.handler_cancelled = True
            if self._handler == "tidy":
                self._told.tidied_up = False
                await asyncio.sleep(TIDY_UP)
                self._told.tidied_up = True
            raise


class Side:
    """One run: a connection, its session, and what is told of it."""

    def __init__(self, told: Told, application: Application, connection: Any, session: str) -> None:
        self.told, self.application, self.connection, self.session = told, application, connection, session

    def prompt(self, text: str) -> Awaitable[Any]:
        """Prompt the session."""
        prompting: Awaitable[Any] = self.connection.prompt(session_id=self.session, prompt=[acp.text_block(text)])
        return prompting

    async def end_of(self, call: asyncio.Task[Any]) -> None:
        """Wait for the call that the scenario is about, and tell how it ended."""
        await asyncio.wait([call], timeout=GIVE_UP)
        if call.done():
            self.told.ended_at = time.monotonic()
            self.told.ended_as = how(call)
            self.told.swallowed = self.told.cancelled and not call.cancelled()

    async def play(self, scenario: Scenario) -> None:
        """Play the scenario."""
        text = scenario.prompt
        match scenario.name:
            case "caller" | "next":
                call = asyncio.ensure_future(self.prompt(text))
                await self.application.updated.wait()
                await asyncio.sleep(STRIKE)
                await self.cancel(call)
            case "timeout":
                self.told.struck_at = time.monotonic() + TIMEOUT
                await self.end_of(asyncio.create_task(asyncio.wait_for(self.prompt(text), TIMEOUT)))
            case "close" | "resist":
                prompting = asyncio.ensure_future(self.prompt(text))
                await self.application.asked.wait()
                self.told.struck_at = self.told.closing_at = time.monotonic()
                closing = asyncio.create_task(self.close())
                if scenario.name == "close":
                    await asyncio.sleep(CANCEL_CLOSE)
                    await self.cancel(closing)
                else:
                    await self.end_of(closing)
                await asyncio.wait([prompting], timeout=GIVE_UP)
                how(prompting)
            case "peer":
                await self.end_of(asyncio.ensure_future(self.prompt(text)))
            case "dies":
                call = asyncio.ensure_future(self.prompt(text))
                await self.application.updated.wait()
                await asyncio.sleep(STRIKE)
                self.told.struck_at = time.monotonic()
                await self.connection.cancel(session_id=self.session)
                await self.end_of(call)
        if scenario.name in {"next", "timeout"}:
            following = asyncio.ensure_future(self.prompt(NEXT))
            await asyncio.wait([following], timeout=GIVE_UP)
            self.told.next_as = how(following) if following.done() else "did not end"

    async def close(self) -> None:
        """Close the connection, and then wait for something else: there a cancellation can come out, at the latest."""
        await self.connection.close()
        await asyncio.sleep(0)

    async def cancel(self, call: asyncio.Task[Any]) -> None:
        """Cancel a call's caller, and tell how it ended."""
        self.told.cancelled = True
        self.told.struck_at = time.monotonic()
        call.cancel()
        await self.end_of(call)


def how(call: asyncio.Future[Any]) -> str:
    """Say how a call has ended."""
    if not call.done():
        return "did not end"
    if call.cancelled():
        return "`CancelledError`"
    if (error := call.exception()) is not None:
        return f"`{type(error).__name__}`"
    return f"`{call.result().stop_reason}`" if call.result() is not None else "returned"


async def run(scenario: Scenario, agent: list[str], told: Told) -> None:
    """Connect, play, watch."""
    application = Application(scenario, told)
    async with acp.spawn_agent_process(application, *agent, env=dict(os.environ)) as (connection, _):
        await connection.initialize(protocol_version=acp.PROTOCOL_VERSION)
        session = await connection.new_session(cwd="/", mcp_servers=[])
        await Side(told, application, connection, session.session_id).play(scenario)
        if not scenario.closes:
            watched = time.monotonic() - (told.struck_at or time.monotonic())
            await asyncio.sleep(max(0.0, OBSERVE - watched))
        told.watched_until = time.monotonic()
    told.left_at = time.monotonic()


def main(argv: list[str]) -> None:
    """Run one scenario."""
    (scenario,) = (each for each in SCENARIOS if each.name == argv[0])
    told = Told(f"agent-client-protocol {version('agent-client-protocol')}")
    logging.getLogger().addHandler(CountWarnings(told))
    asyncio.run(run(scenario, argv[1:], told))
    print(told.dump())


if __name__ == "__main__":
    main(sys.argv[1:])
