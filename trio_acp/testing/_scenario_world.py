"""One run of a scenario over the whole stack: what it is made of, and what it did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
import trio.testing

from .._errors import AcpError
from .._events import TextDelta
from .._limits import Limits, Settings
from .._manager import open_session_manager
from .._outcomes import Stopped
from ..abc import Instrument, PermissionPolicy
from ..acp.runtime import AcpRuntime
from ..explore import Call, Cancel, Jump
from ..stores import MemoryStore
from ._scenario_wire import Wire
from ._scripted_agent import ScriptedAgent
from .turn_model import Broken
from .turn_model import Turn as ModelTurn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .._manager import SessionManager
    from .._outcomes import Reply
    from .._prompt import Turn
    from .._records import SessionRecord
    from .._session import Session
    from .._statistics import Statistics
    from .._trace import TraceRecord
    from ..abc import Decision, Mutate, PermissionRequest
    from ..explore import Case

LIMITS: Final = Limits(turn=20.0, grace=1.0, cleanup=2.0, setup=6.0, probe=2.0, controls=3.0, settle=1.0, join=0.1)
JUMP: Final = Jump(30.0)
"""Longer than any deadline of `LIMITS`."""
ACTIONS: Final = (Cancel(), Call("user"), Call("cut"), Call("death"), Call("shutdown"), Call("vanish"), JUMP)
"""What strikes: the callers' scope is cancelled; `Turn.cancel` of every turn; the wire breaks; the agent is killed;
the body of the manager's block is cancelled; a scope around the whole manager, its exit included, is cancelled; the
clock jumps."""

_HOSTILE: Final = {"call:cut", "call:death", "call:shutdown", "call:vanish", JUMP.name}
_PERMISSIVE: Final = Limits(turn=1e-9, grace=1e-9)
_FOLLOW_UP: Final = LIMITS.setup + LIMITS.turn + 6 * LIMITS.cleanup


class AllowSlowly(PermissionPolicy):
    """Takes a while to allow."""

    async def decide(self, request: PermissionRequest) -> Decision:
        """Allow, half a second later.  If cancelled, nothing was decided."""
        await trio.sleep(0.5)
        return "allow"


class _SlowStore(MemoryStore):
    """Takes a while to write."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        """Update a record, later.  If cancelled, it did not happen."""
        if self._seconds:
            await trio.sleep(self._seconds)
        return await super().update(key, mutate)


@attrs.define(eq=False)
class Prompted:
    """A turn as its caller saw it.

    Attributes:
        texts: The pieces of reply that the caller read.
        reply: What `Turn.reply` said when the caller went on; None if it was not settled then.
        left: Whether the caller has left the turn's block.
    """

    text: str
    turn: Turn
    texts: list[str] = attrs.field(factory=list)
    reply: Reply | None = None
    left: bool = False


class Trace(Instrument):
    """Remembers every record, follows the model with it, and looks at what must hold at every instant."""

    def __init__(self, world: World) -> None:
        self.records: list[TraceRecord] = []
        self.faults: list[str] = []
        self._world = world
        self._models: dict[str, ModelTurn] = {}
        self._followed = 0
        self._begun = False

    def record(self, record: TraceRecord) -> None:
        """Remember a record."""
        self.records.append(record)
        if record.name == "admitted" and self._world.case.scope.cancel_called and not self._world.callers_over:
            self.faults.append("I12: a cancelled caller has submitted another prompt")
        if (manager := self._world.manager) is None:
            return
        s = manager.statistics()
        if s.submitted != s.queued + s.active + s.completed + s.failed + s.timed_out + s.stopped:
            self.faults.append(f"I25: at {record.name}, the turns do not add up: {s}")
        if s.capacity.limit is not None and s.capacity.taken > s.capacity.limit:
            self.faults.append(f"I20: at {record.name}, {s.capacity.taken} slots are taken of {s.capacity.limit}")

    def names(self, turn: str) -> list[str]:
        """Return what happened to a turn, in order."""
        return [record.name for record in self.records if record.turn == turn]

    def state(self) -> str:
        """Return where the open turns are in the model, in order of admission; ``new`` and ``over`` if none is open."""
        for record in self.records[self._followed :]:
            model = self._models.get(record.turn)
            if record.name == "admitted":
                model = ModelTurn(limits=_PERMISSIVE, slack=math.inf)
                self._begun = True
            if model is not None:
                try:
                    self._models[record.turn] = model.step(record)
                except Broken:
                    del self._models[record.turn]  # the oracle will tell
        self._followed = len(self.records)
        self._models = {turn: model for turn, model in self._models.items() if model.state != "over"}
        return " + ".join(model.state for model in self._models.values()) or ("over" if self._begun else "new")


class World:
    """One run: a manager in front of a scripted agent, and the callers of one scene.

    Attributes:
        manager: None until it was opened.
        prompted: Every turn that the scene ran, in order.
        errors: What callers got.
        callers_ended: When the last caller went on; likewise `manager_ended`.
        finished: When the scene came to its own end; None if it was cancelled.
        faults: What was found to be wrong while it ran.
    """

    def __init__(self, scene: Scene, case: Case) -> None:
        self.scene = scene
        self.case = case
        self.agent = ScriptedAgent(**scene.agent)
        self.store = _SlowStore(scene.store_seconds)
        self.trace = Trace(self)
        case.state(self.trace.state)
        self.manager: SessionManager | None = None
        self.wire: Wire
        self.prompted: list[Prompted] = []
        self.errors: list[AcpError] = []
        self.statistics: Statistics | None = None
        self.rows: tuple[SessionRecord, ...] = ()
        self.callers_ended = self.manager_ended = 0.0
        self.finished: float | None = None
        self.callers_over = self.followed_up = False
        self.faults: list[str] = []
        self._hits: list[tuple[str, float]] = []
        self._body, self._outside = trio.CancelScope(), trio.CancelScope()

    # -- for scenes --

    async def start(self, key: str = "k", **options: Any) -> Session:
        """Open a session."""
        return await self._open.start_session(key, agent="agent", cwd="/repo", **options)

    def session(self, key: str = "k") -> Session:
        """Return a session that was opened before."""
        return self._open.session(key)

    @property
    def _open(self) -> SessionManager:
        assert self.manager is not None
        return self.manager

    async def run(
        self,
        session: Session,
        text: str,
        *,
        timeout: float | None = None,
        between: Callable[[], None] = lambda: None,
        pace: float = 0.0,
    ) -> None:
        """Run a turn to its end, reading what it says; `pace` seconds for each event."""
        turn = session.turn(text, timeout=timeout)
        seen = Prompted(text, turn)
        self.prompted.append(seen)
        try:
            async with turn:
                between()
                async for event in turn:
                    if isinstance(event, TextDelta):
                        seen.texts.append(event.text)
                    if pace:
                        await trio.sleep(pace)
        finally:
            seen.reply, seen.left = turn.reply, True

    async def together(self, *callers: Callable[[], Awaitable[object]]) -> None:
        """Be several callers; each may get one typed error, and nothing else."""
        async with trio.open_nursery() as nursery:
            for caller in callers:
                nursery.start_soon(self.guard, caller)

    async def guard(self, caller: Callable[[], Awaitable[object]]) -> None:
        """Be one caller, who may get a typed error."""
        try:
            await caller()
        except AcpError as error:
            self.errors.append(error)

    # -- for the oracle --

    def struck(self, *names: str) -> list[float]:
        """Return when these actions struck, and there was something to strike."""
        done = zip(self.case.strikes, self.case.times, strict=True)
        others = [(strike.action, time) for strike, time in done if not strike.action.startswith("call:")]
        return [time for name, time in (*others, *self._hits) if name in names]

    @property
    def jumped(self) -> float:
        """How many seconds the clock was put on."""
        return JUMP.seconds * len(self.struck(JUMP.name))

    @property
    def is_peaceful(self) -> bool:
        """Whether nothing happened that a caller may get an error for."""
        return not (self.scene.fails or {strike.action for strike in self.case.strikes} & _HOSTILE)

    # -- the run --

    def _arm(self) -> None:
        self._on("user", self._cancel_turns)
        self._on("cut", self.wire.cut)
        self._on("death", self.wire.kill)
        self._on("shutdown", lambda: self._body.cancel(reason="the program shuts down"))
        self._on("vanish", lambda: self._outside.cancel(reason="everything around is cancelled"))

    def _on(self, event: str, function: Callable[[], None]) -> None:
        def strike() -> None:
            self._hits.append((f"call:{event}", trio.current_time()))
            function()

        self.case.on(event, strike)

    def _cancel_turns(self) -> None:
        for seen in self.prompted:
            seen.turn.cancel("struck")

    async def live(self) -> None:
        """Play the scene in a manager; if it was struck, use the session again; leave, and look at what is left."""
        async with trio.open_nursery() as agents:
            self.wire = Wire(self.agent, agents)
            self._arm()
            with self._outside:
                async with self._open_manager(self.trace, self.scene.settings) as self.manager:
                    with self._body:
                        await self._play()
                        if self.case.strikes:
                            await self._follow_up(self.manager)
            self.manager_ended = trio.current_time()
            if self.manager is not None:
                self.statistics = self.manager.statistics()
            self.rows = await self.store.list()
            if self.case.strikes and not self.followed_up:
                async with self._open_manager(None, {}) as another:
                    await self._follow_up(another)

    def _open_manager(self, trace: Trace | None, settings: Mapping[str, Any]) -> Any:
        return open_session_manager(
            {"agent": AcpRuntime(self.wire.dial)},
            store=self.store,
            permissions=AllowSlowly(),
            instrument=trace,
            settings=Settings(limits=LIMITS, **settings),
        )

    async def _play(self) -> None:
        try:
            with self.case.scope:
                await self.guard(lambda: self.scene.body(self))
                self.finished = trio.current_time()
        finally:
            self.callers_over = True
            self.callers_ended = trio.current_time()

    async def _follow_up(self, manager: SessionManager) -> None:
        """Use the session once more: I17."""
        struck = -1
        while struck != len(self.case.strikes):  # it may be struck once more, in the very step that ends the wait
            struck = len(self.case.strikes)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(_FOLLOW_UP) as scope:
            try:
                session = await manager.start_session("k", agent="agent", cwd="/repo")
                text = f"again {struck}"
                reply = await session.prompt(f"say {text}")
            except AcpError as error:
                if len(self.case.strikes) == struck:
                    self.faults.append(f"I17: the session cannot be used afterwards: {error!r}")
            else:
                stopped = isinstance(reply.outcome, Stopped) and reply.outcome.by == "agent"
                # An agent that lies may stop this one for the last, or still be saying what the last one was to say.
                excused = self.scene.liar and (stopped or reply.text.endswith(text))
                if reply.text != text and not excused:
                    self.faults.append(f"I17: the session's next turn is {reply}")
            await trio.testing.wait_all_tasks_blocked()
            s = manager.statistics()
            if s.open_handles != s.capacity.taken and len(self.case.strikes) == struck:
                self.faults.append(
                    f"I18: when all is quiet, {s.capacity.taken} slots are taken by {s.open_handles} handles"
                )
            self.followed_up = True
        if scope.cancelled_caught and len(self.case.strikes) == struck:
            self.faults.append("I17: the session's next turn never ends")


@attrs.frozen(kw_only=True)
class Scene:
    """What users do, in front of which agent.

    Attributes:
        body: Does it; what is cancelled by `Cancel` is this.
        agent: Arguments of the `ScriptedAgent`.
        settings: Arguments of `Settings`, besides the limits.
        store_seconds: How long each write of metadata takes.
        interrupted: Ctrl-C strikes too.
        fails: Callers get errors although nothing happened.
        liar: The agent does not do what it says about a cancel.
    """

    name: str
    body: Callable[[World], Awaitable[None]]
    agent: Mapping[str, Any] = attrs.field(factory=dict)
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    store_seconds: float = 0.0
    interrupted: bool = False
    fails: bool = False
    liar: bool = False
