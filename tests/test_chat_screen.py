"""What a chat draws, seen through a terminal emulator; and how text becomes rows."""

from __future__ import annotations

import itertools
import re
import sys
import time

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_safe_text import ANY_TEXT, FORBIDDEN
from trio_acp import Plan, PlanEntry, ToolCall, ToolDiff
from trio_acp.cli._cells import clip, width, wrap
from trio_acp.cli._render_plain import PlainRenderer
from trio_acp.cli._render_rich import RichRenderer
from trio_acp.cli._screen import Live, Painter
from trio_acp.cli.chat import renderer_for

ROWS = st.lists(st.text(st.sampled_from("abc 日"), max_size=9).map(lambda text: clip(text, 9, "")), max_size=4)
RENDERERS = [PlainRenderer(), RichRenderer(), PlainRenderer(colours=False), RichRenderer(colours=False)]
MARKDOWN = st.text(st.sampled_from("ab *_`#>-1.|&;[]()\n\n日<!\\~:"), max_size=120)


def without_sgr(text: str) -> str:
    """Leave away what only colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@given(data=st.data())
def test_the_terminal_shows_what_stays_and_below_it_what_is_live(data: st.DataObject) -> None:
    """After each picture the emulator has all rows that stay, in order, then the live ones, and the cursor in them."""
    columns, lines = 10, 6
    screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=0.5)
    stream, painter = pyte.Stream(screen), Painter()
    stayed: list[str] = []
    for _ in range(data.draw(st.integers(1, 8))):
        staying = data.draw(ROWS)
        live = tuple(data.draw(ROWS.filter(bool)))
        row = data.draw(st.integers(0, len(live) - 1))
        stream.feed(painter.frame(staying, Live(live, row, data.draw(st.integers(0, columns - 1)))))
        stayed += staying
        above = ["".join(shown[x].data for x in range(columns)) for shown in screen.history.top]
        seen = [shown.rstrip() for shown in [*above, *screen.display]]
        expected = [shown.rstrip() for shown in [*stayed, *live]]
        assert expected == seen[: len(expected)]
        assert not any(seen[len(expected) :])
        assert len(stayed) + row == len(screen.history.top) + screen.cursor.y


@given(text=st.text(st.sampled_from("ab 日e\u0301\n\t"), max_size=80), columns=st.integers(2, 12))
def test_rows_fit_and_have_everything(text: str, columns: int) -> None:
    """No row is too wide; only spaces get lost, at breaks."""
    rows = wrap(text, columns)
    assert all(width(row) <= columns for row in rows)
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", "".join(rows))


@given(text=st.text(st.sampled_from("ab 日"), max_size=20), columns=st.integers(0, 12))
def test_clipped_text_fits(text: str, columns: int) -> None:
    """It is as it was if it fits, and else says that there was more if there is room for that."""
    clipped = clip(text, columns, "~")
    if width(text) <= columns:
        assert text == clipped
    else:
        assert width(clipped) <= columns
        assert columns < 2 or clipped[-1] == "~"


@given(text=st.text(st.sampled_from("ab \n\r\t日`#*"), max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
@pytest.mark.parametrize("renderer", RENDERERS[:2], ids=["plain", "rich"])
def test_it_does_not_matter_in_which_pieces_a_text_comes(renderer: PlainRenderer, text: str, cuts: list[int]) -> None:
    """The rows in the end are those of the text in one piece."""
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    whole, cut = renderer.message(), renderer.message()
    expected = [*whole.feed(text, 11), *whole.finish(11)]
    pieces = [row for begin, end in itertools.pairwise(at) for row in cut.feed(text[begin:end], 11)]
    assert expected == [*pieces, *cut.finish(11)]


@given(text=ANY_TEXT | MARKDOWN, columns=st.integers(10, 30))
@pytest.mark.parametrize("renderer", RENDERERS, ids=["plain", "rich", "plain-mono", "rich-mono"])
def test_nothing_of_the_agent_is_obeyed(renderer: PlainRenderer, text: str, columns: int) -> None:
    """Whatever it says, wherever it says it: rows have no control characters but our own colours, if there are any."""
    call = ToolCall(id="1", title=text, kind=text, status=text, content=(ToolDiff(path=text, new_text=text),))
    flow, thought = renderer.message(), renderer.thought()
    rows = [*flow.feed(text, columns), *flow.tail(columns), *flow.finish(columns)]
    rows += [*thought.feed(text, columns), *thought.tail(columns), *thought.finish(columns)]
    rows += [renderer.tool(call, columns), *renderer.diffs(call, columns), *renderer.note(text, columns)]
    rows += renderer.plan(Plan(entries=(PlanEntry(content=text, priority="high", status=text),)), columns)
    for row in rows:
        assert set() == {ord(char) for char in (without_sgr(row) if renderer.colours else row)} & FORBIDDEN


@pytest.mark.parametrize("reference", ["&#8238;", "&#27;[2J", "&lrm;", "&#x9b;", "&#10;"])
def test_character_references_of_markdown_are_made_safe(reference: str) -> None:
    """Markdown turns them into characters after the text was made safe, so the result is made safe again."""
    for row in RichRenderer().markdown(f"a {reference} b `{reference}`", 40):
        assert set() == {ord(char) for char in without_sgr(row)} & FORBIDDEN


@given(text=MARKDOWN, columns=st.integers(10, 30))
def test_markdown_fits(text: str, columns: int) -> None:
    """No row of it is wider than it may be."""
    assert all(width(without_sgr(row)) <= columns for row in RichRenderer().markdown(text, columns))


def test_markdown_is_shown_as_what_it_means() -> None:
    """Emphasis without asterisks, headings at the left, code as it is, a list with bullets, links written out."""
    flow = RichRenderer(colours=False).message()
    text = (
        "# Top\n\nSome **bold** text.\n\n- one\n- two\n\n```python\nx = 1\n\ny = 2\n```\n\n[here](http://a.example)\n"
    )
    rows = [row.strip() for row in [*flow.feed(text, 60), *flow.finish(60)]]
    assert [
        "Top",
        "",
        "Some bold text.",
        "",
        "• one",
        "• two",
        "",
        "x = 1",
        "",
        "y = 2",
        "",
        "here (http://a.example)",
    ] == rows


def test_a_block_is_seen_before_it_is_complete() -> None:
    """As it is written, until its end shows what it means."""
    flow = RichRenderer(colours=False).message()
    assert [] == flow.feed("Some **bo", 60)
    assert ["Some **bo"] == flow.tail(60)
    assert ["Some bold text"] == flow.feed("ld** text\n\n", 60)
    assert [] == flow.tail(60)


@pytest.mark.parametrize("renderer", RENDERERS[:2], ids=["plain", "rich"])
@pytest.mark.parametrize("piece", ["x", "日", "a b ", "*", "[", "`", "| ", "> ", "&#27;", "- ", "e\u0301"])
def test_a_long_line_takes_time_in_proportion(renderer: PlainRenderer, piece: str) -> None:
    """A megabyte without a newline keeps nobody waiting for long."""
    flow, began = renderer.message(), time.perf_counter()
    text = piece * (2**20 // len(piece))
    rows = [*flow.feed(text, 79), *flow.finish(79)]
    assert text.replace(" ", "") == "".join(rows).replace(" ", "")
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("piece", ["*a ", "[", "[a](", "`", "|a", "> ", "&#27;", "- a\n", "|a|b\n|-|-\n", "**a", "<a "])
def test_a_block_of_any_kind_is_rendered_in_time(piece: str) -> None:
    """Also what Markdown parsers are slow with: a block has a limit for that."""
    began = time.perf_counter()
    RichRenderer().markdown(piece * (8000 // len(piece)), 79)
    assert time.perf_counter() - began < 10


def test_a_diff_has_signs_and_colours() -> None:
    """Lines that came and went, with the file's name, and no more lines than can be read."""
    diff = ToolDiff(path="/x/a.py", old_text="one\ntwo\nthree\n", new_text="one\n2\nthree\n")
    call = ToolCall(id="1", title="Edit", content=(diff,))
    assert ["  /x/a.py", "  @@ -1,3 +1,3 @@", "   one", "  -two", "  +2", "   three"] == [
        without_sgr(row) for row in PlainRenderer().diffs(call, 40)
    ]
    assert "\x1b[31m  -two\x1b[0m" in PlainRenderer().diffs(call, 40)
    new = ToolCall(id="1", title="New", content=(ToolDiff(path="b", new_text="x\n" * 500),))
    rows = PlainRenderer(colours=False).diffs(new, 40)
    assert ("  b (new file)", "  and 441 lines more") == (rows[0], rows[-1])
    huge = ToolCall(id="1", title="New", content=(ToolDiff(path="b", old_text="", new_text="x\n" * 5000),))
    assert "  0 lines become 5000: too many to" == PlainRenderer(colours=False).diffs(huge, 200)[1][:34]


def test_signs_have_a_stand_in() -> None:
    """Where the encoding lacks them, and other characters are escapes."""
    ascii_only = PlainRenderer(colours=False, encoding="ascii")
    assert "+ Les\\xe9n" == ascii_only.tool(ToolCall(id="1", title="Lesén", status="completed"), 40)
    assert "✓ Lesén" == PlainRenderer(colours=False).tool(ToolCall(id="1", title="Lesén", status="completed"), 40)


def test_without_rich_the_text_is_shown_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so it is where the encoding lacks what rich draws with; NO_COLOR takes the colours away."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert RichRenderer is type(renderer_for("utf-8"))
    assert PlainRenderer is type(renderer_for("ascii"))
    monkeypatch.setitem(sys.modules, "trio_acp.cli._render_rich", None)
    assert PlainRenderer is type(renderer_for("utf-8"))
    assert renderer_for("utf-8").colours
    monkeypatch.setenv("NO_COLOR", "")
    assert not renderer_for("utf-8").colours
    assert ["some **bold** text"] == renderer_for("utf-8").message().feed("some **bold** text\n", 40)


def test_a_plan_is_a_checklist() -> None:
    """A mark for each status."""
    steps = [("a", "completed"), ("b", "in_progress"), ("c", "pending")]
    plan = Plan(entries=tuple(PlanEntry(content=text, priority="low", status=status) for text, status in steps))
    assert ["[x] a", "[>] b", "[ ] c"] == PlainRenderer(colours=False).plan(plan, 40)
