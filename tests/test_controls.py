"""Options in a session's lane, over a `FakeRuntime` in virtual time: the store is the truth."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.turn_kit import LIMITS, AtStep, AwkwardStore, C, G, J, Recorder, T, check_trace, one_session, run_virtual
from trio_acp import (
    UNSET,
    BackendUnavailable,
    ConnectionLost,
    Identity,
    InvalidOption,
    Limits,
    ManagerClosed,
    MemoryStore,
    RequestFailed,
    RuntimeOptions,
    Session,
    SessionInitFailed,
    SessionMissing,
    SessionRecord,
    Settings,
    Stopped,
    StoreError,
    Turn,
    TurnFailed,
    TurnTimedOut,
    UnsupportedControl,
    open_session_manager,
)
from trio_acp.abc import Capabilities, Runtime
from trio_acp.testing.fake import FakeRuntime, Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.concurrency

REFUSED = RequestFailed("no", method="session/set_mode", rpc_code=-32602)


def told(runtime: FakeRuntime) -> list[Any]:
    """Return what the backend was told, in order."""
    return [call.detail for call in runtime.calls if call.name in {"set_mode", "set_config_option"}]


async def stored(store: MemoryStore | AwkwardStore) -> RuntimeOptions:
    """Return the stored options of ``"k"``."""
    memory = store.memory if isinstance(store, AwkwardStore) else store
    record = await memory.read("k")
    assert record is not None
    return record.options


# -- changing -----------------------------------------------------------------


async def test_a_mode_is_set_and_stored(autojump_clock: trio.testing.MockClock) -> None:
    """The agent is told, trimmed, and the store and the status have it."""
    runtime, store = FakeRuntime(), MemoryStore()
    async with one_session(runtime, store=store) as (_, session):
        assert RuntimeOptions(mode="plan") == await session.set_mode(" plan ")
        assert ["plan"] == told(runtime)
        assert RuntimeOptions(mode="plan") == await stored(store) == (await session.status()).options


async def test_options_add_up(autojump_clock: trio.testing.MockClock) -> None:
    """Each operation returns all options, and a later one keeps the earlier."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, session):
        await session.set_mode("plan")
        await session.set_config_option("Effort", "high")
        await session.update_options(timeout_seconds=2.5, extras={"a": "1"})
        options = await session.set_config_option("permissions", "strict")
        assert ["plan", ("Effort", "high"), ("permissions", "strict")] == told(runtime)
    extras = {"Effort": "high", "a": "1"}
    assert RuntimeOptions(mode="plan", permission_profile="strict", timeout_seconds=3, extras=extras) == options


async def test_wrong_options_are_refused_before_anything_happens(autojump_clock: trio.testing.MockClock) -> None:
    """A typed error that names the option; neither the lane nor the backend hears of it."""
    runtime = FakeRuntime()
    wrong: list[tuple[str, Callable[[Session], Awaitable[object]]]] = [
        ("invalid-mode", lambda s: s.set_mode("")),
        ("invalid-config_key", lambda s: s.set_config_option("a b", "")),
        ("invalid-timeout_seconds", lambda s: s.set_config_option("timeout", "not-a-number")),
        ("invalid-cwd", lambda s: s.update_options(cwd="relative")),
    ]
    async with one_session(runtime) as (manager, session):
        for detail, call in wrong:
            with pytest.raises(InvalidOption) as caught:
                await call(session)
            assert detail == caught.value.detail
        assert ["ensure_session"] == runtime.names()
        assert 1 == manager.statistics().controls


async def test_an_unknown_session_has_no_options(autojump_clock: trio.testing.MockClock) -> None:
    """Every operation says so."""
    async with open_session_manager({"fake": FakeRuntime()}) as manager:
        session = manager.session("nobody")
        for call in (
            partial(session.set_mode, "plan"),
            partial(session.update_options, model="m"),
            session.reset_options,
        ):
            with pytest.raises(SessionMissing):
                await call()


@pytest.mark.parametrize(
    "offers", [Capabilities(), Capabilities(controls=frozenset({"session/set_config_option"}), config_keys=("Model",))]
)
async def test_what_the_backend_does_not_offer_is_refused(
    offers: Capabilities, autojump_clock: trio.testing.MockClock
) -> None:
    """Nothing is stored, nothing told; keys are compared exactly."""
    runtime, store = FakeRuntime(offers=offers), MemoryStore()
    async with one_session(runtime, store=store) as (_, session):
        for call in (partial(session.set_mode, "plan"), partial(session.set_config_option, "model", "m")):
            with pytest.raises(UnsupportedControl):
                await call()
        assert RuntimeOptions() == await stored(store)
    assert [] == told(runtime)


async def test_a_runtime_need_not_have_controls(autojump_clock: trio.testing.MockClock) -> None:
    """The methods of `abc.Runtime` offer nothing and refuse everything."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, _session):
        handle = next(iter(runtime.open))
        assert Capabilities() == await Runtime.capabilities(runtime, handle)
        with pytest.raises(UnsupportedControl):
            await Runtime.set_mode(runtime, handle, "plan")
        with pytest.raises(UnsupportedControl):
            await Runtime.set_config_option(runtime, handle, "a", "b")


async def test_a_control_opens_the_session_and_an_update_does_not(autojump_clock: trio.testing.MockClock) -> None:
    """Setting a mode needs a backend; storing options, and unsetting them, does not."""
    runtime, store = FakeRuntime(), MemoryStore()
    async with one_session(runtime, store=store) as (manager, session):
        await session.close()
        await session.update_options(model="m")
        await session.reset_options()
        assert not manager.is_live("k")
        await session.set_mode("plan")
        assert manager.is_live("k")
    assert ["ensure_session", "close", "ensure_session", "capabilities", "set_mode", "close"] == runtime.names()


async def test_another_directory_reopens_the_session(autojump_clock: trio.testing.MockClock) -> None:
    """The handle is closed, never dropped; the next turn resumes there; unset, it is the first one again."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}) as manager:
        session = await manager.start_session("k", agent="fake", cwd="/one")
        await session.update_options(cwd="/two")
        assert "close" == runtime.names()[-1]
        assert "options-changed" == runtime.calls[-1].detail
        assert "/two" == (await session.status()).cwd
        await session.prompt("x")
        await session.set_config_option("CWD", "/three")
        await session.prompt("x")
        await session.update_options(cwd=UNSET)
        await session.prompt("x")
        assert 1 == len(runtime.open)
    opened = [call.detail for call in runtime.calls if call.name == "ensure_session"]
    assert ["/one", "/two", "/three", "/one"] == [request.cwd for request in opened]
    assert [None, "fake-1", "fake-1", "fake-1"] == [request.resume for request in opened]
    assert 4 == runtime.names().count("close")
    assert [] == told(runtime)


async def test_starting_elsewhere_overrides_the_directory_option(autojump_clock: trio.testing.MockClock) -> None:
    """What is said last holds: `start_session` with a directory unsets the option, the others stay."""
    runtime, store = FakeRuntime(), MemoryStore()
    async with one_session(runtime, store=store) as (manager, session):
        await session.update_options(cwd="/two", model="m")
        await manager.start_session("k", agent="fake")
        assert "/two" == (await session.status()).cwd
        await manager.start_session("k", agent="fake", cwd="/three")
        assert "/three" == (await session.status()).cwd
        assert RuntimeOptions(model="m") == await stored(store)


async def test_an_unset_option_reopens_the_session(autojump_clock: trio.testing.MockClock) -> None:
    """Nobody can be told to have no model; so the agent starts anew with its own."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, session):
        await session.set_config_option("model", "m")
        await session.update_options(mode="plan")
        assert "close" not in runtime.names()
        await session.update_options(model=UNSET)
        assert "close" == runtime.names()[-1]
        await session.prompt("x")
    assert [("model", "m"), "plan"] == told(runtime)


async def test_reset_unsets_everything(autojump_clock: trio.testing.MockClock) -> None:
    """The handle is closed, even one that does not close properly; the next turn tells the agent nothing."""
    runtime, store = FakeRuntime(close=[Raise(OSError("gone"))]), MemoryStore()
    async with one_session(runtime, store=store) as (_, session):
        await session.set_mode("plan")
        assert RuntimeOptions() == await session.reset_options() == await stored(store)
        assert "reset-runtime-options" == runtime.calls[-1].detail
        await session.prompt("x")
    assert ["plan"] == told(runtime)


# -- telling the backend before a turn ----------------------------------------


async def test_a_turn_tells_the_backend_once(autojump_clock: trio.testing.MockClock) -> None:
    """Mode, then pairs, before the prompt; again only after a change or on another handle."""
    runtime = FakeRuntime()
    everything = ["plan", ("model", "m"), ("approval_policy", "strict"), ("timeout", "120")]
    async with one_session(runtime) as (_, session):
        await session.update_options(mode="plan", model="m", permission_profile="strict", timeout_seconds=120)
        assert [] == told(runtime)
        await session.prompt("x")
        assert everything == told(runtime)
        assert "run_turn" == runtime.names()[-1]
        await session.prompt("x")
        assert everything == told(runtime)
        await session.set_config_option("model", "n")
        await session.prompt("x")
        everything += [("model", "n"), "plan", ("model", "n"), *everything[2:]]
        assert everything == told(runtime)
        await session.close()
        await session.prompt("x")
        assert "plan" == told(runtime)[len(everything)]


async def test_without_options_the_backend_is_asked_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """No call at all beside the turn's."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, session):
        await session.prompt("x")
        await session.prompt("x")
    assert ["ensure_session", "run_turn", "run_turn", "close"] == runtime.names()


@pytest.mark.parametrize(
    ("changes", "offers"),
    [
        ({"mode": "plan"}, Capabilities(controls=frozenset({"session/set_config_option"}))),
        ({"model": "m"}, Capabilities(controls=frozenset({"session/set_mode"}))),
        ({"model": "m"}, Capabilities(controls=frozenset({"session/set_config_option"}), config_keys=("effort",))),
    ],
)
async def test_a_turn_fails_if_the_backend_cannot_have_an_option(
    changes: Any, offers: Capabilities, autojump_clock: trio.testing.MockClock
) -> None:
    """The prompt is not sent without it; once it is unset, turns run again."""
    runtime = FakeRuntime(offers=offers)
    async with one_session(runtime) as (_, session):
        await session.update_options(**changes)
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert "unsupported-control" == caught.value.detail
        assert "run_turn" not in runtime.names()
        await session.reset_options()
        await session.prompt("x")


@pytest.mark.parametrize(
    ("offers", "error", "expected"),
    [
        (Capabilities(), None, []),
        (Capabilities(controls=frozenset({"session/set_config_option"}), config_keys=("model",)), None, []),
        (None, UnsupportedControl("no"), [("timeout", "9")]),
    ],
)
async def test_the_timeout_is_told_only_to_who_has_it(
    offers: Capabilities | None, error: Exception | None, expected: list[Any], autojump_clock: trio.testing.MockClock
) -> None:
    """It is the manager's own: a backend that cannot have it is no reason to fail."""
    runtime = FakeRuntime(offers=offers, controls=[] if error is None else [Raise(error)])
    async with one_session(runtime) as (_, session):
        await session.update_options(timeout_seconds=9)
        await session.prompt("x")
    assert expected == told(runtime)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (REFUSED, "request-failed"),
        (ConnectionLost("gone"), "disconnected"),
        (ValueError("odd"), "adapter-error"),
        (UnsupportedControl("no"), "unsupported-control"),
    ],
)
async def test_a_refused_option_fails_the_turn_and_is_told_again(
    error: Exception, detail: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Later options are not sent; the next turn begins at the first."""
    answers = iter([[], [Raise(error)], [], [], []])
    runtime = FakeRuntime(controls=lambda _: next(answers))
    async with one_session(runtime) as (_, session):
        await session.update_options(mode="plan", model="m", extras={"a": "1"})
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert detail == caught.value.detail
        await session.prompt("x")
    first = ["plan", ("model", "m")]
    assert [*first, *first, ("a", "1")] == told(runtime)


async def test_controls_have_a_deadline_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    """All of them together, 15 s; then the turn fails, and the handle stays."""
    runtime = FakeRuntime(controls=[Sleep(10)])
    async with one_session(runtime, settings=Settings()) as (_, session):
        await session.update_options(mode="plan", model="m")
        start = trio.current_time()
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert ("controls-timeout", 15.0) == (caught.value.detail, trio.current_time() - start)
        runtime.on_control = ()
        await session.prompt("x")
    assert 1 == runtime.names().count("ensure_session")


async def test_the_deadline_of_controls_is_within_setup(autojump_clock: trio.testing.MockClock) -> None:
    """What opening took is not there for controls any more."""
    runtime = FakeRuntime(ensure=[Sleep(2)], controls=[Hang()])
    limits = Limits(setup=3, controls=math.inf)
    async with one_session(runtime, settings=Settings(limits=limits)) as (_, session):
        await session.update_options(mode="plan")
        await session.close()
        start = trio.current_time()
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert ("controls-timeout", 3.0) == (caught.value.detail, trio.current_time() - start)


async def test_controls_count_towards_the_turn(autojump_clock: trio.testing.MockClock) -> None:
    """If the turn's own deadline passes first, the turn timed out."""
    runtime = FakeRuntime(controls=[Hang()])
    async with one_session(runtime) as (_, session):
        await session.update_options(mode="plan")
        start = trio.current_time()
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert T + G == trio.current_time() - start
    assert "cancel" not in runtime.names()


@pytest.mark.parametrize("hung", ["capabilities", "plan", ("model", "m")])
@pytest.mark.parametrize("how", ["caller", "user", "close", "shutdown"])
async def test_a_cause_during_controls_submits_nothing(
    how: str, hung: Any, autojump_clock: trio.testing.MockClock
) -> None:
    """Whichever call it meets, it ends at once, the backend is not asked to stop, and nothing is left."""

    class HangingCapabilities(FakeRuntime):
        async def capabilities(self, handle: Any) -> Capabilities:
            if hung == "capabilities":
                await trio.sleep_forever()
            return await super().capabilities(handle)

    runtime = HangingCapabilities(controls=lambda detail: [Hang()] if detail == hung else [])
    recorder = Recorder()
    outcomes: list[object] = []

    async def turn(session: Session) -> None:
        outcomes.append((await session.prompt("x")).outcome)

    start = math.nan
    with trio.CancelScope() as caller:
        async with one_session(runtime, instrument=recorder) as (_, session), trio.open_nursery() as nursery:
            await session.update_options(mode="plan", model="m")
            nursery.start_soon(turn, session)
            await trio.testing.wait_all_tasks_blocked()
            start = trio.current_time()
            match how:
                case "caller" | "shutdown":
                    caller.cancel()
                case "user":
                    assert 1 == await session.cancel()
                case _:
                    await session.close()
    assert start == trio.current_time()
    assert not {"run_turn", "cancel"} & set(runtime.names())
    assert set() == runtime.open
    assert (how in {"caller", "shutdown"}) == (outcomes == [])
    assert all(isinstance(outcome, Stopped) for outcome in outcomes)
    check_trace(recorder)


async def test_nothing_more_is_told_after_a_cause(autojump_clock: trio.testing.MockClock) -> None:
    """Also if the cause came in the very moment in which the call before it was answered."""
    turns: list[Turn] = []

    def cancel(_: object) -> list[Any]:
        turns[0].cancel()
        return []

    runtime = FakeRuntime(controls=cancel)
    async with one_session(runtime) as (_, session):
        await session.update_options(mode="plan", model="m")
        async with session.turn("x") as turn:
            turns.append(turn)
            async for _event in turn:
                pass
        assert Stopped(by="user", reason="cancelled by the user") == turn.outcome
    assert ["plan"] == told(runtime)


async def test_a_control_that_resists_makes_the_handle_suspect(autojump_clock: trio.testing.MockClock) -> None:
    """The lane goes on after `join`, and the next turn is not run on that handle."""
    runtime = FakeRuntime(controls=[Swallow(30)])
    async with one_session(runtime, settings=Settings(limits=Limits(controls=1))) as (manager, session):
        await session.update_options(mode="plan")
        start = trio.current_time()
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert ("controls-timeout", 1 + J) == (caught.value.detail, trio.current_time() - start)
        assert 1 == manager.statistics().suspects
        runtime.on_control = ()
        await session.prompt("x")
        assert 2 == runtime.names().count("ensure_session")


async def test_a_oneshot_whose_controls_fail_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    """Its handle is not left open by a turn that was never submitted."""
    runtime = FakeRuntime(controls=[Raise(REFUSED)])
    async with one_session(runtime, mode="oneshot") as (manager, session):
        await session.update_options(mode="plan")
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        assert not manager.is_live("k")
        assert set() == runtime.open


async def test_a_refusal_that_started_nothing_is_retried_once(autojump_clock: trio.testing.MockClock) -> None:
    """An adapter that lost its backend while it was told says so, and the turn goes on with a fresh handle."""
    answers = iter([[Raise(BackendUnavailable("gone", retryable=True))], []])
    runtime = FakeRuntime(controls=lambda _: next(answers))
    async with one_session(runtime) as (_, session):
        await session.update_options(mode="plan")
        await session.prompt("x")
    assert ["plan", "plan"] == told(runtime)
    assert 2 == runtime.names().count("ensure_session")
    assert 2 == runtime.names().count("close")


# -- the session's own timeout ------------------------------------------------


@pytest.mark.parametrize(("given", "option", "expected"), [(2, 3, 2), (None, 3, 3), (None, 100, 100), (None, None, T)])
async def test_whose_timeout_holds(
    given: float | None, option: int | None, expected: float, autojump_clock: trio.testing.MockClock
) -> None:
    """The turn's own, else the session's, else the manager's; also a longer one."""
    async with one_session(FakeRuntime([Hang(stops=True)])) as (_, session):
        if option is not None:
            await session.update_options(timeout_seconds=option)
        start = trio.current_time()
        with pytest.raises(TurnTimedOut) as caught:
            await session.prompt("x", timeout=given)
        assert expected + G == trio.current_time() - start
        assert expected == caught.value.limits.turn


# -- between the store and the backend ----------------------------------------


@pytest.mark.parametrize("error", [REFUSED, UnsupportedControl("no"), ValueError("odd")])
async def test_a_refused_change_is_taken_back(error: Exception, autojump_clock: trio.testing.MockClock) -> None:
    """Store and session have the old options, and the next turn tells the agent those."""
    answers = iter([[], [], [Raise(error)], []])
    runtime, store = FakeRuntime(controls=lambda _: next(answers)), MemoryStore()
    async with one_session(runtime, store=store) as (_, session):
        await session.set_mode("old")
        await session.prompt("x")
        with pytest.raises((RequestFailed, UnsupportedControl, TurnFailed)):
            await session.set_mode("new")
        assert RuntimeOptions(mode="old") == await stored(store) == (await session.status()).options
        await session.prompt("x")
    assert ["old", "old", "new", "old"] == told(runtime)


@pytest.mark.parametrize("how", ["timeout", "lost", "cancelled", "shutdown"])
async def test_a_change_of_unknown_effect_stands(how: str, autojump_clock: trio.testing.MockClock) -> None:
    """Whether the agent took it or not: it is stored, and told again before the next turn."""
    hung = [Raise(ConnectionLost("gone"))] if how == "lost" else [Hang()]
    runtime, store = FakeRuntime(controls=hung), MemoryStore()
    errors: list[Exception] = []
    settings = Settings(limits=Limits(controls=1))

    async def change(session: Session) -> None:
        try:
            await session.set_mode("plan")
        except (TurnFailed, ConnectionLost, ManagerClosed) as error:
            errors.append(error)

    with trio.move_on_after(9) as outer:
        async with trio.open_nursery() as nursery, one_session(runtime, store=store, settings=settings) as (_, session):
            nursery.start_soon(change, session)
            await trio.testing.wait_all_tasks_blocked()
            if how == "cancelled":
                nursery.cancel_scope.cancel()
            elif how != "shutdown":
                await trio.sleep(2)
    assert not outer.cancelled_caught
    assert {"timeout": ["controls-timeout"], "lost": ["disconnected"], "shutdown": ["manager-closed"]}.get(how, []) == [
        getattr(error, "detail", None) for error in errors
    ]
    assert RuntimeOptions(mode="plan") == await stored(store)
    runtime.on_control = ()
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        await manager.session("k").prompt("x")
    assert ["plan", "plan"] == told(runtime)


async def test_a_store_that_fails_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """The agent is told nothing either."""
    runtime, store = FakeRuntime(), AwkwardStore()
    async with one_session(runtime, store=store) as (_, session):
        store.error_in_update = StoreError("full")
        for call in (partial(session.set_mode, "plan"), partial(session.update_options, mode="plan")):
            with pytest.raises(StoreError):
                await call()
        store.error_in_update = None
        await session.prompt("x")
        assert RuntimeOptions() == await stored(store)
    assert [] == told(runtime)


class LateStore(AwkwardStore):
    """Writes what it was given although its caller was told, or decided, not to wait."""

    async def update(self, key: str, mutate: Any) -> Any:
        result = await self.memory.update(key, mutate)
        await self._behave(hang=self.hang_update)
        return result


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
@pytest.mark.parametrize("live", [True, False])
async def test_a_write_that_nobody_waits_for_is_taken_back(
    how: str, live: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Although it did happen in the end: the session never runs with options that were not accepted."""
    runtime, store = FakeRuntime(), LateStore()
    async with one_session(runtime, store=store, settings=Settings(limits=Limits(controls=1))) as (_, session):
        if not live:
            await session.close()
        store.hang_update = True
        if how == "timeout":
            with pytest.raises(StoreError) as caught:
                await session.update_options(mode="plan")
            assert "store-timeout" == caught.value.detail
        else:
            with trio.move_on_after(0.5):
                await session.update_options(mode="plan")
        assert RuntimeOptions(mode="plan") == await stored(store)
        store.hang_update = False
        assert RuntimeOptions() == (await session.status()).options
        await session.prompt("x")
        assert RuntimeOptions() == await stored(store)
        assert [] == told(runtime)


@pytest.mark.parametrize("live", [True, False])
async def test_what_is_taken_back_does_not_undo_a_later_change(
    live: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A change that is accepted in between is the one that holds."""
    runtime, store = FakeRuntime(), LateStore()
    async with one_session(runtime, store=store, settings=Settings(limits=Limits(controls=1))) as (_, session):
        if not live:
            await session.close()
        store.hang_update = True
        with pytest.raises(StoreError):
            await session.update_options(mode="plan", model="m")
        store.hang_update = False
        assert RuntimeOptions(mode="code") == await session.update_options(mode="code")
        await session.prompt("x")
        assert RuntimeOptions(mode="code") == await stored(store)
    assert ["code"] == told(runtime)


async def test_a_control_that_opens_a_session_stores_its_id(autojump_clock: trio.testing.MockClock) -> None:
    """So that the next manager resumes it, although no turn was run."""
    runtime, store = FakeRuntime(), MemoryStore()
    await store.update("k", lambda _: SessionRecord(key="k", agent="fake"))
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        await manager.session("k").set_mode("plan")
    record = await store.read("k")
    assert record is not None
    assert "fake-1" == record.session_id


async def test_a_store_that_hangs_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """Reading has the deadline of the operation too, and ends with its caller."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store) as (_, session):
        await session.close()
        store.hang_read = True
        start = trio.current_time()
        for call, seconds in ((partial(session.set_mode, "m"), 60), (session.reset_options, 15)):
            with pytest.raises(StoreError):
                await call()
            assert seconds == trio.current_time() - start
            start = trio.current_time()
        for call in (partial(session.set_mode, "m"), session.reset_options, partial(session.update_options, mode="m")):
            with trio.move_on_after(1):
                await call()
        assert 3 == trio.current_time() - start


async def test_a_record_that_is_deleted_meanwhile_is_not_made_anew(autojump_clock: trio.testing.MockClock) -> None:
    """Options of a session that somebody else forgot have nowhere to be."""
    store = MemoryStore()
    async with one_session(FakeRuntime(), store=store) as (_, session):
        await store.update("k", lambda _: None)
        with pytest.raises(SessionMissing):
            await session.update_options(mode="plan")
    assert () == await store.list()


@pytest.mark.parametrize("phase", ["queued", "ensure", "capabilities", "close"])
async def test_a_caller_is_never_held_longer_than_the_bound(phase: str, autojump_clock: trio.testing.MockClock) -> None:
    """Whatever its operation waits for when it is cancelled; nothing is stored before the backend is known."""

    class HangingCapabilities(FakeRuntime):
        async def capabilities(self, handle: Any) -> Capabilities:
            if phase == "capabilities":
                await trio.sleep_forever()
            return await super().capabilities(handle)

    runtime, store = HangingCapabilities([Sleep(4)], close=[Hang()] if phase == "close" else []), MemoryStore()
    async with one_session(runtime, store=store) as (_, session), trio.open_nursery() as nursery:
        if phase == "queued":
            nursery.start_soon(session.prompt, "x")
            await trio.testing.wait_all_tasks_blocked()
        if phase == "ensure":
            await session.close()
            runtime.ensure = [Hang()]
        change = session.reset_options if phase == "close" else partial(session.set_mode, "plan")
        start = trio.current_time()
        with trio.move_on_after(1) as scope:
            await change()
        assert scope.cancelled_caught
        assert (C if phase == "close" else 1.0) <= trio.current_time() - start <= C + J + LIMITS.join
        assert RuntimeOptions() == await stored(store)
        runtime.on_close = ()
        nursery.cancel_scope.cancel()


CHANGES: dict[str, Callable[[Session], Awaitable[object]]] = {
    "set_mode": lambda session: session.set_mode("new"),
    "set_config_option": lambda session: session.set_config_option("mode", "new"),
    "update_options": lambda session: session.update_options(mode="new"),
    "unset": lambda session: session.update_options(mode=UNSET),
    "reset_options": lambda session: session.reset_options(),
    "prompt": lambda session: session.prompt("x"),
}


def cancelled_at(n: int, change: Callable[[Session], Awaitable[object]], *, after: bool, live: bool) -> bool:
    """Cancel a change at the n-th step, run a turn, and check what it ran with; False if there is no n-th step."""
    scope = trio.CancelScope()
    at = AtStep(n, scope.cancel, after=after)

    async def main() -> None:
        runtime, store = FakeRuntime(controls=[Sleep(1)], close=[Sleep(1)]), MemoryStore()
        async with one_session(runtime, store=store) as (_, session):
            await session.set_mode("old")
            await session.update_options(model="m")
            if not live:
                await session.close()
            start = trio.current_time()
            at.armed = True
            with scope:
                await change(session)
            at.armed = False
            assert trio.current_time() - start <= 3 + 2 * J
            await session.prompt("x")
            options = await stored(store)
            assert options in (RuntimeOptions(mode=mode, model="m") for mode in ("old", "new", None)) or options == (
                RuntimeOptions()
            )
            [handle] = runtime.open
            modes = [c.detail for c in runtime.calls if c.name == "set_mode" and c.handle is handle]
            modes += [c.detail[1] for c in runtime.calls if c.detail == ("mode", "new") and c.handle is handle]
            assert options.mode == (modes[-1] if modes else None)

    run_virtual(main, at)
    return at.fired


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_a_turn_runs_with_what_is_stored_wherever_a_change_was_cancelled(name: str, after: bool, live: bool) -> None:
    """At each step of the scheduler, before or after it."""
    n = 1
    while cancelled_at(n, CHANGES[name], after=after, live=live):
        n += 1
    assert n > 4


# -- together with closing what is idle ------------------------------------------


async def test_a_turn_that_failed_at_its_controls_keeps_the_new_conversation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A conversation that replaced one that was lost is what later turns are in, evicted or not."""
    forgotten = SessionInitFailed("unknown session", detail="resume-failed")
    refusals = [REFUSED]
    runtime = FakeRuntime(
        ensure=lambda request: [Raise(forgotten)] if request.resume == "lost" else [],
        controls=lambda _: [Raise(refusals.pop())] if refusals else [],
    )
    store = MemoryStore()
    record = SessionRecord(
        key="k", agent="fake", identity=Identity(session_id="lost"), options=RuntimeOptions(mode="plan")
    )
    await store.update("k", lambda _: record)
    async with open_session_manager({"fake": runtime}, store=store, settings=Settings(idle_ttl=10)) as manager:
        session = manager.session("k")
        with pytest.raises(TurnFailed):
            await session.prompt("refused")
        await session.prompt("x")
        await trio.sleep(20)
        assert not manager.is_live("k")
        await session.prompt("y")
    resumed = [call.detail.resume for call in runtime.calls if call.name == "ensure_session"]
    assert ["lost", None, "fake-1"] == resumed


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_stored_timeout_that_says_nothing_is_none(seconds: int, autojump_clock: trio.testing.MockClock) -> None:
    """What is stored may be older than a rule: it fails no turn."""
    store = MemoryStore()
    record = SessionRecord(key="k", agent="fake", options=RuntimeOptions(timeout_seconds=seconds))
    await store.update("k", lambda _: record)
    async with open_session_manager({"fake": FakeRuntime()}, store=store) as manager:
        await manager.session("k").prompt("x")


@pytest.mark.parametrize("evicted", [False, True])
async def test_starting_where_the_option_is_makes_it_the_sessions_own(
    evicted: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Whether the session was open makes no difference to what a reset goes back to."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}, settings=Settings(idle_ttl=10)) as manager:
        session = await manager.start_session("k", agent="fake", cwd="/a")
        await session.update_options(cwd="/b")
        await session.prompt("x")
        await trio.sleep(20 if evicted else 0)
        assert evicted != manager.is_live("k")
        await manager.start_session("k", agent="fake", cwd="/b")
        assert RuntimeOptions() == (await session.status()).options
        await session.reset_options()
        assert "/b" == (await session.status()).cwd
