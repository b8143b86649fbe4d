"""How a chat's texts, tool calls, plans and diffs look in rows: with colours at most, and without any library."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

import attrs

from .._events import ToolDiff
from ._cells import TAB, clip, next_row, width, wrap
from ._text import one_line, safe_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._events import Location, Plan, ToolCall

_SGR: Final = {"dim": "2", "bold": "1", "bad": "31", "good": "32", "ask": "1;33", "you": "1;36", "hunk": "36"}
_SIGNS: Final = {
    # The sign, and what stands for it where the encoding does not have it.
    "pending": ("○", "o"),
    "in_progress": ("●", "*"),
    "completed": ("✓", "+"),
    "failed": ("✗", "x"),
    "you": ("»", ">"),
    "more": ("…", "..."),
}
_STATUS_STYLES: Final = {"completed": "good", "failed": "bad", "pending": "dim", "in_progress": "bold"}

_LONGEST_DIFF: Final = 2000
"""Lines of a file that are compared: comparing takes time that grows with their square."""
_SHOWN_DIFF: Final = 60
_LONGEST_NOTE: Final = 4000
_WIDEST_NAME: Final = 20
_NARROWEST_MEANING: Final = 36


class Flow:
    """A text that comes in pieces, cut into rows: those that are final, and those that may still change."""

    def __init__(self, renderer: PlainRenderer, style: str = "") -> None:
        self._renderer = renderer
        self._style = style
        self._held = ""
        self._line = ""

    def feed(self, text: str, columns: int) -> list[str]:
        """Take the next piece; return the rows that are final now."""
        lines = (self._line + self._clean(text)).split("\n")
        self._line = lines.pop()
        rows = [row for line in lines for row in self._rows(line, columns)]
        begin = 0
        row, end = next_row(self._line, begin, columns)
        while end < len(self._line):
            rows.append(self._styled(row))
            begin = end
            row, end = next_row(self._line, begin, columns)
        self._line = self._line[begin:]
        return rows

    def tail(self, columns: int) -> list[str]:
        """Return the rows that may still change."""
        return self._rows(self._line, columns) if self._line else []

    def finish(self, columns: int) -> list[str]:
        """Return the last rows: the text is complete."""
        rows = self.feed("", columns) + self.tail(columns)
        self._line = ""
        return rows

    def _clean(self, text: str) -> str:
        """Make a piece safe; half of a line end waits for the other half."""
        text, self._held = self._held + text, ""
        if text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        # Always as many spaces: where a piece or a row begins must not matter.
        return self._renderer.safe(text).replace("\t", " " * TAB)

    def _rows(self, line: str, columns: int) -> list[str]:
        return [self._styled(row) for row in wrap(line, columns)]

    def _styled(self, row: str) -> str:
        return self._renderer.style(self._style, row) if self._style else row


@attrs.frozen
class PlainRenderer:
    """Makes rows: safe, encodable, and no wider than they may be.

    Attributes:
        colours: Whether the terminal is to be told of colours and the like at all.
        encoding: What it understands; other characters are shown as escapes.
    """

    colours: bool = True
    encoding: str = "utf-8"

    def style(self, name: str, row: str) -> str:
        """Make a row stand out, or recede."""
        return f"\x1b[{_SGR[name]}m{row}\x1b[0m" if self.colours and row else row

    def sign(self, name: str) -> str:
        """Return a sign that the terminal can show."""
        sign, instead = _SIGNS.get(name, _SIGNS["pending"])
        return sign if sign == self._encodable(sign) else instead

    def safe(self, text: str) -> str:
        """Make a text of any origin harmless, in characters that the terminal has; newlines and tabs stay."""
        return self._encodable(safe_text(text, multiline=True))

    def line(self, text: str, columns: int, indent: str = "") -> str:
        """Make a text of any origin a single row."""
        return indent + clip(self._encodable(one_line(text, 1000)), max(columns - len(indent), 0), self.sign("more"))

    def message(self) -> Flow:
        """Return a flow for the agent's text."""
        return Flow(self)

    def thought(self) -> Flow:
        """Return a flow for its thoughts."""
        return Flow(self, "dim")

    def note(self, text: str, columns: int, style: str = "dim") -> list[str]:
        """Return rows for a remark."""
        kept = wrap(self.safe(text[:_LONGEST_NOTE]), columns)
        if len(text) > _LONGEST_NOTE:
            kept += wrap(f"({len(text) - _LONGEST_NOTE} characters more are not shown)", columns)
        return [self.style(style, row) for row in kept]

    def explained(self, words: Mapping[str, str], columns: int) -> list[str]:
        """Return rows for names and what they mean: beside each other, or below where there is no room for that."""
        room = min(max((width(name) for name in words), default=0), _WIDEST_NAME) + 2
        beside = columns - room >= _NARROWEST_MEANING
        indent = room if beside else min(2, columns - 1)
        rows = []
        for name, meaning in words.items():
            lead = self.line(name, columns)
            told = wrap(self._encodable(one_line(meaning, 1000)), columns - indent)
            fits = width(lead) < room if beside else len(told) == 1 and width(lead) + 2 + width(told[0]) <= columns
            if fits:
                lead += " " * (room - width(lead) if beside else 2) + self.style("dim", told.pop(0))
            rows += [lead, *(" " * indent + self.style("dim", row) for row in told)]
        return rows

    def prompt(self, text: str, columns: int) -> list[str]:
        """Return rows for what the user said."""
        lead = f"{self.sign('you')} "
        rows = wrap(self.safe(text), max(columns - width(lead), 1))
        return [self.style("you", (" " * width(lead) if index else lead) + row) for index, row in enumerate(rows)]

    def tool(self, call: ToolCall, columns: int) -> str:
        """Return a row for a tool call as it is now."""
        kind = "" if call.kind == "other" else f"{call.kind}: "
        status = "" if call.status == "completed" else self.line(f"({call.status.replace('_', ' ')})", columns, " ")
        row = self.line(f"{self.sign(call.status)} {kind}{call.title}", columns - width(status))
        return self.style(_STATUS_STYLES.get(call.status, "dim"), row + status)

    def locations(self, locations: tuple[Location, ...], columns: int) -> list[str]:
        """Return rows for the files that a tool call touches."""
        told = [place.path if place.line is None else f"{place.path}:{place.line}" for place in locations]
        return [self.line(path, columns, "  ") for path in told]

    def plan(self, plan: Plan, columns: int) -> list[str]:
        """Return rows for a plan: a checklist."""
        marks = {"completed": "[x]", "in_progress": "[>]"}
        rows = []
        for entry in plan.entries:
            row = self.line(f"{marks.get(entry.status, '[ ]')} {entry.content}", columns)
            rows.append(
                self.style({"completed": "dim", "in_progress": "bold"}.get(entry.status, ""), row)
                if entry.status in marks
                else row
            )
        return rows

    def diffs(self, call: ToolCall, columns: int) -> list[str]:
        """Return rows for the changes of files that a tool call shows."""
        return [row for part in call.content if isinstance(part, ToolDiff) for row in self._diff(part, columns)]

    def _diff(self, diff: ToolDiff, columns: int) -> list[str]:
        old, new = (diff.old_text or "").splitlines(), diff.new_text.splitlines()
        new_file = " (new file)" if diff.old_text is None else ""
        rows = [self.style("bold", self.line(f"{diff.path}{new_file}", columns, "  "))]
        if max(len(old), len(new)) > _LONGEST_DIFF:
            return [*rows, self.line(f"{len(old)} lines become {len(new)}: too many to compare here", columns, "  ")]
        lines = list(difflib.unified_diff(old, new, lineterm="", n=2))[2:]
        for line in lines[:_SHOWN_DIFF]:
            # Only the line itself is the agent's: its first character is difflib's.
            text = clip("  " + self._row_of(line), columns, self.sign("more"))
            style = {"+": "good", "-": "bad", "@": "hunk"}.get(line[:1])
            rows.append(text if style is None else self.style(style, text))
        if len(lines) > _SHOWN_DIFF:
            rows.append(self.style("dim", self.line(f"and {len(lines) - _SHOWN_DIFF} lines more", columns, "  ")))
        return rows

    def _row_of(self, line: str) -> str:
        return self._encodable(safe_text(line.expandtabs(4)[:1000], multiline=False))

    def _encodable(self, text: str) -> str:
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
