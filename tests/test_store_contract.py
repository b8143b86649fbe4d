"""What every `SessionStore` promises, shown for each one we have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from trio_acp._errors import UsageError
from trio_acp._records import Identity, Owner, ProcessGroup, RuntimeOptions, SessionRecord
from trio_acp.stores import MemoryStore, SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from trio_acp.abc import Mutate, SessionStore

FULL = SessionRecord(
    key="agent:codex:acp:7",
    agent="codex",
    mode="oneshot",
    cwd="/repo",
    identity=Identity(
        state="resolved", session_id="s-1", agent_session_id="a-1", record_id="r-1", source="event", updated=1.5
    ),
    state="running",
    last_error="gone",
    last_activity=1_700_000_000.123456,
    owner=Owner(pid=42, start_time=2**40, boot_id="b", manager_id="m"),
    options=RuntimeOptions(
        mode="plan", model="m", cwd="/w", permission_profile="p", timeout_seconds=9, extras={"b": "2", "a": "é"}
    ),
    requester="agent:main:main",
    label="tests",
    processes=(ProcessGroup(pgid=43, start_time=2**40 + 1), ProcessGroup(pgid=44, start_time=0)),
)


def put(record: SessionRecord | None) -> Mutate:
    return lambda old: record


def add_one(old: SessionRecord | None) -> SessionRecord:
    old = old or SessionRecord(key="n", agent="a")
    return attrs.evolve(old, last_activity=old.last_activity + 1)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStore:
    """Return a store that was not entered yet."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "sessions.db")


def test_the_sample_record_sets_every_field() -> None:
    """No field of the sample has its default, so that a forgotten column cannot hide."""
    defaults = SessionRecord(key="", agent="")
    assert [] == [f.name for f in attrs.fields(SessionRecord) if getattr(FULL, f.name) == getattr(defaults, f.name)]


@pytest.mark.parametrize("record", [FULL, SessionRecord(key="k", agent="a")])
async def test_a_record_comes_back_as_it_was(store: SessionStore, record: SessionRecord) -> None:
    """Every field of a record is kept, and `update` returns what is stored."""
    async with store:
        assert record == await store.update(record.key, put(record))
        assert record == await store.read(record.key)


async def test_a_missing_record_is_none(store: SessionStore) -> None:
    """An unknown key reads as None, and `mutate` is shown None."""
    shown: list[SessionRecord | None] = []
    async with store:
        assert None is await store.read("nobody")
        assert None is await store.update("nobody", shown.append)
        assert [None] == shown
        assert () == await store.list()


async def test_none_deletes(store: SessionStore) -> None:
    """A `mutate` that returns None deletes the record, and only that one."""
    other = attrs.evolve(FULL, key="other")
    async with store:
        await store.update(FULL.key, put(FULL))
        await store.update("other", put(other))
        assert None is await store.update(FULL.key, put(None))
        assert None is await store.read(FULL.key)
        assert (other,) == await store.list()


async def test_the_list_is_ordered_by_key(store: SessionStore) -> None:
    """`list` orders by code points, whatever the order of writing and whatever the alphabet."""
    keys = ["b", "a", "\N{OLD ITALIC LETTER A}", "Z", "\uffee", "ä", "a:b"]
    async with store:
        for key in keys:
            await store.update(key, put(SessionRecord(key=key, agent="x")))
        assert sorted(keys) == [record.key for record in await store.list()]


async def test_concurrent_updates_lose_nothing(store: SessionStore) -> None:
    """Each update sees the result of the one before, however many tasks update."""

    async def add() -> None:
        for _ in range(5):
            await store.update("n", add_one)

    async with store:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(add)
        record = await store.read("n")
        assert record is not None
        assert 50.0 == record.last_activity


@pytest.mark.parametrize("error", [ValueError("no"), OSError("mine"), UnicodeError("mine"), KeyboardInterrupt()])
async def test_an_exception_of_mutate_comes_out_as_it_is(store: SessionStore, error: BaseException) -> None:
    """If `mutate` raises, the same exception comes out, nothing changed, and the store goes on."""

    def fail(old: SessionRecord | None) -> SessionRecord | None:
        raise error

    async with store:
        await store.update(FULL.key, put(FULL))
        with pytest.raises(type(error)) as caught:
            await store.update(FULL.key, fail)
        assert error is caught.value
        assert FULL == await store.read(FULL.key)
        assert None is await store.update(FULL.key, put(None))


async def test_a_record_cannot_be_stored_under_another_key(store: SessionStore) -> None:
    """A record returned for the wrong key is refused and changes nothing."""
    async with store:
        with pytest.raises(UsageError) as caught:
            await store.update("other", put(FULL))
        assert "key-changed" == caught.value.detail
        assert () == await store.list()


@pytest.mark.parametrize("name", ["read", "update", "list"])
async def test_a_call_cancelled_before_it_starts_does_nothing(store: SessionStore, name: str) -> None:
    """In a cancelled scope every method raises `Cancelled`, and nothing happened."""
    async with store:
        await store.update(FULL.key, put(FULL))
        with trio.CancelScope() as scope:
            scope.cancel(reason="test")
            match name:
                case "read":
                    await store.read(FULL.key)
                case "update":
                    await store.update(FULL.key, put(None))
                case _:
                    await store.list()
        assert scope.cancelled_caught
        assert FULL == await store.read(FULL.key)


async def test_a_store_can_be_entered_again(store: SessionStore) -> None:
    """Leaving keeps the records, and the store can be entered again."""
    async with store as entered:
        assert store is entered
        await entered.update(FULL.key, put(FULL))
    async with store:
        assert (FULL,) == await store.list()


async def test_leaving_keeps_the_bodys_exception(store: SessionStore) -> None:
    """The body's exception leaves the store as the same object."""
    error = RuntimeError("body")
    with pytest.raises(RuntimeError) as caught:
        async with store:
            raise error
    assert error is caught.value
