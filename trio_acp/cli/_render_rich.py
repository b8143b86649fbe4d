"""The agent's text as Markdown, where ``rich`` is installed: a block at a time, when it is complete."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown

from ._cells import wrap
from ._render_plain import Flow, PlainRenderer
from ._text import safe_text

if TYPE_CHECKING:
    from rich.segment import Segment
    from rich.style import Style

_LONGEST_BLOCK: Final = 8000
"""Characters of a block; a longer one is shown as it is written, and does not wait for its end."""

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


class RichRenderer(PlainRenderer):
    """Makes rows as the plain one does, and of Markdown what it means."""

    def message(self) -> Flow:
        """Return a flow for the agent's text."""
        return _MarkdownFlow(self)

    def markdown(self, block: str, columns: int) -> list[str]:
        """Return rows for a block of safe text."""
        console = Console(
            file=io.StringIO(),
            width=columns,
            color_system="standard" if self.colours else None,
            force_terminal=True,
            no_color=not self.colours,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
            _environ={},
        )
        # Links are written out: what a terminal opens must be what is seen.
        rendered = _Markdown(block, code_theme="ansi_dark", hyperlinks=False)
        try:
            lines = console.render_lines(rendered, pad=False)
        except Exception:  # noqa: BLE001 - foreign code, fed by strangers: then it is shown as it is written
            return wrap(block, columns)
        rows = [self._row(line) for line in lines]
        while rows and not rows[0]:
            del rows[0]
        while rows and not rows[-1]:
            del rows[-1]
        return rows

    def _row(self, segments: list[Segment]) -> str:
        """Return a row without the spaces that fill it up."""
        while segments and not segments[-1].text.strip(" "):
            segments.pop()
        parts = [self._segment(text, style) for text, style, _ in segments[:-1]]
        parts += [self._segment(text.rstrip(" "), style) for text, style, _ in segments[-1:]]
        return "".join(parts)

    def _segment(self, text: str, style: Style | None) -> str:
        # Again: Markdown has character references, such as &#8238;.
        text = safe_text(text, multiline=False)
        return style.render(text, color_system=ColorSystem.STANDARD) if style and self.colours else text


class _Heading(Heading):
    """A heading at the left, where the text is too."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        self.text.stylize("underline" if self.tag == "h1" else "bold")
        yield self.text


class _Markdown(Markdown):
    elements = {**Markdown.elements, "heading_open": _Heading}


class _MarkdownFlow(Flow):
    """Holds a block until a blank line, or the end of its fence, ends it; meanwhile it is shown as it is written."""

    def __init__(self, renderer: RichRenderer) -> None:
        super().__init__(renderer)
        self._rich = renderer
        self._block: list[str] = []
        self._fence = ""
        self._began = False  # whether a block was shown, from which the next one keeps its distance
        self._raw = False  # whether the block is too long to wait for

    def feed(self, text: str, columns: int) -> list[str]:
        """Take the next piece; return the rows of the blocks that are complete now."""
        lines = (self._line + self._clean(text)).split("\n")
        self._line = lines.pop()
        rows = [row for line in lines for row in self._take(line, columns)]
        if self._raw or len(self._line) + sum(map(len, self._block)) > _LONGEST_BLOCK:
            rows += self._give_up(columns)
        return rows

    def tail(self, columns: int) -> list[str]:
        """Return the rows of the block that is not complete."""
        rows = [row for line in self._block for row in self._rows(line, columns)]
        return self._spaced(rows + super().tail(columns))

    def finish(self, columns: int) -> list[str]:
        """Return the last rows."""
        rows = self._take(self._line, columns)
        self._line = ""
        return rows + self._complete(columns)

    def _take(self, line: str, columns: int) -> list[str]:
        fence = None if self._raw and not self._fence else _FENCE.match(line)
        if self._fence:
            self._block.append(line)
            closes = fence is not None and fence[1].startswith(self._fence) and not line[fence.end() :].strip()
            return self._complete(columns) if closes else []
        if fence is not None:
            rows = self._complete(columns)
            self._fence = fence[1]
            self._block.append(line)
            return rows
        if line.strip():
            self._block.append(line)
            return []
        return self._complete(columns)

    def _complete(self, columns: int) -> list[str]:
        block, self._block, self._fence = self._block, [], ""
        if not block:
            self._raw = False
            return []
        if self._raw:
            self._raw = False
            return [row for line in block for row in self._rows(line, columns)]
        rows = self._spaced(self._rich.markdown("\n".join(block), columns))
        self._began = True
        return rows

    def _give_up(self, columns: int) -> list[str]:
        rows = [row for line in self._block for row in self._rows(line, columns)]
        rows = rows if self._raw else self._spaced(rows)
        self._block, self._raw, self._began = [], True, True
        return rows + super().feed("", columns)

    def _spaced(self, rows: list[str]) -> list[str]:
        return ["", *rows] if rows and self._began and not self._raw else rows
