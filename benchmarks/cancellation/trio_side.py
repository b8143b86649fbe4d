"""The side of trio_acp: one scenario, told on standard output.

Usage: ``python -m benchmarks.cancellation.trio_side SCENARIO AGENT ARGUMENT...``
"""

from __future__ import annotations

import logging
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import trio

import trio_acp

from .plan import (
    CANCEL_CLOSE,
    CLEANUP,
    GIVE_UP,
    GRACE,
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
    from trio_acp.abc import PermissionRequest


class Policy(trio_acp.abc.PermissionPolicy):
    """Allows, sooner or later; what it makes of a cancellation is the scenario's."""

    def __init__(self, scenario: Scenario, told: Told) -> None:
        self._handler = scenario.handler
        self._told = told
        self.asked = trio.Event()

    async def decide(self, request: PermissionRequest) -> trio_acp.abc.Decision:
        """Take a while, then allow."""
        self._told.handler_cancelled = False
        self.asked.set()
        resists = self._handler == "resist"
        try:
            with trio.move_on_after(RESIST if resists else LATE_ANSWER, shield=resists):
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            self._told.handler_cancelled = True
            if self._handler == "tidy":
                with trio.move_on_after(TIDY_UP, shield=True) as scope:
                    await trio.sleep_forever()
                self._told.tidied_up = scope.cancelled_caught
            raise
        return "allow"


class Side:
    """One run: a manager, its session, and what is told of it."""

    def __init__(self, told: Told, policy: Policy, session: trio_acp.Session) -> None:
        self.told, self.policy, self.session = told, policy, session
        self.updated = trio.Event()
        self.turn: trio_acp.Turn | None = None

    async def prompt(self, text: str, timeout: float | None = None) -> str:
        """Run a turn, noting its updates; say how it ended."""
        self.turn = self.session.turn(text, timeout=timeout)
        try:
            async with self.turn:
                async for event in self.turn:
                    if isinstance(event, trio_acp.TextDelta):
                        self.told.delivered.append((time.monotonic(), event.text))
                        self.updated.set()
        except trio_acp.AcpError as error:
            return f"`{type(error).__name__}`"
        return how(self.turn)

    def ended(self, ended_as: str) -> None:
        """Tell how the call has ended that the scenario is about."""
        self.told.ended_at = time.monotonic()
        self.told.ended_as = ended_as

    async def play(self, scenario: Scenario) -> None:
        """Play a scenario, all but what comes as the manager is left."""
        text = scenario.prompt
        match scenario.name:
            case "caller" | "next":
                await self.cancel_a_caller(text)
            case "timeout":
                self.told.struck_at = time.monotonic() + TIMEOUT
                self.ended(await self.prompt(text, TIMEOUT))
            case "resist":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.prompt, text)
                    await self.policy.asked.wait()
                    self.told.struck_at = self.told.closing_at = time.monotonic()
                    with trio.move_on_after(GIVE_UP):
                        await self.session.close()
                        self.ended("returned")
            case "peer":
                self.ended(await self.prompt(text))
            case "dies":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.cancel_as_a_user)
                    self.ended(await self.prompt(text))
        if scenario.name in {"next", "timeout"}:
            self.told.next_as = "did not end"
            with trio.move_on_after(GIVE_UP):
                self.told.next_as = await self.prompt(NEXT)

    async def cancel_a_caller(self, text: str) -> None:
        """Cancel the scope around a turn, and tell how it ended."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.prompt, text)
                await self.updated.wait()
                await trio.sleep(STRIKE)
                self.told.cancelled = True
                self.told.struck_at = time.monotonic()
                scope.cancel(reason="the scenario")
        self.told.swallowed = not scope.cancelled_caught
        self.ended("`Cancelled`" if scope.cancelled_caught else "returned")

    async def cancel_as_a_user(self) -> None:
        """Stop the turn as a user does."""
        await self.updated.wait()
        await trio.sleep(STRIKE)
        self.told.struck_at = time.monotonic()
        assert self.turn is not None
        self.turn.cancel("the scenario")


def how(turn: trio_acp.Turn) -> str:
    """Say how a turn has ended."""
    match turn.outcome:
        case trio_acp.Completed(stop_reason=reason):
            return f"`{reason}`"
        case trio_acp.Stopped(by=by):
            return f'`Stopped(by="{by}")`'
        case outcome:
            return f"`{type(outcome).__name__}`"


async def run(scenario: Scenario, agent: list[str], told: Told) -> None:
    """Open a manager, play, watch, leave it."""
    policy = Policy(scenario, told)
    leaving = trio.CancelScope()
    async with trio.open_nursery() as outside:
        with leaving:
            async with trio_acp.open_session_manager(
                {"agent": trio_acp.AcpRuntime.stdio(agent)},
                permissions=policy,
                settings=trio_acp.Settings(limits=trio_acp.Limits(cleanup=CLEANUP, grace=GRACE)),
            ) as manager:
                side = Side(told, policy, await manager.start_session("k", agent="agent", cwd="/"))
                if scenario.name == "close":
                    outside.start_soon(side.prompt, scenario.prompt)
                    await policy.asked.wait()
                    outside.start_soon(cancel_soon, leaving, told)
                else:
                    await side.play(scenario)
                if not scenario.closes:
                    watched = time.monotonic() - (told.struck_at or time.monotonic())
                    await trio.sleep(max(0.0, OBSERVE - watched))
                told.watched_until = time.monotonic()
            # Here a cancellation can come out, at the latest.
            await trio.lowlevel.checkpoint()
        if scenario.name == "close":
            told.swallowed = not leaving.cancelled_caught
            side.ended("`Cancelled`" if leaving.cancelled_caught else "returned")
    told.left_at = time.monotonic()


async def cancel_soon(leaving: trio.CancelScope, told: Told) -> None:
    """Cancel whoever leaves the manager, shortly after."""
    told.closing_at = time.monotonic()
    await trio.sleep(CANCEL_CLOSE)
    told.cancelled = True
    told.struck_at = time.monotonic()
    leaving.cancel(reason="the scenario")


def main(argv: list[str]) -> None:
    """Run one scenario."""
    (scenario,) = (each for each in SCENARIOS if each.name == argv[0])
    told = Told(f"trio_acp {version('trio-acp')}, trio {version('trio')}")
    logging.getLogger().addHandler(CountWarnings(told))
    trio.run(run, scenario, argv[1:], told)
    print(told.dump())


if __name__ == "__main__":
    main(sys.argv[1:])
