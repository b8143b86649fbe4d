"""Cancels, cuts and closes at every step of every task, over the real stack, in virtual time.

Each scenario is played once to count the steps of all tasks, and then once
for each step, each side of it and each action, which strikes there.  Whatever
struck, the same things must be true afterwards: see `World.check`.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import pytest
import trio
import trio.testing
import trio_websocket

import trio_acp
from tests.acp_kit import prompts, received
from trio_acp.testing import ScriptedAgent
from trio_acp.transports import memory_transport_pair, websocket_over_stream, websocket_server_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from trio_acp.abc import PermissionRequest, TraceRecord, Transport

pytestmark = pytest.mark.concurrency

Action: TypeAlias = Literal["caller", "turn", "cut", "exit", "vanish", "interrupt"]
ACTIONS: Final[tuple[Action, ...]] = ("caller", "turn", "cut", "exit", "vanish")
"""What strikes: the callers' scope is cancelled; `Turn.cancel` of every turn; the wire breaks; the body of the
manager's block is cancelled; a scope around the whole manager, its exit included, is cancelled."""

WATCHDOG: Final = 1000.0
JOIN: Final = 0.1
CLEANUP: Final = 2.0
DEEP: Final = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
POINTS: Final = 100_000 if DEEP else 26
"""How many places of a scenario are tried with each action; they are spread evenly over all there are."""


PAIRS: Final = 1000 if DEEP else 12
"""How many pairs of actions and places are tried with each scenario."""


class Injector(trio.abc.Instrument):
    """Counts both sides of every task step while armed, and strikes at some of them."""

    def __init__(
        self, strikes: Mapping[int, Action], strike: Callable[[Action], None], *, always: bool = False
    ) -> None:
        self.count = 0
        self.armed = False
        self._always = always
        self._strikes = strikes
        self._strike = strike

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._step()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._step()

    def _step(self) -> None:
        if not (self.armed or self._always):
            return
        self.count += 1
        action = self._strikes.get(self.count - 1)
        if action is not None:
            self._strike(action)


class Trace(trio_acp.abc.Instrument):
    """Remembers what happened to which turn."""

    def __init__(self) -> None:
        self.records: list[TraceRecord] = []

    def record(self, record: TraceRecord) -> None:
        self.records.append(record)

    def names(self, turn: str) -> list[str]:
        """Return what happened to a turn, in order."""
        return [record.name for record in self.records if record.turn == turn]


class AllowSlowly(trio_acp.abc.PermissionPolicy):
    """Takes a while to allow."""

    async def decide(self, request: PermissionRequest) -> trio_acp.abc.Decision:
        await trio.sleep(0.5)
        return "allow"


class Wire:
    """Connects to an agent so that all connections can be cut at once; counts the open ones."""

    def __init__(self, agent: ScriptedAgent) -> None:
        self.open = 0
        self._agent = agent
        self._cuts: list[Callable[[], None]] = []

    def cut(self) -> None:
        """Break every connection, now."""
        for cut in self._cuts:
            cut()

    @asynccontextmanager
    async def memory(self) -> AsyncIterator[Transport]:
        """Dial: messages through memory."""
        ours, theirs = memory_transport_pair()

        def cut() -> None:
            for channel in (ours._outgoing, ours._incoming):
                channel.close()

        async with self._serving(cut, lambda: self._agent.serve(theirs)):
            try:
                yield ours
            finally:
                await ours.aclose()

    @asynccontextmanager
    async def websocket(self) -> AsyncIterator[Transport]:
        """Dial: a WebSocket over streams in memory."""
        ours, theirs = trio.testing.memory_stream_pair()

        def cut() -> None:
            for stream in (ours, theirs):
                stream.send_stream.close()
                stream.receive_stream.close()

        async def serve() -> None:
            try:
                async with trio.open_nursery() as nursery:
                    request = await trio_websocket.wrap_server_stream(nursery, theirs)
                    await self._agent.serve(websocket_server_transport(await request.accept()))
            except* (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async with self._serving(cut, serve), websocket_over_stream(ours, "test", "/acp") as transport:
            yield transport

    @asynccontextmanager
    async def _serving(self, cut: Callable[[], None], serve: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        self.open += 1
        self._cuts.append(cut)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, name="the agent")
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel(reason="the client has hung up")
        finally:
            self._cuts.remove(cut)
            self.open -= 1


@attrs.define(eq=False)
class World:
    """One run of a scenario: what it is made of, what it did, and what must be true of it."""

    struck: dict[Action, float] = attrs.field(factory=dict)
    agent: ScriptedAgent = attrs.field(factory=ScriptedAgent)
    store: trio_acp.MemoryStore = attrs.field(factory=trio_acp.MemoryStore)
    trace: Trace = attrs.field(factory=Trace)
    callers: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    body: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    outside: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    turns: list[trio_acp.Turn] = attrs.field(factory=list)
    errors: list[trio_acp.AcpError] = attrs.field(factory=list)
    statistics: trio_acp.Statistics | None = None
    callers_ended: float = 0.0
    manager_ended: float = 0.0
    wire: Wire = attrs.field(init=False)
    manager: trio_acp.SessionManager = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.wire = Wire(self.agent)

    def strike(self, action: Action) -> None:
        self.struck[action] = trio.current_time()
        match action:
            case "caller":
                self.callers.cancel(reason="struck")
            case "turn":
                for turn in self.turns:
                    turn.cancel("struck")
            case "cut":
                self.wire.cut()
            case "exit":
                self.body.cancel(reason="struck")
            case "vanish":
                self.outside.cancel(reason="struck")
            case "interrupt":
                signal.raise_signal(signal.SIGINT)

    async def start(self, key: str = "k") -> trio_acp.Session:
        return await self.manager.start_session(key, agent="agent", cwd="/repo")

    async def run(self, session: trio_acp.Session, text: str, between: Callable[[], None] = lambda: None) -> None:
        """Run a turn to its end, reading what it says."""
        turn = session.turn(text)
        self.turns.append(turn)
        async with turn:
            between()
            async for _ in turn:
                pass

    async def guard(self, caller: Callable[[], Awaitable[object]]) -> None:
        """Be one caller: it may get one typed error, and nothing else."""
        try:
            await caller()
        except trio_acp.AcpError as error:
            self.errors.append(error)

    def check(self, scenario: Scenario) -> None:
        """Hold the run against the laws."""
        faults = [fault for fault in self.agent.violations if "for the idle session" not in fault]
        assert [] == faults
        assert 0 == self.wire.open
        again = [text for text, times in Counter(prompts(self.agent)).items() if times > 1]
        assert [] == again, "no prompt is ever sent twice"
        assert len(received(self.agent, "session/cancel")) <= len(prompts(self.agent))
        if not self.struck.keys() & {"cut", "exit", "vanish"}:
            assert [] == self.errors
        for turn in self.turns:
            names = self.trace.names(turn.request_id)
            if "admitted" in names:
                assert turn.outcome is not None
                assert 1 == names.count("settled")
            wanted_to_stop = False
            for record in self.trace.records:
                if record.turn == turn.request_id:
                    # A failure is followed by the one retry, if nothing was started.
                    wanted_to_stop |= record.name == "cause" and record.data["cause"] != "failure"
                    assert not (wanted_to_stop and record.name == "submitted"), "nothing is submitted after a cause"
        assert self.statistics is not None
        s = self.statistics
        assert (0, 0, 0) == (s.queued, s.active, s.depth)
        assert s.submitted == s.completed + s.failed + s.timed_out + s.stopped
        assert 0 == s.stragglers
        assert (0, 0) == (s.capacity.taken, s.open_handles), "every slot is given back"
        bound = scenario.closes * CLEANUP + 2 * JOIN + 1e-6
        for action, struck_at in self.struck.items():
            if action in {"caller", "exit", "vanish"}:
                assert self.callers_ended - struck_at <= bound
            if action in {"exit", "vanish"}:
                assert self.manager_ended - struck_at <= bound + 2 * CLEANUP + 2 * JOIN


@attrs.frozen
class Scenario:
    """Something users do.

    Attributes:
        callers: Each is run in a task of its own; what is struck is in here.
        prepare: Done before, undisturbed.
        websocket: Over a WebSocket, not through memory.
        closes: How many times `cleanup` a cancelled caller may have to wait.
        config: The agent has configuration options.
        max_sessions: How many sessions may be open at once.
    """

    name: str
    callers: Callable[[World], list[Callable[[], Awaitable[object]]]]
    prepare: Callable[[World], Awaitable[object]] | None = None
    websocket: bool = False
    closes: int = 1
    config: bool = False
    max_sessions: int | None = None


def start_and_prompt(world: World) -> list[Callable[[], Awaitable[object]]]:
    """Open a session and run a turn on it."""

    async def caller() -> None:
        await world.run(await world.start(), "say hello; sleep 1; say bye")

    return [caller]


def permission(world: World) -> list[Callable[[], Awaitable[object]]]:
    """A turn with a tool call and a permission."""
    script = "say a; tool Read kind=read; permission Write it; say b"
    return [lambda: world.run(world.manager.session("k"), script)]


def two_queued(world: World) -> list[Callable[[], Awaitable[object]]]:
    """Two prompts on one session, one behind the other."""
    session = world.manager.session("k")
    return [lambda: world.run(session, "say a; sleep 1"), lambda: world.run(session, "say b; sleep 1")]


def oneshot(world: World) -> list[Callable[[], Awaitable[object]]]:
    """A prompt with a session of its own."""
    return [lambda: world.manager.ask("say a; sleep 1", agent="agent", cwd="/repo")]


async def lose_connection(world: World) -> None:
    """Have a session whose connection is gone."""
    await world.run(await world.start(), "say lost")
    world.wire.cut()
    await trio.testing.wait_all_tasks_blocked()


def resume(world: World) -> list[Callable[[], Awaitable[object]]]:
    """Two prompts on a session that has to be resumed first."""
    session = world.manager.session("k")
    return [lambda: world.run(session, "say a; sleep 1"), lambda: world.run(session, "say b; sleep 1")]


def close_during_turn(world: World) -> list[Callable[[], Awaitable[object]]]:
    """A session closed while a turn of it runs and another waits."""
    session = world.manager.session("k")
    started = trio.Event()

    async def close() -> None:
        await started.wait()
        await trio.sleep(0.5)
        await session.close()

    return [lambda: world.run(session, "say a; sleep 1", started.set), lambda: world.run(session, "say b"), close]


def ignored(world: World) -> list[Callable[[], Awaitable[object]]]:
    """A prompt behind one whose agent does not stop when it is told to."""
    session = world.manager.session("k")
    return [
        lambda: world.run(session, "ignore-cancel 50; say a; sleep 1"),
        lambda: world.run(session, "say b"),
        lambda: world.start("other"),
    ]


async def start(world: World) -> None:
    """Have a session."""
    await world.start()


def options(world: World) -> list[Callable[[], Awaitable[object]]]:
    """Prompts that the agent gets only once it was told the session's options, which change meanwhile."""
    session = world.manager.session("k")

    async def prompt() -> None:
        await world.run(session, "say a; sleep 1")
        await session.set_config_option("effort", "high")
        await world.run(session, "say b; sleep 1")

    async def change() -> None:
        await trio.sleep(0.5)
        await session.update_options(mode=trio_acp.UNSET, timeout_seconds=600)
        await session.set_mode("code")
        await session.reset_options()

    return [prompt, change]


async def set_options(world: World) -> None:
    """Have a session with options that its agent was not told yet."""
    await (await world.start()).update_options(mode="ask", model="large", extras={"effort": "low"})


def one_slot(world: World) -> list[Callable[[], Awaitable[object]]]:
    """Two sessions take turns in the only slot, while the options of one change."""
    one, other = world.manager.session("k"), world.manager.session("other")

    async def alternate() -> None:
        for text in ("a", "b"):
            await world.run(one, f"say {text} in one; sleep 1")
            await world.run(other, f"say {text} in the other; sleep 1")
            await other.set_config_option("model", "large")

    async def change() -> None:
        await trio.sleep(0.5)
        await one.update_options(extras={"effort": "high"})
        await trio.sleep(1)
        await one.reset_options()

    return [alternate, change]


async def start_two(world: World) -> None:
    """Have two sessions, one of them evicted by the other."""
    await set_options(world)
    await world.start("other")


SCENARIOS: Final = [
    Scenario("start-and-prompt", start_and_prompt),
    Scenario("permission", permission, start),
    Scenario("two-queued", two_queued, start),
    Scenario("oneshot", oneshot, closes=2),
    Scenario("resume", resume, lose_connection),
    Scenario("close-during-turn", close_during_turn, start, closes=2),
    Scenario("ignored-cancel", ignored, start, closes=2),
    Scenario("websocket", start_and_prompt, websocket=True),
    Scenario("options", options, set_options, closes=2, config=True),
    Scenario("one-slot", one_slot, start_two, closes=2, config=True, max_sessions=1),
]


async def play(scenario: Scenario, world: World, injector: Injector) -> None:
    """Play a scenario, then show that the session works, in this manager and in the next."""
    dial = world.wire.websocket if scenario.websocket else world.wire.memory
    with trio.fail_after(WATCHDOG):
        with world.outside:
            async with trio_acp.open_session_manager(
                {"agent": trio_acp.AcpRuntime(dial)},
                store=world.store,
                permissions=AllowSlowly(),
                instrument=world.trace,
                settings=trio_acp.Settings(max_sessions=scenario.max_sessions),
            ) as world.manager:
                with world.body:
                    if scenario.prepare is not None:
                        await scenario.prepare(world)
                    injector.armed = True
                    try:
                        with world.callers:
                            async with trio.open_nursery() as nursery:
                                for caller in scenario.callers(world):
                                    nursery.start_soon(world.guard, caller)
                    finally:
                        injector.armed = False
                        world.callers_ended = trio.current_time()
                    assert "again" == str(await (await world.start()).prompt("say again"))
                    await trio.testing.wait_all_tasks_blocked()
                    quiet = world.manager.statistics()
                    assert quiet.open_handles == quiet.capacity.taken
        world.manager_ended = trio.current_time()
        world.statistics = world.manager.statistics()
        async with world.store:
            assert [] == [record.key for record in await world.store.list() if record.state == "running"]
        async with trio_acp.open_session_manager(
            {"agent": trio_acp.AcpRuntime(dial)}, store=world.store, permissions=AllowSlowly()
        ) as manager:
            session = await manager.start_session("k", agent="agent", cwd="/repo")
            assert "at last" == str(await session.prompt("say at last"))


def run(scenario: Scenario, strikes: Mapping[int, Action], *, seed: int = 0) -> int:
    """Play a scenario with actions striking at some places; return how many places there are."""
    world = World(agent=ScriptedAgent(config=scenario.config))
    injector = Injector(strikes, world.strike)
    trio._core._run._r.seed(seed)
    try:
        trio.run(
            play, scenario, world, injector, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[injector]
        )
        world.check(scenario)
    except BaseException as error:
        error.add_note(f"{scenario.name}: {dict(strikes)} with the seed {seed}")
        raise
    return injector.count


@pytest.fixture(autouse=True)
def _same_order_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a place be the same place in each run: Trio's order of tasks comes from a generator of its own."""
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_whatever_strikes_wherever_the_laws_hold(scenario: Scenario, action: Action) -> None:
    """Wherever an action strikes, turns settle in time, nothing is sent twice or left behind, and the session works."""
    places = run(scenario, {})
    assert places > 50
    stride = max(1, places // POINTS)
    for at in range(ACTIONS.index(action) % stride, places, stride):
        run(scenario, {at: action})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_whatever_strikes_twice_the_laws_hold(scenario: Scenario) -> None:
    """The same for two actions at two places, in orders of the tasks that differ from run to run."""
    choose = random.Random(scenario.name)  # noqa: S311 - no secret
    for seed in range(PAIRS):
        places = [choose.randrange(400) for _ in range(2)]
        run(scenario, {place: choose.choice(ACTIONS) for place in places}, seed=seed)


@pytest.mark.parametrize("scenario", SCENARIOS[::7], ids=lambda scenario: scenario.name)
def test_ctrl_c_strikes_anywhere(scenario: Scenario) -> None:
    """Ctrl-C, entering and leaving the manager included, leaves nothing open, and comes out as what it is."""

    def play_interrupted(strikes: Mapping[int, Action]) -> int:
        world = World()
        injector = Injector(strikes, world.strike, always=True)
        trio._core._run._r.seed(0)
        try:
            trio.run(
                play,
                scenario,
                world,
                injector,
                clock=trio.testing.MockClock(autojump_threshold=0),
                instruments=[injector],
            )
        except KeyboardInterrupt:
            pass
        except BaseExceptionGroup as group:  # from the nursery of the callers
            if group.split(KeyboardInterrupt)[1] is not None:
                raise
        except BaseException as error:
            error.add_note(f"{scenario.name}: {dict(strikes)}")
            raise
        assert 0 == world.wire.open
        for turn in world.turns:
            assert (turn.outcome is None) == ("admitted" not in world.trace.names(turn.request_id))
        return injector.count

    places = play_interrupted({})
    stride = 1 if DEEP else places // POINTS
    for at in (*range(12), *range(12, places, stride)):
        play_interrupted({at: "interrupt"})
