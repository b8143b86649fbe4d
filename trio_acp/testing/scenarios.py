"""The built-in scenarios of ``trio-acp explore``: this package under its own explorer.

Each is something that users do, over the whole stack: a session manager,
`AcpRuntime`, its connections, trio-websocket over streams in memory, and the
scripted agent.  It may be struck at every step (`ACTIONS`), and is then held
against the laws of `_scenario_oracle`.  The names of its states are those of
the model of a turn (docs/turn-model.md).

Seven have an agent that misbehaves when it is told to stop, as real ones were
seen to do: `WILD`.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio
import trio.testing

from .._errors import TurnFailed, TurnTimedOut
from .._options import UNSET
from .._records import Identity, SessionRecord
from ..explore import Interrupt, Scenario
from ._scenario_oracle import check
from ._scenario_world import ACTIONS, Scene, World
from ._script import WILD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..explore import Case


async def start_and_prompt(world: World) -> None:
    """A session is opened, and runs a turn."""
    await world.run(await world.start(), "say hello; sleep 1; say bye")


async def ask(world: World) -> None:
    """A prompt has a session of its own, which nobody keeps."""
    assert world.manager is not None
    await world.manager.ask("say a; sleep 1", agent="agent", cwd="/repo")


async def oneshot(world: World) -> None:
    """A session is closed after its turn."""
    await world.run(await world.start("once", mode="oneshot"), "say a; sleep 1")


async def permission(world: World) -> None:
    """A turn has a tool call, and asks for permission."""
    await world.run(await world.start(), "say a; tool Read kind=read; permission Write it; say b")


async def two_queued(world: World) -> None:
    """Two prompts on one session, one behind the other."""
    session = await world.start()
    await world.together(
        lambda: world.run(session, "say a; sleep 1"),
        lambda: world.run(session, "say b; sleep 1"),
    )


async def two_sessions(world: World) -> None:
    """Two sessions run turns over one connection, and the callers of one give up."""
    one, other = await world.start(), await world.start("other")

    async def impatient() -> None:
        with trio.move_on_after(0.5):
            await world.run(other, "say a in the other; sleep 1; say b")

    await world.together(
        lambda: world.run(one, "say a in one; sleep 1; say b"),
        impatient,
    )


async def resume(world: World) -> None:
    """A session whose connection is lost while it is idle is resumed by the next prompt."""
    session = await world.start()
    await world.run(session, "say lost")
    world.wire.cut()
    await trio.testing.wait_all_tasks_blocked()
    await world.together(
        lambda: world.run(session, "say a; sleep 1"),
        lambda: world.run(session, "say b; sleep 1"),
    )


async def close_during_turn(world: World) -> None:
    """A session is closed while a turn of it runs and another waits."""
    session = await world.start()
    started = trio.Event()

    async def close() -> None:
        await started.wait()
        await trio.sleep(0.5)
        await session.close()

    await world.together(
        lambda: world.run(session, "say a; sleep 1", between=started.set),
        lambda: world.run(session, "say b"),
        close,
    )


async def ignored_cancel(world: World) -> None:
    """A prompt waits behind one whose agent would not stop, while another session is opened."""
    session = await world.start()
    await world.together(
        lambda: world.run(session, "ignore-cancel 50; say a; sleep 5"),
        lambda: world.run(session, "say b"),
        lambda: world.start("other"),
    )


async def timeout(world: World) -> None:
    """A turn ends in the time of grace; the next hangs, and times out; the third is as if nothing had been."""
    session = await world.start()
    await world.run(session, "say a; sleep 2.5; say b", timeout=2)
    await _failing(TurnTimedOut, lambda: world.run(session, "say c; hang", timeout=2))
    await world.run(session, "say d")


async def cancelled_setup(world: World) -> None:
    """A caller gives up while the session is being opened, which takes the agent a while; another one does not."""
    with trio.move_on_after(1):
        await world.start()
    await world.run(await world.start(), "say a")


async def controls(world: World) -> None:
    """The session's mode and an option are changed while a turn runs and another waits."""
    session = await world.start()

    async def change() -> None:
        await trio.sleep(0.5)
        await session.set_mode("code")
        await session.set_config_option("effort", "high")

    await world.together(
        lambda: world.run(session, "say a; sleep 1"),
        lambda: world.run(session, "say b; sleep 1"),
        change,
    )


async def options(world: World) -> None:
    """Prompts that the agent gets only once it was told the session's options, which change meanwhile."""
    session = await world.start()
    await session.update_options(mode="ask", model="large", extras={"effort": "low"})

    async def prompt() -> None:
        await world.run(session, "say a; sleep 1")
        await session.set_config_option("effort", "high")
        await world.run(session, "say b; sleep 1")

    async def change() -> None:
        await trio.sleep(0.5)
        await session.update_options(mode=UNSET, timeout_seconds=15)
        await session.set_mode("code")
        await session.reset_options()

    await world.together(prompt, change)


async def one_slot(world: World) -> None:
    """Two sessions take turns in the only slot, while the options of one change."""
    one, other = await world.start(), await world.start("other")

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

    await world.together(alternate, change)


async def full_house(world: World) -> None:
    """Two prompts want the only slot at once; one of them is told that there is none."""
    assert world.manager is not None
    await world.together(
        partial(world.manager.ask, "say a; sleep 1", agent="agent", cwd="/repo"),
        partial(world.manager.ask, "say b; sleep 1", agent="agent", cwd="/repo"),
    )


async def evicted(world: World) -> None:
    """A prompt comes in the very instant in which its idle session is closed; the next one, long after that."""
    session = await world.start()
    await world.run(session, "say a")
    await trio.sleep(1)
    await world.run(session, "say b; sleep 0.5; say c")
    await trio.sleep(2)
    await world.run(session, "say d")


async def retry(world: World) -> None:
    """The connection is lost while a turn is about to be sent, which is then sent over another one."""
    session = await world.start()
    started = trio.Event()

    async def cut() -> None:
        await started.wait()
        await trio.sleep(0.25)  # the turn is being stored as running
        world.wire.cut()

    await world.together(lambda: world.run(session, "say a; sleep 1", between=started.set), cut)


async def slow_consumer(world: World) -> None:
    """A turn's reader is too slow for it, which fails that turn only."""
    session = await world.start()
    await _failing(TurnFailed, lambda: world.run(session, "wide 8 1000; say a; sleep 1", pace=0.5))
    await world.run(session, "say b", pace=0.5)


async def reconcile(world: World) -> None:
    """The ids of a stored session are confirmed, while a prompt uses it."""
    assert world.manager is not None
    session = await world.start()
    await session.close()

    def forget_that_it_was_confirmed(record: SessionRecord | None) -> SessionRecord | None:
        assert record is not None
        return attrs.evolve(record, identity=Identity(session_id=record.session_id))

    await world.store.update("k", forget_that_it_was_confirmed)
    await world.together(
        world.manager.reconcile_identities,
        lambda: world.run(session, "say a"),
    )


async def _wild(script: str, world: World) -> None:
    """A turn is cancelled by its user while another waits; the agent misbehaves."""
    session = await world.start()
    started = trio.Event()

    async def wait() -> None:
        await started.wait()
        await world.run(session, "permission Write it; say b")

    async def cancel() -> None:
        await started.wait()
        await trio.sleep(0.5)
        world.prompted[0].turn.cancel()

    await world.together(lambda: world.run(session, script, between=started.set), wait, cancel)


async def _failing(kind: type[Exception], caller: Callable[[], Awaitable[None]]) -> None:
    """Call what is expected to fail so."""
    with contextlib.suppress(kind):
        await caller()


_CONFIG: Final = {"config": True}

SCENES: Final = (
    Scene(name="ask", body=ask),
    Scene(name="start-and-prompt", body=start_and_prompt, interrupted=True),
    Scene(name="oneshot", body=oneshot),
    Scene(name="permission", body=permission),
    Scene(name="two-queued", body=two_queued),
    Scene(name="two-sessions", body=two_sessions),
    Scene(name="resume", body=resume),
    Scene(name="close-during-turn", body=close_during_turn, interrupted=True),
    Scene(name="ignored-cancel", body=ignored_cancel, liar=True),
    Scene(name="timeout", body=timeout, fails=True),
    Scene(name="cancelled-setup", body=cancelled_setup, agent={"new_session_delay": 3}),
    Scene(name="controls", body=controls, agent=_CONFIG),
    Scene(name="options", body=options, agent=_CONFIG),
    # A change of options may hold the only slot at the very moment another session needs it: TooManySessions.
    Scene(name="one-slot", body=one_slot, agent=_CONFIG, settings={"max_sessions": 1}, fails=True),
    Scene(name="full-house", body=full_house, settings={"max_sessions": 1}, fails=True),
    Scene(name="evicted", body=evicted, settings={"idle_ttl": 1.0}),
    Scene(name="retry", body=retry, store_seconds=0.5, fails=True),
    Scene(name="slow-consumer", body=slow_consumer, settings={"max_buffered": 4000}, fails=True),
    Scene(name="reconcile", body=reconcile),
    *(Scene(name=f"wild-{name}", body=partial(_wild, script), liar=True) for name, script in WILD.items()),
)


def _scenario(scene: Scene) -> Scenario:
    async def play(case: Case) -> None:
        world = World(scene, case)
        try:
            await world.live()
        except (KeyboardInterrupt, BaseExceptionGroup):
            check(world, interrupted=True)
            raise
        check(world)

    play.__doc__ = scene.body.func.__doc__ if isinstance(scene.body, partial) else scene.body.__doc__
    return Scenario(play, scene.name, (*ACTIONS, *([Interrupt()] if scene.interrupted else [])))


SCENARIOS: Final = tuple(map(_scenario, SCENES))
