"""The lane of one session under any order of requests, withdrawals, faults and time; a list is the oracle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.stepped_trio import TrioMachine, in_trio
from tests.turn_kit import LIMITS, J, T, Watched, our_tasks
from trio_acp import QueueFull, Settings, TextContent, TurnFailed, TurnTimedOut, UsageError, open_session_manager
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep
from trio_acp.testing.trace_check import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_acp import Session, SessionManager, Turn
    from trio_acp._requests import Control
    from trio_acp.abc import TurnRequest
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

MAX_QUEUED = 3
BOUND = T + LIMITS.grace
SECONDS = st.sampled_from([0.25, 0.5, 1.0, 3.0, 7.0])
LENGTHS = st.sampled_from([0.0, 0.5, 1.0, 4.0, math.inf])


@attrs.define(eq=False)
class Asked:
    """A request, what the oracle says of it, and what came of it.

    Attributes:
        seconds: How long it takes if nobody stops it; a turn that takes for ever times out.
        ends: When it ends, once it is at the head of the lane.
        ending: How; `seen` is what its caller sees, if that is something else.
        expected, found: What its caller sees, and when.
    """

    name: str
    kind: Literal["turn", "control"]
    seconds: float
    fails: bool
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    turn: Turn | None = None
    ends: float | None = None
    ending: str = ""
    stopped: bool = False
    seen: str | None = None
    expected: tuple[str, float] | None = None
    found: tuple[str, float] | None = None


class Lane:
    """The oracle: a list; the first one runs until its end, the others wait."""

    def __init__(self) -> None:
        self.waiting: list[Asked] = []
        self.ran: list[str] = []
        self.now = 0.0

    def add(self, asked: Asked) -> bool:
        if len(self.waiting) > MAX_QUEUED:
            return False
        self.waiting.append(asked)
        self._begin()
        return True

    def _begin(self) -> None:
        while self.waiting and self.waiting[0].ends is None:
            head = self.waiting[0]
            self.ran.append(head.name)
            head.ending = "failed" if head.fails else "done"
            head.ends = self.now + head.seconds
            if head.kind == "turn" and head.seconds > BOUND:
                head.ending, head.ends = "timed out", self.now + BOUND + J
            self._end_those_that_are_over()

    def _end_those_that_are_over(self) -> None:
        while self.waiting and self.waiting[0].ends is not None and self.waiting[0].ends <= self.now:
            head = self.waiting.pop(0)
            head.expected = (head.seen or head.ending, self.now)

    def advance(self, seconds: float) -> None:
        target = self.now + seconds
        while self.waiting and self.waiting[0].ends is not None and self.waiting[0].ends <= target:
            self.now = max(self.now, self.waiting[0].ends)
            self._end_those_that_are_over()
            self._begin()
        self.now = target

    def stop(self, asked: Asked, *, cancelled: bool) -> None:
        """Who waits is gone at once; a control that runs too; a turn that runs needs `join` at most."""
        asked.seen = "cancelled" if cancelled else asked.seen
        times_out = asked.ending == "timed out" and asked.ends is not None and asked.ends <= self.now + J
        if not asked.stopped and not times_out:
            asked.stopped, asked.ending = True, "stopped"
        if asked.ends is None:
            self.waiting.remove(asked)
            asked.expected = (asked.seen or asked.ending, self.now)
        elif asked.kind == "control":
            asked.ends = self.now
        else:
            asked.ends = min(asked.ends, self.now + J)
        self._end_those_that_are_over()
        self._begin()


class ActorMachine(TrioMachine):
    """Drives the lane of one session whose handle is open; the oracle is told the same."""

    @initialize(random=st.random_module())
    def open(self, random: object) -> None:
        self.lane = Lane()
        self.runtime = FakeRuntime(self._steps)
        self.watched = Watched()
        self.all: list[Asked] = []
        self.ran: list[str] = []
        self.refused = 0
        self.leave = trio.Event()
        self.manager: SessionManager | None = None
        self.trio.call(self._open)

    async def _open(self) -> None:
        assert self.trio.nursery is not None
        self.trio.nursery.start_soon(self._manage)
        await trio.testing.wait_all_tasks_blocked()
        assert self.manager is not None
        self.session: Session = await self.manager.start_session("k", agent="fake")

    async def _manage(self) -> None:
        used = Settings(limits=LIMITS, max_queued=MAX_QUEUED)
        async with open_session_manager({"fake": self.runtime}, settings=used, instrument=self.watched) as self.manager:
            self.watched.statistics = self.manager.statistics
            await self.leave.wait()

    def _steps(self, request: TurnRequest) -> Sequence[Step]:
        [content] = request.prompt
        assert isinstance(content, TextContent)
        asked = next(asked for asked in self.all if asked.name == content.text)
        self.ran.append(asked.name)
        wait: list[Step] = [Hang() if asked.seconds == math.inf else Sleep(asked.seconds)] if asked.seconds else []
        return [*wait, Raise(OSError("planted"))] if asked.fails else wait

    # -- what is asked for --------------------------------------------------------

    @rule(
        requests=st.lists(
            st.tuples(st.sampled_from(["turn", "control"]), LENGTHS, st.booleans()), min_size=1, max_size=3
        )
    )
    def ask(self, requests: list[tuple[Literal["turn", "control"], float, bool]]) -> None:
        """Some turns and controls, one after the other, each with a caller of its own."""
        for kind, seconds, fails in requests:
            asked = Asked(str(len(self.all)), kind, seconds, fails and seconds < math.inf)
            self.all.append(asked)
            self.trio.call(self._ask, asked)
            if not self.lane.add(asked):
                asked.expected = ("refused", self.lane.now)

    async def _ask(self, asked: Asked) -> None:
        assert self.trio.nursery is not None
        self.trio.nursery.start_soon(self._carry_out, asked)

    async def _carry_out(self, asked: Asked) -> None:
        how = "cancelled"
        try:
            with asked.scope:
                how = await (self._turn(asked) if asked.kind == "turn" else self._control(asked))
        except QueueFull:
            how = "refused"
        except UsageError:
            how = "failed"
        asked.found = (how, trio.current_time())

    async def _turn(self, asked: Asked) -> str:
        asked.turn = self.session.turn(asked.name)
        try:
            async with asked.turn:
                async for _ in asked.turn:
                    pass
        except (TurnFailed, TurnTimedOut):
            assert asked.turn.outcome is not None
        outcome = type(asked.turn.outcome).__name__
        return {"Completed": "done", "Stopped": "stopped", "Failed": "failed", "TimedOut": "timed out"}[outcome]

    async def _control(self, asked: Asked) -> str:
        async def run(control: Control) -> str:
            self.ran.append(asked.name)
            await control.interruptibly(math.inf, trio.sleep, asked.seconds)
            if asked.fails and not control.stopping:
                raise UsageError("planted")
            return "done"

        await trio.lowlevel.checkpoint()
        how: str = await self.session._operate(run)
        return how

    # -- what happens to it -------------------------------------------------------

    @precondition(lambda self: self.lane.waiting)
    @rule(data=st.data())
    @in_trio
    async def cancel_a_caller(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.lane.waiting))
        asked.scope.cancel()
        self.lane.stop(asked, cancelled=True)

    @precondition(lambda self: any(asked.kind == "turn" for asked in self.lane.waiting))
    @rule(data=st.data())
    @in_trio
    async def stop_a_turn(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from([asked for asked in self.lane.waiting if asked.kind == "turn"]))
        assert asked.turn is not None
        assert asked.turn.cancel()
        self.lane.stop(asked, cancelled=False)

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.trio.advance(seconds)
        self.lane.advance(seconds)

    # -- what must be -------------------------------------------------------------

    @invariant()
    def each_ended_as_the_list_says(self) -> None:
        """How, and when: to the instant."""
        for asked in getattr(self, "all", []):
            if asked.expected is None or asked.found is None:
                assert asked.expected is asked.found, asked
            else:
                assert (asked.expected[0], round(asked.expected[1], 3)) == (asked.found[0], round(asked.found[1], 3))

    @invariant()
    def they_ran_in_order(self) -> None:
        """First come, first served; who was withdrawn or refused never ran; never two at once (I1, I9)."""
        if hasattr(self, "lane"):
            assert self.lane.ran == self.ran
            assert set(self.runtime.most_at_once.values()) <= {1}

    @invariant()
    def every_turn_is_counted(self) -> None:
        """The statistics are those of the list (I25)."""
        if getattr(self, "manager", None) is None:
            return
        assert self.manager is not None
        turns = [asked for asked in self.all if asked.kind == "turn" and (asked.expected or ("",))[0] != "refused"]
        ended = [asked.ending for asked in turns if asked.expected is not None]
        found = self.manager.statistics()
        assert [] == self.watched.broken
        assert (len(turns), ended.count("done"), ended.count("failed")) == (
            found.submitted,
            found.completed,
            found.failed,
        )
        assert ended.count("stopped") == found.stopped
        assert ended.count("timed out") == found.timed_out
        assert len([asked for asked in turns if asked.expected is None]) == found.depth

    def teardown(self) -> None:
        try:
            if hasattr(self, "leave"):
                for asked in list(self.lane.waiting):
                    if asked.kind == "control":  # nothing else bounds one that we made to last for ever
                        asked.scope.cancel()
                        self.trio.call(trio.lowlevel.checkpoint)
                        self.lane.stop(asked, cancelled=True)
                self.advance((MAX_QUEUED + 1) * (BOUND + J))
                assert [] == self.lane.waiting
                self.each_ended_as_the_list_says()
                self.trio.call_sync(self.leave.set)
                self.trio.advance(1)
                assert [] == self.trio.call_sync(our_tasks)
                assert [] == check(self.watched.records, LIMITS)
        finally:
            super().teardown()


TestActor = ActorMachine.TestCase
assert settings.default is not None
TestActor.settings = settings(max_examples=2 * settings.default.max_examples, stateful_step_count=15)
