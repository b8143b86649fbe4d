"""The ledger's side of a turn: begun, kept up to date, settled.

A turn of a session that has a requester has a task in the ledger.  It is put
there before anything is opened, and every way in which the turn can end
settles it, for each leads through `BackgroundTask.settle`; where that cannot
be written, the `Bookkeeper` keeps it until it can.  All other turns, and all
turns of a manager without a ledger, have nothing to do with this file.

A turn waits for its ledger twice: a moment (`HEAD_START`) before it opens
anything, and at most `cleanup`, beside the ladder, before it settles.  What
the ledger does meanwhile, or raises, decides nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ._events import TextContent, TextDelta, Thought, ToolCall
from ._ledger import Progress, prompt_summary, settled
from ._tasks import TaskRecord

if TYPE_CHECKING:
    from ._calls import Call
    from ._context import Context
    from ._events import Event
    from ._outcomes import Outcome
    from ._records import SessionRecord
    from ._statistics import TurnCounters
    from ._turn_state import TurnState
    from .abc import Ledger

_log = logging.getLogger(__name__)

HEAD_START: Final = 0.1
"""Seconds for which a turn waits until it is on record; the write itself has `cleanup`."""
PROGRESS_EVERY: Final = 1.0
"""Seconds between two words about one turn to the ledger."""
MAX_UNWRITTEN: Final = 1000
"""Ends of tasks that a manager keeps for a ledger that does not take them."""

_OUTPUT: Final = (TextDelta, Thought, ToolCall)


class Bookkeeper:
    """Puts tasks into the ledger of one manager, best effort.

    Attributes:
        unwritten: Terminal records that are not in the ledger yet, by run id;
            the next put of the same session, or the manager's exit, tries again.
    """

    def __init__(self, ledger: Ledger, counters: TurnCounters) -> None:
        self.ledger = ledger
        self._counters = counters
        self.unwritten: dict[str, TaskRecord] = {}

    async def put(self, task: TaskRecord, deadline: float) -> None:
        """Put a task into the ledger, after what is still missing there of the same session.

        A failure, or the clock showing `deadline`, is logged and counted.  If
        cancelled, a terminal record is tried again later.
        """
        if not task.is_open:
            self._keep(task)  # first: whatever interrupts the rest, it is not lost
        problem: str | None = "no answer in time"
        with trio.move_on_at(deadline):
            for other in [kept for kept in self.unwritten.values() if kept.session == task.session]:
                if other is not task:
                    await self._try(other)
            await self._try(task)
            problem = None
        if problem is not None:
            self._failed(task, problem)

    async def flush(self, deadline: float) -> None:
        """Try once more to put what is missing.  If cancelled, or at `deadline`, the rest is lost."""
        with trio.move_on_at(deadline):
            for task in list(self.unwritten.values()):
                await self._try(task)
        if self.unwritten:
            _log.error("the ledger lacks the end of %d tasks", len(self.unwritten))

    def _keep(self, task: TaskRecord) -> None:
        self.unwritten[task.run_id] = task
        if len(self.unwritten) > MAX_UNWRITTEN:
            oldest = next(iter(self.unwritten))
            del self.unwritten[oldest]
            _log.error("the ledger takes nothing: the end of task %s is forgotten", oldest)

    async def _try(self, task: TaskRecord) -> None:
        try:
            await self.ledger.put(task)
        except Exception as error:  # noqa: BLE001 - whatever a ledger raises, it decides nothing
            self._failed(task, str(error) or repr(error))
        else:
            if self.unwritten.get(task.run_id) is task:
                del self.unwritten[task.run_id]

    def _failed(self, task: TaskRecord, problem: str) -> None:
        self._counters.ledger_failures += 1
        # Of a task that goes on there will be more to write, and it will include this.
        level = logging.INFO if task.is_open else logging.WARNING
        _log.log(level, "the ledger did not take task %s (%s): %s", task.run_id, task.status, problem)


class BackgroundTask:
    """One turn's task: what the ledger is told of it, and when.

    At most one call is under way to tell that the turn began or how it goes;
    settling ends it, and makes one more.
    """

    def __init__(self, ctx: Context, book: Bookkeeper, turn: TurnState, record: SessionRecord) -> None:
        assert record.requester is not None
        self._ctx = ctx
        self._book = book
        self._patience = turn.limits.cleanup
        self._progress = Progress()
        self._next = trio.current_time() + PROGRESS_EVERY
        self._last_event: float | None = None
        self._news = False
        self._call: Call[None] | None = None
        self._end: Call[None] | None = None
        prompt = next((block.text for block in turn.prompt if isinstance(block, TextContent)), "")
        self._task = TaskRecord(
            run_id=turn.id,
            requester=record.requester,
            session=turn.key,
            label=record.label,
            task=prompt_summary(prompt),
            started=ctx.wall_clock(),
            owner=ctx.owner,
        )

    async def begin(self, turn: TurnState, deadline: float) -> None:
        """Have the task put into the ledger; wait a moment for it, until `deadline` or a cause at most.

        If cancelled, the call goes on.
        """

        def ended() -> None:
            turn.poke()
            self._wake()

        now = trio.current_time()
        self._call = self._ctx.calls.start(
            "ledger begin", self._book.put, self._task, now + self._patience, on_end=ended
        )
        await turn.wait_for(self._call, min(deadline, now + HEAD_START))

    def saw(self, event: Event) -> None:
        """Take notice of an event of the turn; sooner or later the ledger is told."""
        if not isinstance(event, _OUTPUT):
            return
        if isinstance(event, TextDelta):
            self._progress.add(event.text)
        self._last_event = self._ctx.wall_clock()
        self._news = True
        self._wake()

    def _wake(self) -> None:
        """See that somebody tells the news, if there are any."""
        if self._news and self._end is None and (self._call is None or self._call.finished):
            self._call = self._ctx.calls.start("ledger progress", self._tell)

    async def _tell(self) -> None:
        while self._news:
            await trio.sleep_until(self._next)
            self._news = False
            self._next = trio.current_time() + PROGRESS_EVERY
            await self._book.put(self._as_known(), trio.current_time() + self._patience)

    def settle(self, outcome: Outcome) -> Call[None]:
        """Have the end put into the ledger, within `cleanup`; the first call counts.

        Returns:
            The call that does it.
        """
        if self._end is None:
            self._task = settled(self._as_known(), outcome, self._ctx.wall_clock())
            if self._call is not None:
                self._call.scope.cancel(reason="the task has ended")
            deadline = trio.current_time() + self._patience
            self._end = self._ctx.calls.start("ledger end", self._book.put, self._task, deadline)
        return self._end

    def _as_known(self) -> TaskRecord:
        return attrs.evolve(self._task, last_event=self._last_event, progress=self._progress.text or None)


async def begin_task(ctx: Context, turn: TurnState, record: SessionRecord, deadline: float) -> None:
    """Give a turn a task, once; its session works for another one.

    If cancelled, the turn has its task, which may be in the ledger.
    """
    if ctx.book is not None and turn.mode == "prompt" and turn.background is None:
        turn.background = BackgroundTask(ctx, ctx.book, turn, record)
        await turn.background.begin(turn, deadline)
