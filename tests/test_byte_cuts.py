"""The smallest exchange, cut after every byte, over the real stack, in virtual time.

Initialize, a new session, one prompt, one update, the answer: some 2,000 bytes
over a WebSocket, some 1,000 as lines.  The wire is cut after each of them, each
way and in both ways that wires end; and it is played whole, its bytes handed
over in pieces.  What is true of a run is in `play` and `check`.
"""

from __future__ import annotations

import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import pytest
import trio
import trio.testing
import trio_websocket

import trio_acp
from tests.acp_kit import connections, prompts
from tests.byte_wire import DIRECTIONS, WAYS, ByteWire, Cut
from trio_acp.testing import ScriptedAgent
from trio_acp.testing.trace_check import Checker
from trio_acp.transports import websocket_over_stream, websocket_server_transport
from trio_acp.transports.stdio import LineTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.byte_wire import Direction, How
    from trio_acp.abc import TraceRecord, Transport

pytestmark = pytest.mark.concurrency

Framing: TypeAlias = Literal["trio-websocket", "websockets", "lines"]

SEED: Final = 4
SHARE: Final = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 9
"""One place is tried in each stretch of so many, chosen by the seed; and the ends of all messages, with both sides."""

WATCHDOG: Final = 1000.0
BOUND: Final = 2.0 + 2 * 0.1 + 1e-6
"""Seconds in which a caller is told of a cut: ``cleanup`` and twice ``join``."""

HANDSHAKE: Final = 1.0
"""Seconds after which the agent's side gives up a handshake: the library it uses does not notice the end of one."""

HELLO: Final = "say hello"
EVENTS: Final = (trio_acp.TextDelta("hello"),)


class Trace(trio_acp.abc.Instrument):
    """Holds the run against the model of a turn."""

    def __init__(self) -> None:
        self.checker = Checker()

    def record(self, record: TraceRecord) -> None:
        self.checker.record(record)


@attrs.define(eq=False)
class World:
    """One run: what it is made of, and what came out of it.

    Attributes:
        first: The wire of its first connection, the only one that is cut.
        error: What the caller got instead of the answer.
        ended_at: When it got one or the other.
        arrived: How many bytes had arrived by then, for each direction.
    """

    framing: Framing
    first: ByteWire
    agent: ScriptedAgent = attrs.field(factory=ScriptedAgent)
    store: trio_acp.MemoryStore = attrs.field(factory=trio_acp.MemoryStore)
    trace: Trace = attrs.field(factory=Trace)
    wires: list[ByteWire] = attrs.field(factory=list)
    events: list[trio_acp.Event] = attrs.field(factory=list)
    turn: trio_acp.Turn | None = None
    error: trio_acp.AcpError | None = None
    ended_at: float = 0.0
    arrived: dict[Direction, int] = attrs.field(factory=dict)

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Transport]:
        """Connect to the agent: the first time over the wire of this run, then over one that holds."""
        wire = ByteWire() if self.wires else self.first
        self.wires.append(wire)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, wire, name="the agent")
            if self.framing == "lines":
                lines = LineTransport(wire.client, wire.client)
                try:
                    yield lines
                finally:
                    await lines.aclose()
            else:
                async with websocket_over_stream(wire.client, "test", "/acp", engine=self.framing) as transport:
                    yield transport

    async def _serve(self, wire: ByteWire) -> None:
        """Be the agent's side of a connection, to the end of the stream: nobody hangs up for it."""
        async with wire.agent:
            if self.framing == "lines":
                await self.agent.serve(LineTransport(wire.agent, wire.agent))
                return
            try:
                async with trio.open_nursery() as nursery:
                    with trio.fail_after(HANDSHAKE):
                        request = await trio_websocket.wrap_server_stream(nursery, wire.agent)
                        transport = websocket_server_transport(await request.accept())
                    await self.agent.serve(transport)
            except* (trio_websocket.HandshakeError, trio.BrokenResourceError, trio.TooSlowError):
                pass

    async def say_hello(self, manager: trio_acp.SessionManager) -> None:
        """Be the caller: open a session and run the turn."""
        try:
            session = await manager.start_session("k", agent="agent", cwd="/repo")
            self.turn = session.turn(HELLO)
            async with self.turn:
                async for event in self.turn:
                    self.events.append(event)
        except trio_acp.AcpError as error:
            self.error = error
        self.ended_at = trio.current_time()
        self.arrived = dict(self.first.arrived)


async def play(world: World) -> None:
    """Say hello, then show that the session works, on a connection that holds."""
    with trio.fail_after(WATCHDOG):
        async with trio_acp.open_session_manager(
            {"agent": trio_acp.AcpRuntime(world.dial)}, store=world.store, instrument=world.trace
        ) as manager:
            await world.say_hello(manager)
            assert [] == [row.key for row in await world.store.list() if row.state == "running"]
            session = await manager.start_session("k", agent="agent", cwd="/repo")
            assert "again" == str(await session.prompt("say again"))
        statistics = manager.statistics()
    assert (0, 0, 0) == (statistics.depth, statistics.stragglers, statistics.capacity.taken)
    assert 0 == statistics.open_handles


def run(framing: Framing, wire: ByteWire) -> World:
    """Play the exchange over this wire, and hold it against what is true of all runs."""
    world = World(framing, wire)
    trio.run(play, world, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [] == world.trace.checker.finish()
    assert [] == world.agent.violations
    assert prompts(world.agent) in (["say again"], [HELLO, "say again"])
    assert all(wire.closed for wire in world.wires)
    if world.error is None:
        assert world.turn is not None
        assert trio_acp.Completed("end_turn") == world.turn.outcome
        assert EVENTS == tuple(world.events)
    elif world.turn is not None:
        assert isinstance(world.error, trio_acp.TurnFailed)
        assert isinstance(world.turn.outcome, trio_acp.Failed)
        assert tuple(world.events) in ((), EVENTS)
        assert world.error.partial == "".join(event.text for event in EVENTS[: len(world.events)])
    return world


@pytest.fixture(scope="module", params=["trio-websocket", "websockets", "lines"])
def whole(request: pytest.FixtureRequest) -> World:
    """Return a run over a wire that holds."""
    return run(request.param, ByteWire())


def places(whole: World, direction: Direction) -> list[int]:
    """Return the places to try: see `SHARE`."""
    choose = random.Random(SEED)  # noqa: S311 - no secret
    end = whole.arrived[direction]
    chosen = {min(end, start + choose.randrange(SHARE)) for start in range(0, end + 1, SHARE)}
    beside = {send + by for send in (0, *whole.first.sends[direction]) for by in (-1, 0, 1)}
    return sorted(chosen | {place for place in beside if 0 <= place <= end})


def test_the_wire_holds(whole: World) -> None:
    """Uncut, the exchange takes one connection, no time, and ends with the whole answer."""
    assert whole.error is None
    assert (1, 0.0) == (len(whole.wires), whole.ended_at)
    assert min(whole.arrived.values()) > 300


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_wherever_it_is_cut_the_caller_gets_the_whole_answer_or_one_error(
    whole: World, direction: Direction, how: How
) -> None:
    """One byte less than the answer is an error, in time; nothing is left behind; the next prompt works."""
    for after in places(whole, direction):
        cut = Cut(direction, after, how)
        try:
            world = run(whole.framing, ByteWire(cut))
            assert 2 == len(world.wires)
            assert world.first.cut_at is not None
            assert world.ended_at - world.first.cut_at <= BOUND
            if after < whole.arrived[direction] and world.error is None:
                # Cut between opening the session and the prompt: all of it went over the second wire.
                assert [2, 2] == connections(world.agent, "session/prompt"), "what was cut short was told as complete"
            elif after == whole.arrived["to-client"] and direction == "to-client":
                assert world.error is None
        except BaseException as error:
            error.add_note(f"{whole.framing}: {cut}")
            raise


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_wherever_it_is_split_nothing_changes(whole: World, direction: Direction) -> None:
    """A read that ends after any byte changes neither the events nor the outcome, and takes no time."""
    for after in places(whole, direction):
        try:
            same_as(whole, run(whole.framing, ByteWire(pieces={direction: frozenset({after})})))
        except BaseException as error:
            error.add_note(f"{whole.framing}: {direction}, split after {after}")
            raise


def test_one_byte_at_a_time_changes_nothing(whole: World) -> None:
    """Each byte in a read of its own, both ways: the same events, the same outcome."""
    same_as(whole, run(whole.framing, ByteWire(pieces=dict.fromkeys(DIRECTIONS, "each"))))


def same_as(whole: World, world: World) -> None:
    """Assert that a run is the one over the wire that holds."""
    assert world.turn is not None
    assert whole.turn is not None
    assert whole.turn.outcome == world.turn.outcome
    assert (whole.error, whole.events, whole.ended_at) == (world.error, world.events, world.ended_at)
    assert (whole.arrived, len(whole.wires)) == (world.arrived, len(world.wires))
