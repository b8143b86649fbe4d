"""The transcript: what was typed, streamed and decided, in order; bounded; and never a turn's concern."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import trio_acp
from trio_acp import SQLiteTranscript, _recording
from trio_acp._transcript import event_value, outcome_value
from trio_acp.abc import Transcript, TranscriptEntry
from trio_acp.testing import FakeRuntime, ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.concurrency


class MemoryTranscript(Transcript):
    """Keeps all in a list; fails or hangs as the next of `plan` says."""

    def __init__(self, *plan: Exception | float) -> None:
        self.entries: dict[tuple[str, int], TranscriptEntry] = {}
        self.plan = list(plan)

    async def append(self, entries: Sequence[TranscriptEntry]) -> None:
        fault = self.plan.pop(0) if self.plan else 0.0
        if isinstance(fault, Exception):
            raise fault
        for entry in entries:
            self.entries.setdefault((entry.turn, entry.seq), entry)
        await trio.sleep(fault)

    async def list(self, session: str) -> tuple[TranscriptEntry, ...]:
        return tuple(entry for entry in self.entries.values() if entry.session == session)

    async def forget(self, session: str) -> int:
        dropped = [place for place, entry in self.entries.items() if entry.session == session]
        for place in dropped:
            del self.entries[place]
        return len({turn for turn, _ in dropped})


@asynccontextmanager
async def recorded(
    kept: Transcript, agent: ScriptedAgent | None = None, **options: Any
) -> AsyncIterator[trio_acp.Session]:
    """Open a manager that records into `kept`, and one session."""
    runtime = trio_acp.AcpRuntime(dial_agent(agent or ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}, transcript=kept, **options) as manager:
        yield await manager.start_session("k", agent="agent", cwd="/repo")


def bodies(entries: Sequence[TranscriptEntry]) -> list[dict[str, Any]]:
    """Return what the entries say, with adjacent pieces of one text joined."""
    joined: list[dict[str, Any]] = []
    for entry in entries:
        body = dict(entry.body)
        last = joined[-1] if joined else {}
        if body["type"] in {"text_delta", "thought"} and (last.get("type"), last.get("message_id")) == (
            body["type"],
            body.get("message_id"),
        ):
            last["text"] += body["text"]
        else:
            joined.append(body)
    return joined


STEPS = st.lists(
    st.sampled_from(
        ["say a", "say b", "think c", "tool T", "permission P", "plan x|y", "usage 1 2", "commands", "sleep 0.2"]
    ),
    max_size=8,
)


@given(steps=STEPS, stop=st.sampled_from([None, 0.1, 0.3]))
def test_the_transcript_has_what_the_consumer_saw(steps: list[str], stop: float | None) -> None:
    """Prompt, every event in order, and the outcome; texts are joined, and nothing else is changed."""
    kept, prompt = MemoryTranscript(), "\n".join([*steps, "say end"])
    seen: list[trio_acp.Event] = []
    outcome: trio_acp.Outcome | None = None

    async def run() -> None:
        nonlocal outcome
        async with recorded(kept) as session, session.turn(prompt) as turn, trio.open_nursery() as nursery:
            if stop is not None:
                nursery.start_soon(stop_after, turn, stop)
            seen.extend([event async for event in turn])
        outcome = turn.outcome

    async def stop_after(turn: trio_acp.Turn, seconds: float) -> None:
        await trio.sleep(seconds)
        turn.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert outcome is not None
    entries = list(kept.entries.values())
    expected = [
        TranscriptEntry(session="k", turn="t", seq=n, time=0, kind="event", body=event_value(event))
        for n, event in enumerate(seen)
    ]
    assert [{"type": "prompt", "text": prompt}, *bodies(expected), outcome_value(outcome)] == bodies(entries)
    assert list(range(len(entries))) == [entry.seq for entry in entries]
    assert ["prompt", "outcome"] == [entries[0].kind, entries[-1].kind]


@pytest.mark.parametrize("seconds", [0.0, 1.5, 1000.0])
async def test_a_text_goes_on_in_a_new_entry_once_it_was_written(
    seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Pieces that come together are one entry; what was written, or is being written, stays as it is."""
    kept = MemoryTranscript(seconds)
    async with recorded(kept) as session:
        await session.prompt("say a; say b; sleep 1; say c; think d; say e")
    assert ["ab", "c", "d", "e"] == [one.body["text"] for one in kept.entries.values() if one.kind == "event"]


async def test_what_was_written_makes_room(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer bounds what waits, not what was ever said."""
    monkeypatch.setattr(_recording, "MAX_RECORDED", 3000)
    kept = MemoryTranscript()
    async with recorded(kept) as session:
        await session.prompt("; ".join(["big 1000; sleep 1"] * 20))
    assert 20_000 == sum(len(one.body["text"]) for one in kept.entries.values() if one.kind == "event")
    assert "missing_events" not in list(kept.entries.values())[-1].body


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("stop max_tokens", {"outcome": "completed", "stop_reason": "max_tokens"}),
        ("error -32603 broken", {"outcome": "failed"}),
        ("hang", {"outcome": "timed_out", "cleanup": "finished"}),
    ],
)
async def test_every_outcome_is_in_it(
    script: str, expected: dict[str, str], autojump_clock: trio.testing.MockClock
) -> None:
    """A turn that ended has its outcome as its last entry, once the manager was left."""
    kept = MemoryTranscript()
    async with recorded(kept) as session:
        try:
            await session.prompt(script, timeout=5)
        except (trio_acp.TurnFailed, trio_acp.TurnTimedOut):
            assert expected["outcome"] in {"failed", "timed_out"}
    last = list(kept.entries.values())[-1]
    assert "outcome" == last.kind
    assert expected == {name: last.body.get(name) for name in expected}


async def test_a_turn_that_leaving_stops_has_its_outcome(autojump_clock: trio.testing.MockClock) -> None:
    """What is written last is how the manager's exit ended the turn; a turn that never began is not in it."""
    kept = MemoryTranscript()
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with (
        trio.open_nursery() as nursery,
        trio_acp.open_session_manager({"agent": runtime}, transcript=kept) as manager,
    ):
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        nursery.start_soon(session.prompt, "say a; hang")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(session.prompt, "waits")
        await trio.testing.wait_all_tasks_blocked()
    assert ["prompt", "text_delta", "outcome"] == [entry.body["type"] for entry in kept.entries.values()]
    assert "shutdown" == list(kept.entries.values())[-1].body["by"]


async def test_attachments_are_named_and_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    """Of what goes with a prompt the transcript has kind, name and address; the contents stay out."""
    kept = MemoryTranscript()
    attached: list[trio_acp.ContentBlock] = [
        trio_acp.EmbeddedResource(uri="file:///a", text="SECRET"),
        trio_acp.ImageContent(data="SECRET", mime_type="image/png"),
        trio_acp.ResourceLink(name="b", uri="file:///b"),
    ]
    async with recorded(kept, ScriptedAgent(accepts=frozenset({"image", "embeddedContext"}))) as session:
        await session.prompt("say a", attachments=attached)
    first = next(iter(kept.entries.values()))
    assert "SECRET" not in json.dumps([entry.body for entry in kept.entries.values()])
    assert ["embedded_resource", "image_content", "resource_link"] == [one["type"] for one in first.body["attachments"]]


@pytest.mark.parametrize("faults", [(OSError("full"),), (1000.0,), (trio_acp.StoreError("x"), 1000.0, 1000.0)])
async def test_a_transcript_that_fails_slows_no_turn_and_gets_all_later(
    faults: tuple[Exception | float, ...], autojump_clock: trio.testing.MockClock
) -> None:
    """Turns take no time; what could not be written is tried again, and is there once."""
    kept = MemoryTranscript(*faults)
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}, transcript=kept) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        for _ in range(3):
            await session.prompt("say a; tool T")
        assert 0.0 == trio.current_time()
        await trio.sleep(50)
        assert len(faults) == manager.statistics().transcript_failures
    types = [body["type"] for body in bodies(list(kept.entries.values()))]
    assert ["prompt", "text_delta", "tool_call", "tool_call", "tool_call", "outcome"] * 3 == types


async def test_a_turn_that_outruns_it_says_what_is_missing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the buffer events are left out, the turn is unharmed, and its outcome says how many."""
    monkeypatch.setattr(_recording, "MAX_RECORDED", 2000)
    kept = MemoryTranscript(10.0)
    async with recorded(kept) as session:
        reply = await session.prompt("say a; sleep 1; tool A; tool B; tool C; big 1500; big 1500; say z")
    assert trio_acp.Completed() == reply.outcome
    last = list(kept.entries.values())[-1]
    here = sum(entry.kind == "event" for entry in kept.entries.values())
    assert last.body["missing_events"] > 0
    assert here > 0


async def test_a_runtime_may_stream_anything(tmp_path: Path) -> None:
    """An event with a value that is no JSON does not keep the rest from being written."""
    runtime = FakeRuntime(turn=[trio_acp.ToolCall(id="1", title="T", raw_input={1: object()}), trio_acp.TextDelta("t")])
    kept = SQLiteTranscript(tmp_path / "t.db")
    async with trio_acp.open_session_manager({"fake": runtime}, transcript=kept) as manager:
        await (await manager.start_session("k", agent="fake")).prompt("go")
    async with kept:
        assert ["prompt", "tool_call", "text_delta", "outcome"] == [e.body["type"] for e in await kept.list("k")]


async def test_what_cannot_be_written_stops_nothing_else(tmp_path: Path) -> None:
    """An event that no JSON can be made of is named, once; all before it and behind it is there."""
    circle: dict[str, Any] = {}
    circle["me"] = circle
    events = [trio_acp.ToolCall(id="1", title="T", raw_input=raw) for raw in ({(1, 2): 3}, circle, "sound")]
    kept = SQLiteTranscript(tmp_path / "t.db")
    async with trio_acp.open_session_manager({"fake": FakeRuntime(turn=events)}, transcript=kept) as manager:
        await (await manager.start_session("k", agent="fake")).prompt("go")
    async with kept:
        kinds = [(e.body["type"], e.body.get("unwritable")) for e in await kept.list("k")]
    bad = [("tool_call", "TypeError"), ("tool_call", "ValueError")]
    assert [("prompt", None), *bad, ("tool_call", None), ("outcome", None)] == kinds


async def test_prompts_that_wait_are_bounded_too(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transcript that takes nothing for long does not fill the memory; what it gets later are whole turns."""
    monkeypatch.setattr(_recording, "MAX_RECORDED", 2000)
    kept = MemoryTranscript(*[OSError("full")] * 10)
    async with recorded(kept) as session:
        for _ in range(50):
            assert trio_acp.Completed() == (await session.prompt(f"say a; say {'b' * 300}")).outcome
        entries = session._ctx.recorder.entries
        assert entries is not None
        assert entries._weight <= 4000
        await trio.sleep(100)
        assert trio_acp.Completed() == (await session.prompt("say later")).outcome
    turns = {entry.turn for entry in kept.entries.values()}
    assert 1 < len(turns) < 30
    assert all(kept.entries[turn, 0].kind == "prompt" for turn in turns)
    assert "later" in repr(list(kept.entries.values()))


# -- the file -----------------------------------------------------------------


def entry(turn: str, seq: int, size: int = 10, session: str = "k") -> TranscriptEntry:
    """Return an entry whose body has about `size` characters."""
    body = {"type": "text_delta", "text": "x" * size}
    return TranscriptEntry(
        session=session, turn=turn, seq=seq, time=1.5, kind="prompt" if seq == 0 else "event", body=body
    )


async def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    """Turn by turn in the order in which they began, each session by itself, each entry once."""
    entries = [entry("b", 0), entry("a", 0), entry("b", 1), entry("a", 1)]
    odd = attrs.evolve(entry("c", 0, session="o\ud800"), body={"type": "prompt", "text": "\ud800\x00é"})
    async with SQLiteTranscript(tmp_path / "t.db") as kept:
        assert () == await kept.list("k")
        await kept.append([*entries, odd])
        await kept.append([attrs.evolve(entries[0], body={"type": "other"})])
        assert (entries[0], entries[2], entries[1], entries[3]) == await kept.list("k")
        assert (attrs.evolve(odd, session="o?"),) == await kept.list("o\ud800")
        assert 2 == await kept.forget("k")
        assert () == await kept.list("k")
        assert 0 == await kept.forget("k")
        assert 1 == len(await kept.list("o\ud800"))
    assert 0o600 == stat.S_IMODE((tmp_path / "t.db").stat().st_mode)


@given(
    appended=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 400)), max_size=40),
    most=st.integers(100, 2000),
    batch=st.integers(1, 7),
)
def test_the_oldest_turns_are_dropped_whole(
    tmp_path_factory: pytest.TempPathFactory, appended: list[tuple[int, int]], most: int, batch: int
) -> None:
    """What is kept never exceeds the limit, and of each turn that is kept everything is."""
    path = tmp_path_factory.mktemp("transcript") / "t.db"
    given: dict[str, list[TranscriptEntry]] = {}
    order: list[TranscriptEntry] = []
    for turn, size in appended:
        one = entry(f"t{turn}", len(given.get(f"t{turn}", ())), size)
        given.setdefault(one.turn, []).append(one)
        order.append(one)
    # The model: turns in the order in which they began, dropped from the front after each batch.
    model: dict[str, list[TranscriptEntry]] = {}

    def cost(entries: Sequence[TranscriptEntry]) -> int:
        return sum(len(json.dumps(one.body)) + 64 for one in entries)

    async def run() -> None:
        async with SQLiteTranscript(path, max_bytes=most) as kept:
            for start in range(0, len(order), batch):
                await kept.append(order[start : start + batch])
                for one in order[start : start + batch]:
                    if one.seq == 0:
                        model[one.turn] = []
                    if one.turn in model:
                        model[one.turn].append(one)
                while sum(map(cost, model.values())) > most:
                    del model[next(iter(model))]
                assert [one for entries in model.values() for one in entries] == list(await kept.list("k"))

    trio.run(run)
    with closing(sqlite3.connect(path)) as connection:
        rows = size = 0
        if order:
            [(size,)] = connection.execute("SELECT total(size) FROM transcript_turns").fetchall()
            [(rows,)] = connection.execute("SELECT count(*) FROM transcript").fetchall()
        assert rows == sum(map(len, model.values()))
        assert size == sum(map(cost, model.values())) <= most


async def test_an_entry_is_never_changed(tmp_path: Path) -> None:
    """The table refuses updates."""
    async with SQLiteTranscript(tmp_path / "t.db") as kept:
        await kept.append([entry("a", 0)])
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE transcript SET body = '{}'")


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, most: Any) -> None:
    """The size is a whole number of at least 1."""
    with pytest.raises(trio_acp.InvalidOption, match="max_bytes"):
        SQLiteTranscript(tmp_path / "t.db", max_bytes=most)


@pytest.mark.parametrize("body", ["[]", "{", ""])
async def test_an_entry_that_cannot_be_read_is_an_error(tmp_path: Path, body: str) -> None:
    """A body that is no JSON object was not written by us."""
    async with SQLiteTranscript(tmp_path / "t.db") as kept:
        await kept.append([entry("a", 0)])
        with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
            connection.execute("INSERT INTO transcript VALUES ('a', 1, 1.0, 'event', ?)", (body,))
        with pytest.raises(trio_acp.StoreError, match="table transcript, row 'a' 1, column body"):
            await kept.list("k")
