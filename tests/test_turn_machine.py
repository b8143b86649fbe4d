"""One turn under any order of stops, faults and time: it ends as the model foretells, at the very instant."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.stepped_trio import TrioMachine, in_trio
from tests.turn_kit import LIMITS, SETTINGS, C, J, Watched, our_tasks
from tests.turn_world import CALLS, OPENINGS, TURNS, Behaviour, World
from trio_acp import AcpError, Completed, ConnectionLost, Stopped, open_session_manager
from trio_acp.testing import FakeRuntime
from trio_acp.testing.trace_check import check
from trio_acp.testing.turn_model import Turn as Model
from trio_acp.testing.turn_model import foretell

if TYPE_CHECKING:
    from trio_acp import Session, SessionManager, Turn
    from trio_acp.abc import Done, EventSink, Mode, TurnRequest

pytestmark = pytest.mark.concurrency

SECONDS = st.sampled_from([0.05, 0.1, 0.95, 1.0, 2.0, 5.0, 6.0])
BY = st.sampled_from(["user", "caller", "left", "closed", "shutdown"])


def one_of(behaviours: dict[str, Behaviour]) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(behaviours))


class Mortal(FakeRuntime):
    """Its connection can be lost while a turn runs."""

    def __init__(self) -> None:
        super().__init__()
        self.lives: list[trio.CancelScope] = []

    def die(self) -> None:
        self.dead |= self.open
        for life in self.lives:
            life.cancel()

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        with trio.CancelScope() as life:
            self.lives.append(life)
            return await super().run_turn(request, events)
        raise ConnectionLost("planted")


class TurnMachine(TrioMachine):
    """Drives one turn of one session; what it does to it, it also does to a `World`."""

    @initialize(
        random=st.random_module(),
        oneshot=st.booleans(),
        warm=st.booleans(),
        turn=one_of(TURNS),
        opening=one_of(OPENINGS),
        cancel=one_of(CALLS),
        close=one_of(CALLS),
        idle_ttl=st.sampled_from([0.5, math.inf]),
        at_once=st.none() | BY,
    )
    def begin(
        self,
        random: object,
        oneshot: bool,
        warm: bool,
        turn: str,
        opening: str,
        cancel: str,
        close: str,
        idle_ttl: float,
        at_once: str | None,
    ) -> None:
        """Admit a turn, and perhaps stop it before anybody else can run."""
        self.world = World(TURNS[turn], OPENINGS[opening], CALLS[cancel], CALLS[close], warm, oneshot)
        self.runtime = Mortal()
        self.watched = Watched()
        self.leave, self.caller, self.body = trio.Event(), trio.CancelScope(), trio.CancelScope()
        self.manager: SessionManager | None = None
        self.returned_at: float | None = None
        self.went_on = False
        self.trio.call(self._begin, "oneshot" if oneshot else "persistent", idle_ttl)
        self.trio.call(self._admit, at_once)

    async def _begin(self, mode: Mode, idle_ttl: float) -> None:
        assert self.trio.nursery is not None
        self.trio.nursery.start_soon(self._manage, idle_ttl)
        await trio.testing.wait_all_tasks_blocked()
        assert self.manager is not None
        self.session: Session = await self.manager.start_session("k", agent="fake", mode=mode)
        if not self.world.warm:
            await self.session.close()
        self.runtime.turn, self.runtime.ensure = self.world.turn.steps, self.world.opening.steps
        self.runtime.on_cancel, self.runtime.on_close = self.world.cancel.steps, self.world.close.steps

    async def _manage(self, idle_ttl: float) -> None:
        used = attrs.evolve(SETTINGS, idle_ttl=idle_ttl)
        async with open_session_manager({"fake": self.runtime}, settings=used, instrument=self.watched) as self.manager:
            self.watched.statistics = self.manager.statistics
            await self.leave.wait()

    async def _admit(self, at_once: str | None) -> None:
        assert self.trio.nursery is not None
        self.turn: Turn = self.session.turn("x")
        self.before = len(self.runtime.calls)
        self.began = trio.current_time()
        self.trio.nursery.start_soon(self._prompt, at_once)

    async def _prompt(self, at_once: str | None) -> None:
        try:
            with self.caller, contextlib.suppress(AcpError):
                async with self.turn:
                    if at_once is not None:
                        self._stop(at_once)
                    with self.body:
                        async for _ in self.turn:
                            pass
        finally:
            self.returned_at = trio.current_time()

    # -- what happens to it -----------------------------------------------------

    def _stop(self, by: str) -> None:
        if self.turn.outcome is not None:
            return
        self.world.stops.append((trio.current_time(), by))
        assert self.trio.nursery is not None
        match by:
            case "user":
                assert self.turn.cancel("by the machine")
            case "caller":
                self.caller.cancel()
            case "left":
                self.body.cancel()
            case "closed":
                self.trio.nursery.start_soon(self._close)
            case _:
                self.leave.set()

    async def _close(self) -> None:
        with contextlib.suppress(AcpError):  # such as that the backend did not close it in time
            await self.session.close()

    @property
    def unsettled(self) -> bool:
        return hasattr(self, "turn") and self.turn.outcome is None

    @precondition(lambda self: self.unsettled)
    @rule(by=BY, also=st.none() | BY)
    @in_trio
    async def stop(self, by: str, also: str | None) -> None:
        """Ask for the turn's end, perhaps twice in one instant."""
        done = {kind for _, kind in self.world.stops}
        for kind in (by, also):
            # Only one of these can be asked for at a time: each ends the block that the other would have to end.
            if kind is not None and kind not in done and not (kind in {"caller", "left", "closed"} and done):
                done.add(kind)
                self._stop(kind)

    @precondition(lambda self: self.unsettled and self.runtime.running and self.world.died == math.inf)
    @rule()
    @in_trio
    async def lose_the_connection(self) -> None:
        self.world.died = trio.current_time()
        self.runtime.die()

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.trio.advance(seconds)

    # -- what must be -------------------------------------------------------------

    def foretold(self) -> set[tuple[str, str | None, float, int, bool]]:
        """Every end that is permitted: outcome, who stopped it, when, how many cancels, suspect or not."""
        return {
            (
                end.ending["outcome"],
                end.ending["by"],
                round(end.now, 3),
                int("ladder.cancel" in end.at),
                "suspect" in end.at,
            )
            for end in foretell(Model(limits=LIMITS, now=self.began), self.world)
        }

    @invariant()
    @in_trio
    async def it_ends_as_foretold(self) -> None:
        if not hasattr(self, "turn"):
            return
        foretold = self.foretold()
        outcome = self.turn.outcome
        if outcome is None:
            last = max(time for _, _, time, _, _ in foretold)
            assert trio.current_time() < last + 1e-6, f"it should have ended: {foretold}"
            return
        records = {record.name: record for record in self.watched.records if record.turn == self.turn.request_id}
        names = self.runtime.names()[self.before :]
        by = outcome.by if isinstance(outcome, Stopped) else None
        found = (
            type(outcome).__name__,
            by,
            round(records["settled"].time, 3),
            names.count("cancel"),
            "suspect" in records,
        )
        assert found in foretold, f"{found} not in {foretold}"
        assert self.returned_at == records["settled"].time

    @invariant()
    def nothing_breaks_the_model(self) -> None:
        """The trace too is a run of the model, and counted exactly, at every instant (I25)."""
        if hasattr(self, "turn") and self.turn.outcome is not None:
            assert [] == check(self.watched.records)
        assert [] == getattr(self, "watched", Watched()).broken

    @invariant()
    def no_handle_in_use_is_closed(self) -> None:
        """Eviction waits for the lane (I19)."""
        if self.unsettled:
            reasons = [call.detail for call in self.runtime.calls[self.before :] if call.name == "close"]
            assert "idle-evicted" not in reasons

    def teardown(self) -> None:
        try:
            if hasattr(self, "turn"):
                self.trio.advance(60)
                self.it_ends_as_foretold()
                assert self.turn.outcome is not None
                self.trio.call(self._go_on)
                self.trio.advance(C + J)
                assert self.went_on == (not self.leave.is_set())
                self.trio.call_sync(self.leave.set)
                self.trio.advance(60)
                assert [] == self.trio.call_sync(our_tasks)
                assert set() == self.runtime.open
                self.nothing_breaks_the_model()
        finally:
            super().teardown()

    async def _go_on(self) -> None:
        """Whatever happened, the session is usable; at worst, the evictor is just closing its handle (I17)."""
        assert self.trio.nursery is not None
        if not self.leave.is_set():
            self.runtime.turn, self.runtime.ensure, self.runtime.on_close = [], [], []
            self.trio.nursery.start_soon(self._next_turn)

    async def _next_turn(self) -> None:
        assert Completed() == (await self.session.prompt("again")).outcome
        self.went_on = True


TestTurn = TurnMachine.TestCase
assert settings.default is not None
# Short runs, so many of them; half as many on a build machine, which draws three times as much as others anyway.
RUNS = (2 if settings.get_current_profile_name() == "ci" else 4) * settings.default.max_examples
TestTurn.settings = settings(max_examples=RUNS, stateful_step_count=8)
