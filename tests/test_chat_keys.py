"""What is typed: bytes become keys, keys become a line, and a line becomes rows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_acp.cli._cells import width
from trio_acp.cli._keys import LONGEST_PASTE, Key, KeyDecoder
from trio_acp.cli._line_editor import LineEditor, lay_out

PIECES = [
    *("a", "é", "日", "👍", "e\u0301", "\r", "\n", "\t", "\x7f", "\x01", "\x1b[A", "\x1bOB", "\x1b[1;5C", "\x1b[3~"),
    *("\x1b\r", "\x1b[200~x\r\ny\x1b[201~", "\x1b[200~\x1b[31m\x1b[201~", "\x1b[99~", "\x1b[?1;2c", "\x1bq", "\x1b"),
    *("\x1b[", "\x00"),
]


def merged(keys: list[Key]) -> list[Key]:
    """Put text that came in several pieces together."""
    result: list[Key] = []
    for key in keys:
        if key.name == "text" and result and result[-1].name == "text":
            result[-1] = Key("text", result[-1].text + key.text)
        else:
            result.append(key)
    return result


@given(
    data=st.lists(st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=4), max_size=12).map(b"".join),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_it_does_not_matter_how_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    """The same keys come of the same bytes, however many reads it takes to get them."""
    whole, cut = KeyDecoder().feed(data), KeyDecoder()
    at = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [key for begin, end in itertools.pairwise(at) for key in cut.feed(data[begin:end])]
    assert merged(whole) == merged(pieces)


@given(data=st.lists(st.sampled_from(PIECES).map(str.encode) | st.binary(max_size=4), max_size=12).map(b"".join))
def test_no_control_character_gets_into_a_text(data: bytes) -> None:
    """Typed text has none; pasted text has newlines and tabs."""
    for key in KeyDecoder().feed(data):
        allowed = "\n\t" if key.name == "paste" else ""
        assert "" == "".join(c for c in key.text if (c < " " or "\x7f" <= c <= "\x9f") and c not in allowed)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOH\x1bOF\x1b[1~\x1b[4~", ["home", "end", "home", "end"]),
        (b"\x01\x05\x0b\x15\x17", ["ctrl-a", "ctrl-e", "ctrl-k", "ctrl-u", "ctrl-w"]),
        (b"\r\n\x7f\x08\x1b\r", ["enter", "enter", "backspace", "backspace", "newline"]),
        (b"\x1b[1;5C\x1bb", ["word-right", "word-left"]),
        (b"\x1b[<0;1;1M\x1b[?62c\x1bOZ", []),
        (b"\x1b[" + b"1;" * 50 + b"A", ["text"]),
    ],
)
def test_keys_have_names(data: bytes, names: list[str]) -> None:
    """What terminals send for a key is that key; what means nothing here is dropped."""
    assert names == [key.name for key in KeyDecoder().feed(data)]


def test_a_paste_is_one_text_and_enters_nothing() -> None:
    """Newlines in it stay newlines, and escape sequences are not obeyed."""
    assert [Key("paste", "a\nb\nc[31m\t")] == KeyDecoder().feed(b"\x1b[200~a\r\nb\rc\x1b[31m\t\x1b[201~")


def test_a_paste_without_end_is_bounded() -> None:
    """What is beyond the limit is dropped, and the end is found all the same."""
    decoder = KeyDecoder()
    assert [] == decoder.feed(b"\x1b[200~")
    for _ in range(3):
        assert [] == decoder.feed(b"x" * LONGEST_PASTE)
    assert [Key("paste", "x" * LONGEST_PASTE), Key("text", "y")] == decoder.feed(b"\x1b[201~y")


def test_bytes_of_another_encoding_are_replaced() -> None:
    """Nothing raises, and nothing waits for ever."""
    assert [Key("text", "a\ufffdb")] == KeyDecoder().feed(b"a\xffb")
    assert [Key("text", "\ufffd")] == KeyDecoder("ascii").feed(b"\xe4")


# -- the line -----------------------------------------------------------------


class Naive:
    """The same line as two lists of characters, before and behind the cursor."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.behind: list[str] = []  # the nearest one first
        self.entered: list[str] = []

    def key(self, key: Key) -> None:
        match key.name:
            case "text" | "paste":
                self.before += key.text
            case "newline":
                self.before.append("\n")
            case "left":
                self.back(1 if self.before else 0)
            case "right":
                self.forth(1 if self.behind else 0)
            case "backspace":
                del self.before[-1:]
            case "delete" | "ctrl-d":
                del self.behind[:1]
            case "home" | "ctrl-a":
                self.back(self.row_before())
            case "end" | "ctrl-e":
                self.forth(self.row_behind())
            case "ctrl-u":
                del self.before[len(self.before) - self.row_before() :]
            case "ctrl-k":
                del self.behind[: self.row_behind()]
            case "ctrl-w":
                while self.before and self.before[-1].isspace():
                    self.before.pop()
                while self.before and not self.before[-1].isspace():
                    self.before.pop()
            case "enter":
                if not self.behind and self.before[-1:] == ["\\"]:
                    self.before[-1] = "\n"
                else:
                    self.entered.append("".join(self.before + self.behind))
                    self.before, self.behind = [], []

    def back(self, n: int) -> None:
        for _ in range(n):
            self.behind.insert(0, self.before.pop())

    def forth(self, n: int) -> None:
        for _ in range(n):
            self.before.append(self.behind.pop(0))

    def row_before(self) -> int:
        return next((n for n, char in enumerate(reversed(self.before)) if char == "\n"), len(self.before))

    def row_behind(self) -> int:
        return next((n for n, char in enumerate(self.behind) if char == "\n"), len(self.behind))


EDITS = st.one_of(
    st.sampled_from(
        [*("newline", "left", "right", "backspace", "delete", "home", "end", "enter", "enter")]
        + [f"ctrl-{letter}" for letter in "aeukwd"]
    ).map(Key),
    st.text(st.sampled_from("ab 日\\"), min_size=1, max_size=3).map(lambda text: Key("text", text)),
    st.text(st.sampled_from("ab \n\t"), min_size=1, max_size=5).map(lambda text: Key("paste", text)),
)


@given(keys=st.lists(EDITS, max_size=40))
def test_the_line_is_what_two_lists_make_of_it(keys: list[Key]) -> None:
    """After every key the text, the cursor, and what was entered are those of the naive line."""
    editor, naive, entered = LineEditor(), Naive(), []
    for key in keys:
        line = editor.key(key)
        entered += [] if line is None else [line]
        naive.key(key)
        assert ("".join(naive.before + naive.behind), len(naive.before)) == (editor.text, editor.cursor)
    assert naive.entered == entered


def typed(editor: LineEditor, *keys: str) -> str:
    """Press keys: names, or text in quotes; return the line with a bar for the cursor."""
    for key in keys:
        editor.key(Key("text", key[1:]) if key.startswith("'") else Key(key))
    return editor.text[: editor.cursor] + "|" + editor.text[editor.cursor :]


def test_history_gives_back_what_was_being_typed() -> None:
    """Up goes through what was entered, each line once in a row; down comes back to the draft."""
    editor = LineEditor()
    typed(editor, "'one", "enter", "'two", "enter", "'two", "enter", "' ", "enter")
    assert "two|" == typed(editor, "'dra", "up")
    assert "one|" == typed(editor, "up")
    assert "one|" == typed(editor, "up")
    assert "two|" == typed(editor, "down")
    assert "dra|" == typed(editor, "down")
    assert "dra|" == typed(editor, "down")
    assert "one|" == typed(editor, "up", "up")
    assert "|" == typed(editor, "enter")


def test_up_and_down_move_between_the_rows_first() -> None:
    """The history begins above the first row, and ends below the last."""
    editor = LineEditor()
    typed(editor, "'old", "enter")
    assert "abc\nde|\nfghi" == typed(editor, "'abc", "newline", "'de", "newline", "'fghi", "up")
    assert "ab|c\nde\nfghi" == typed(editor, "up")
    assert "abc\nde|\nfghi" == typed(editor, "down")
    assert "old|" == typed(editor, "up", "up")


def test_a_combining_mark_belongs_to_the_letter_before_it() -> None:
    """The cursor does not go between them, and they are deleted together."""
    editor = LineEditor()
    assert "a|e\u0301" == typed(editor, "'ae\u0301", "left")
    assert "ae\u0301|" == typed(editor, "right")
    assert "a|" == typed(editor, "backspace")


def test_words_are_skipped() -> None:
    """By words to the left and to the right."""
    editor = LineEditor()
    assert "one |two" == typed(editor, "'one two", "word-left")
    assert "|one two" == typed(editor, "word-left", "word-left")
    assert "one two|" == typed(editor, "word-right", "word-right")


TEXTS = st.text(st.sampled_from("ab 日é\n\te\u0301\u202e\x9b"), max_size=40)


@given(text=TEXTS, columns=st.integers(4, 12), data=st.data())
def test_the_rows_of_a_line_fit_and_have_the_cursor(text: str, columns: int, data: st.DataObject) -> None:
    """No row is too wide for what can be broken, all that is visible is there, the cursor is within the rows."""
    cursor = data.draw(st.integers(0, len(text)))
    rows, row, column = lay_out(text, cursor, columns, "> ")
    assert 0 <= row < len(rows)
    assert 0 <= column <= max(map(width, rows))
    assert all(width(shown) <= columns or "\\u" in shown or "    " in shown for shown in rows)
    visible = "".join(shown[2:] for shown in rows)
    expected = text.replace("\n", "").replace("\t", "    ").replace("\u202e", "\\u202e").replace("\x9b", "\\u009b")
    assert expected == visible
    before = "".join(shown[2:] for shown in rows[:row])
    begun = lay_out(text[:cursor], cursor, columns, "> ")[0]
    assert "".join(shown[2:] for shown in begun).startswith(before)
