"""What an agent says is shown to a terminal, never obeyed by it."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_acp.cli._text import one_line, safe_text

# Written down a second time, by code point, so that a slip in the pattern is noticed.
FORBIDDEN = {
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0x2028,
    0x2029,
    *range(0xD800, 0xE000),
}
ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from(sorted(map(chr, FORBIDDEN)))))


@given(text=ANY_TEXT, multiline=st.booleans())
def test_nothing_forbidden_is_left(text: str, multiline: bool) -> None:
    """The result has no control, no bidi control, no surrogate; newline and tab only where lines are wanted."""
    allowed = {"\n", "\t"} if multiline else set()
    assert set() == {char for char in safe_text(text, multiline=multiline) if ord(char) in FORBIDDEN} - allowed


def test_every_character_of_unicode() -> None:
    """Exactly the forbidden characters are escaped, each of them."""
    expected = [f"\\u{code:04x}" if code in FORBIDDEN else chr(code) for code in range(sys.maxunicode + 1)]
    assert "".join(expected) == safe_text("".join(map(chr, range(sys.maxunicode + 1))), multiline=False)
    expected[9:11] = "\t\n"
    assert "".join(expected) == safe_text("".join(map(chr, range(sys.maxunicode + 1))), multiline=True)


@given(text=ANY_TEXT, multiline=st.booleans())
def test_a_second_time_changes_nothing(text: str, multiline: bool) -> None:
    """Making safe what is safe changes nothing."""
    once = safe_text(text, multiline=multiline)
    assert once == safe_text(once, multiline=multiline)


@given(text=ANY_TEXT, multiline=st.booleans())
def test_the_result_can_be_encoded(text: str, multiline: bool) -> None:
    """Every result is valid UTF-8."""
    safe_text(text, multiline=multiline).encode()


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_harmless_text_is_untouched(text: str) -> None:
    """Letters, marks, signs and blanks of any script stay as they are."""
    assert text == safe_text(text, multiline=False)


@given(text=ANY_TEXT)
def test_every_escape_names_its_character(text: str) -> None:
    """Nothing is lost: each forbidden character becomes its own escape."""
    expected = "".join(f"\\u{ord(char):04x}" if ord(char) in FORBIDDEN else char for char in text)
    assert expected == safe_text(text, multiline=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", r"\u001b]8;;http://evil\u001b\click\u001b]8;;\u001b" + "\\"),
        ("\x1b]52;c;cm0gLXJm\x07", r"\u001b]52;c;cm0gLXJm\u0007"),
        ("\x1b[2J\x9b2J", r"\u001b[2J\u009b2J"),
        ("safe\rEVIL", r"safe\u000dEVIL"),
        ("one\r\ntwo\n\tthree", "one\ntwo\n\tthree"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("a\u2028b\ud800", r"a\u2028b\ud800"),
    ],
)
def test_known_attacks(text: str, shown: str) -> None:
    """Hyperlinks, the clipboard, clearing the screen, overwriting and reordering are shown, not done."""
    assert shown == safe_text(text, multiline=True)


@given(text=ANY_TEXT, limit=st.integers(1, 50))
def test_one_line_is_one_short_line(text: str, limit: int) -> None:
    """`one_line` keeps its limit and has no control characters at all."""
    line = one_line(text, limit)
    assert limit >= len(line)
    assert [] == [char for char in line if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}]
