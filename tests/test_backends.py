"""Which runtime serves a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.turn_kit import one_session
from trio_acp import (
    AcpError,
    BackendMissing,
    BackendUnavailable,
    MemoryStore,
    SessionExists,
    SessionRecord,
    TurnFailed,
    UsageError,
    open_session_manager,
)
from trio_acp._backends import Backends
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from trio.testing import MockClock


class Broken(FakeRuntime):
    def healthy(self) -> bool:
        raise OSError("no idea")


class Empty(FakeRuntime):
    def __len__(self) -> int:
        return 0


WELL, ILL = FakeRuntime(), FakeRuntime(well=False)


def test_names_are_trimmed_and_lower_cased() -> None:
    """A runtime is found under its name however it is written; the order is that of registration."""
    backends = Backends({" Codex": WELL, "claude": ILL})
    assert ["codex", "claude"] == list(backends)
    assert WELL is backends.get("CODEX ")
    assert "codex" == backends.require(" codex")


def test_a_runtime_is_found_though_it_is_false() -> None:
    """One that counts something, of which there is nothing yet, is registered like any other."""
    empty = Empty()
    assert empty is Backends({"a": empty}).get("a")


@pytest.mark.parametrize(
    ("names", "detail"),
    [(["  "], "empty-backend-name"), ([""], "empty-backend-name"), (["a", "A "], "duplicate-backend-name")],
)
async def test_names_are_told_apart(names: list[str], detail: str) -> None:
    """A blank name or two that are the same are refused before anything is entered."""
    runtimes = dict.fromkeys(names, WELL)
    with pytest.raises(UsageError) as caught:
        async with open_session_manager(runtimes):
            pass
    assert detail == caught.value.detail


@pytest.mark.parametrize(
    ("runtimes", "key", "expected"),
    [
        ({"a": WELL, "b": WELL}, "k", "a"),
        ({"a": ILL, "b": WELL}, "k", "b"),
        ({"a": Broken(), "b": WELL}, "k", "b"),
        ({"a": WELL, "b": WELL}, "agent:B:acp:1", "b"),
        ({"a": WELL, "b": WELL}, "agent:c:acp:1", "a"),
        ({"a": WELL, "b": ILL}, "agent:b:acp:1", BackendUnavailable),
        ({"a": ILL, "b": Broken()}, "k", BackendUnavailable),
        ({}, "k", BackendMissing),
    ],
)
def test_a_session_that_names_no_agent_gets_one(
    runtimes: dict[str, FakeRuntime], key: str, expected: str | type[AcpError]
) -> None:
    """The agent of its key if registered, else the first healthy, else the first: which then is not healthy."""
    backends = Backends(runtimes)
    if isinstance(expected, str):
        assert expected == backends.choose(key)
    else:
        with pytest.raises(expected):
            backends.choose(key)


@pytest.mark.parametrize(("name", "error"), [("ill", BackendUnavailable), ("none", BackendMissing)])
async def test_an_agent_that_is_named_must_be_there_and_healthy(
    name: str, error: type[AcpError], autojump_clock: MockClock
) -> None:
    """Starting and asking are refused at once, and nothing is opened."""
    async with open_session_manager({"well": FakeRuntime(), "ill": FakeRuntime(well=False)}) as manager:
        with pytest.raises(error):
            await manager.start_session("k", agent=name)
        with pytest.raises(error):
            await manager.ask("x", agent=name)
        assert 0 == manager.statistics().controls


async def test_a_manager_chooses_for_who_does_not(autojump_clock: MockClock) -> None:
    """A new session gets the agent of its key or the first healthy one; a stored one keeps its own."""
    ill, one, two = FakeRuntime(well=False), FakeRuntime(), FakeRuntime()
    async with open_session_manager({"ill": ill, "one": one, "Two": two}) as manager:
        await manager.start_session("k")
        await manager.start_session("agent:two:acp:1")
        await manager.ask("x")
        assert ["one"] == [r.agent for r in await manager.stored_sessions() if r.key == "k"]
        one.well = False
        await manager.start_session("k")
        with pytest.raises(SessionExists):
            await manager.start_session("k", agent="two")
        await manager.start_session("k", fresh=True)
        assert ["two"] == [r.agent for r in await manager.stored_sessions() if r.key == "k"]
    assert ([], 2, 2) == (ill.names(), one.names().count("ensure_session"), two.names().count("ensure_session"))


async def test_nothing_new_is_opened_by_an_unhealthy_runtime(autojump_clock: MockClock) -> None:
    """A live session goes on; one that has to be opened again fails, and nothing is asked of the runtime."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, session):
        runtime.well = False
        await session.prompt("x")
        await session.close()
        asked = runtime.names()
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert isinstance(caught.value.__cause__, BackendUnavailable)
        assert asked == runtime.names()
        runtime.well = True
        await session.prompt("x")


@pytest.mark.parametrize(("key", "used"), [("agent:two:acp:1", "two"), ("k", "main")])
async def test_a_record_without_an_agent_has_that_of_its_key(key: str, used: str, autojump_clock: MockClock) -> None:
    """A blank agent is that of the key, and else the default one."""
    store = MemoryStore()
    await store.update(key, lambda _: SessionRecord(key=key, agent=" "))
    runtimes = {"main": FakeRuntime(), "two": FakeRuntime()}
    async with open_session_manager(runtimes, store=store) as manager:
        await manager.session(key).prompt("x")
        await manager.session(key).update_options(model="m")
        await manager.session(key).prompt("x")
        assert used == (await manager.session(key).status()).agent
    assert [used] == [name for name, runtime in runtimes.items() if runtime.calls]


async def test_the_main_alias_is_the_main_session(autojump_clock: MockClock) -> None:
    """What is stored of the main session is found under its alias, also after a restart."""
    store, runtime = MemoryStore(), FakeRuntime()
    await store.update("agent:main:main", lambda _: SessionRecord(key="agent:main:main", agent="main"))
    async with open_session_manager({"main": runtime}, store=store) as manager:
        await manager.session("main").prompt("x")
        assert manager.is_live("MAIN")
        assert "agent:main:main" == (await manager.start_session("agent:main:main")).key
    assert ["agent:main:main"] == [c.detail.key for c in runtime.calls if c.name == "ensure_session"]
