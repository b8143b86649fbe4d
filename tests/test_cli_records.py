"""Tables, documents and replays: the parts of ``sessions`` and ``status`` that need no process."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import trio_acp
from trio_acp import SessionRecord
from trio_acp._transcript import event_value, outcome_value
from trio_acp.abc import EnsureRequest, TranscriptEntry
from trio_acp.cli import _look
from trio_acp.cli._export import as_jsonl, as_markdown
from trio_acp.cli._files import write_private
from trio_acp.cli._tables import ago, cut, table, values, width
from trio_acp.cli._text import safe_text
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio_acp.abc import EntryKind

RECORD = SessionRecord(key="k", agent="a\x1b[31m", cwd="/r")
HOSTILE = "\x1b]0;owned\x07\u202e\ud800\r# no *heading*"


def entries(*bodies: dict[str, Any]) -> list[TranscriptEntry]:
    """Return a turn of these bodies."""
    kinds: dict[str, EntryKind] = {"prompt": "prompt", "outcome": "outcome"}
    return [
        TranscriptEntry(session="k", turn="t", seq=seq, time=0.0, kind=kinds.get(body["type"], "event"), body=body)
        for seq, body in enumerate(bodies)
    ]


# -- tables -------------------------------------------------------------------


@given(rows=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=200)), max_size=5), columns=st.integers(60, 100))
def test_a_table_fits_and_is_aligned(rows: list[tuple[str, str]], columns: int) -> None:
    """If the columns but the last leave it room, every line fits, and the last one begins in one place."""
    lines = table(("A", "B"), rows, columns)
    assert len(rows) + 1 == len(lines)
    assert all(safe_text(line, multiline=False) == line for line in lines)
    start = lines[0].index("B")
    if start + 8 <= columns:
        assert all(width(line) <= columns for line in lines)
    for (first, _), line in zip(rows, lines[1:], strict=True):
        shown = values([("x", first)])[0][3:] if first else ""
        assert line.startswith(shown.rstrip()) or width(shown) >= start


@given(text=st.text(), room=st.integers(1, 40), keep_end=st.booleans())
def test_a_cut_keeps_what_fits(text: str, room: int, keep_end: bool) -> None:
    """What fits is unchanged; else an ellipsis stands for what is missing, at the right end."""
    shown = cut(text, room, keep_end=keep_end)
    assert width(shown) <= max(room, 1)
    if width(text) <= room:
        assert text == shown
    elif keep_end:
        assert shown[0] == "…"
        assert text.endswith(shown[1:])
    else:
        assert shown[-1] == "…"
        assert text.startswith(shown[:-1])


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "just now"), (0.5, "just now"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (1e6, "11 d ago")],
)
def test_how_long_ago_is_told_in_the_largest_unit(seconds: float, expected: str) -> None:
    """Also of a clock that was set back."""
    assert expected == ago(seconds)


# -- documents ----------------------------------------------------------------

EVERYTHING: list[trio_acp.Event] = [
    trio_acp.TextDelta(HOSTILE),
    trio_acp.Thought(HOSTILE),
    trio_acp.UserText(HOSTILE),
    trio_acp.ContentDelta(role="agent", content=trio_acp.ImageContent(data="", mime_type="x")),
    trio_acp.ToolCall(id="1", title=HOSTILE, kind=HOSTILE, locations=(trio_acp.Location(path=HOSTILE),)),
    trio_acp.ToolCall(id="1", title="the last word", status="completed"),
    trio_acp.Plan(entries=(trio_acp.PlanEntry(content=HOSTILE, priority="", status="completed"),)),
    trio_acp.Commands(commands=(trio_acp.Command(name="c", description=HOSTILE),)),
    trio_acp.ModeChanged(mode_id=HOSTILE),
    trio_acp.SessionInfo(title=HOSTILE),
    trio_acp.Usage(used=1, size=2),
    trio_acp.PermissionAnswered(
        tool_call=trio_acp.ToolCall(id="2", title=HOSTILE), decision="deny", option_id=None, rule=HOSTILE
    ),
    trio_acp.UnknownUpdate({"x": HOSTILE}),
]


def test_documents_are_safe_whatever_an_agent_says() -> None:
    """Nothing in them drives a terminal, and no title becomes a heading."""
    told = entries({"type": "prompt", "text": HOSTILE}, *map(event_value, EVERYTHING))
    markdown, jsonl = as_markdown(RECORD, told), as_jsonl(RECORD, told)
    assert markdown == safe_text(markdown, multiline=True)
    assert jsonl.isascii()
    assert "the last word, completed" in markdown
    assert 1 == markdown.count("the last word")
    assert ["# k", "## Turn 1"] == [line for line in markdown.splitlines() if line.startswith("#")]
    assert len(told) == len([json.loads(line) for line in jsonl.splitlines()])


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (trio_acp.Completed(), "*Completed*"),
        (trio_acp.Completed("max_tokens"), "*Completed: max\\_tokens*"),
        (trio_acp.Stopped(by="user"), "*Stopped by user*"),
        (trio_acp.TimedOut(limits=trio_acp.Limits(), cleanup="finished"), "*Timed out*"),
        (trio_acp.Failed(trio_acp.TurnFailed("it *broke*")), "*Failed: it \\*broke\\**"),
        (trio_acp.Failed(trio_acp.TurnFailed("x", detail="setup-timeout")), "*Timed out*"),
    ],
)
def test_a_document_says_how_each_turn_ended(outcome: trio_acp.Outcome, expected: str) -> None:
    """In one line below the turn; events that are missing are counted."""
    body = outcome_value(outcome)
    told = entries({"type": "prompt", "text": "a\n\nb"}, body)
    assert as_markdown(RECORD, told).endswith(f"> **You:** a\n>\n> b\n\n{expected}\n")
    lossy = as_markdown(RECORD, entries(body | {"missing_events": 3}))
    assert "; 3 events are missing*" in lossy


@pytest.mark.parametrize(("time", "expected"), [(5.0, True), (0.0, False)])
def test_a_turn_without_an_end_is_told(time: float, expected: bool) -> None:
    """It runs, or its process was killed; of what was replayed no end is known anyway."""
    [told] = entries({"type": "prompt", "text": "a"})
    assert expected == ("Its end was not recorded" in as_markdown(RECORD, [attrs.evolve(told, time=time)]))


def test_attachments_are_listed_below_the_prompt() -> None:
    """By their address, or else by what they are."""
    attached = [{"type": "image_content"}, {"type": "resource_link", "uri": "file:///a"}]
    told = entries({"type": "prompt", "text": "see", "attachments": attached})
    assert "> **You:** see\n> - attached: image\\_content\n> - attached: file:///a\n" in as_markdown(RECORD, told)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure the old file is there, and nothing beside it."""
    target = tmp_path / "out.md"
    write_private(target, "old \ud800")
    monkeypatch.setattr("os.fdopen", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with suppress(OSError):
        write_private(target, "new")
    assert "old \\ud800" == target.read_text()
    assert [target] == list(tmp_path.iterdir())


def test_a_file_that_is_there_is_kept_where_that_was_said(tmp_path: Path) -> None:
    """Also where a link points to; what is new is its owner's alone."""
    write_private(tmp_path / "new", "x", replace=False)
    assert 0o600 == stat.S_IMODE((tmp_path / "new").stat().st_mode)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "new", "y", replace=False)
    assert "x" == (tmp_path / "new").read_text()
    for link, target in (("link", "new"), ("dangling", "nowhere")):
        (tmp_path / link).symlink_to(tmp_path / target)
        with pytest.raises(FileExistsError):
            write_private(tmp_path / link, "y", replace=False)
    assert {"new": "x"} == {
        path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_no_link_to_a_plain_file_is_followed(tmp_path: Path, replace: bool, there: bool) -> None:
    """Neither it nor what it leads to changes, whether that is there or not, and whatever may be replaced."""
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    if there:
        file.write_text("old")
    with pytest.raises(OSError, match="symbolic link" if replace else "exists"):
        write_private(link, "new", replace=replace)
    assert (True, there) == (link.is_symlink(), file.exists())
    assert not there or "old" == file.read_text()


@pytest.mark.parametrize("name", ["fifo", "link"])
@pytest.mark.parametrize("replace", [True, False])
def test_what_is_no_plain_file_is_written_into(tmp_path: Path, name: str, replace: bool) -> None:
    """A FIFO stays one, also behind a link: ``/dev/stdout`` and ``/dev/null`` are such files."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_private(tmp_path / name, "text", replace=replace)
        assert b"text" == os.read(reader, 100)
    finally:
        os.close(reader)
    assert (True, True) == ((tmp_path / "fifo").is_fifo(), (tmp_path / "link").is_symlink())
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path, "text")


# -- replays ------------------------------------------------------------------


def test_a_replay_becomes_turns() -> None:
    """What the user said begins a turn, in one piece; what comes before any of it is no part of one."""
    events: Sequence[trio_acp.Event] = [
        trio_acp.Commands(commands=()),
        trio_acp.UserText("a"),
        trio_acp.UserText("b"),
        trio_acp.TextDelta("c"),
        trio_acp.UserText("d"),
        trio_acp.UserText("e"),
    ]
    told = _look.as_entries("k", events)
    assert [("1", 0, "ab"), ("1", 1, "c"), ("2", 0, "de")] == [(e.turn, e.seq, e.body["text"]) for e in told]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("listening", [False, True])
async def test_a_runtime_tells_what_is_replayed_to_who_asked(
    late: bool, listening: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A load is preferred then, and heard also behind its answer; without `on_replay` the session is resumed."""
    agent = ScriptedAgent(replay_after_load=late)
    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial_agent(agent))}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        await session.prompt("say one; tool T")
    heard: list[trio_acp.Event] = []
    async with trio_acp.AcpRuntime(dial_agent(agent)) as runtime:
        if listening:
            runtime.on_replay = heard.append
        handle = await runtime.ensure_session(
            EnsureRequest(key="k", mode="persistent", cwd="/repo", resume="session-1")
        )
        await trio.sleep(1)
        await runtime.close(handle, "done")
    methods = [entry.method for entry in agent.log if entry.method in {"session/load", "session/resume"}]
    assert (["session/load"] if listening else ["session/resume"]) == methods
    assert ([trio_acp.UserText, trio_acp.TextDelta] if listening else []) == [type(event) for event in heard][:2]
