"""Draws the README's picture from a real chat: ``python -m tests.readme_picture [FILE.svg]``.

A shell on a pseudo-terminal runs ``trio-acp chat`` with the scripted agent,
somebody types, answers a question, and stops what takes too long.  What the
emulator shows then is drawn: text and colours, no fonts from elsewhere, legible
on a light and on a dark page.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

import trio

from tests.pty_kit import terminal_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyte.screens import Char

    from tests.pty_kit import TerminalWindow

ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = ROOT / "docs" / "pictures" / "chat.svg"
COLUMNS: Final = 80


def _update(update: str, /, **members: object) -> str:
    return "update " + json.dumps({"sessionUpdate": update, **members})


def _said(text: str) -> str:
    return _update("agent_message_chunk", content={"type": "text", "text": text})


def _plan(*statuses: str) -> str:
    steps = ("read the test", "convert the number", "run the test")
    entries = [
        {"content": s, "priority": "medium", "status": status} for s, status in zip(steps, statuses, strict=True)
    ]
    return _update("plan", entries=entries)


_EDIT: Final = {
    "type": "diff",
    "path": "total.py",
    "oldText": "    return a + b\n",
    "newText": "    return a + int(b)\n",
}
FIRST: Final = "why does test_total fail?"
SECOND: Final = "now run everything a hundred times"
OTHER: Final = "add a test for negative numbers"
SCRIPTS: Final = {
    FIRST: "\n".join(
        (
            _plan("in_progress", "pending", "pending"),
            _update("tool_call", toolCallId="r", title="test_total.py", kind="read", status="completed"),
            _said("It adds a number to a text: `b` is never converted.\n\n"),
            _plan("completed", "in_progress", "pending"),
            "permission! total.py kind=edit",
            _update("tool_call", toolCallId="e", title="total.py", kind="edit", status="completed", content=[_EDIT]),
            _update("tool_call", toolCallId="t", title="pytest test_total.py", kind="execute", status="completed"),
            _plan("completed", "completed", "completed"),
            _said("\n\nIt passes now."),
        )
    ),
    SECOND: "\n".join((_said("Run 1 of 100: 212 passed."), "hang")),
    OTHER: "\n".join(
        (
            "think Negative numbers are texts with a sign here, so they are converted like the others.",
            _update("tool_call", toolCallId="r", title="test_total.py", kind="edit", status="completed"),
            _said("Two cases are **new**:\n\n- both numbers negative\n- one of them\n\nLet me run them."),
            "permission! pytest test_total.py -k negative kind=execute",
        )
    ),
}


def _install(program: Path, *arguments: str) -> None:
    """Make a command of a module."""
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n', "utf-8")
    program.chmod(0o755)


async def converse(directory: Path, *, columns: int = COLUMNS, asked: bool = False) -> list[list[Char]]:
    """Have the conversation, with its files in `directory`; return the cells of what is seen at its end.

    Or else, if `asked`, have another one, up to a question that waits while somebody types.
    """
    home = directory / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[agents.demo]\nstdio = ["demo-agent"]\n', "utf-8")
    (home / "scripts.json").write_text(json.dumps(SCRIPTS), "utf-8")
    _install(directory / "trio-acp", "-m", "trio_acp")
    _install(directory / "demo-agent", "-m", "tests.programs.actor", str(home / "scripts.json"))
    env = {"TRIO_ACP_HOME": str(home), "PATH": f"{directory}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PS1": "$ "}
    async with terminal_window(["sh", "-i"], columns=columns, lines=40, env=env, cwd=directory) as window:
        await window.sees("$")
        window.press("trio-acp chat --agent demo --session work\r")
        await window.sees("ready")
        window.press(f"{FIRST}\r")
        await window.sees("y = yes")
        window.press("y")
        await window.sees(lambda text: "It passes now." in text and "ready" in text)
        if asked:
            window.press(f"{OTHER}\r")
            await window.sees("y = yes")
            window.press("and then comm")
            await window.sees(lambda text: "a question waits" in text and "and then comm" in text)
            return cells(window)
        window.press(f"{SECOND}\r")
        await window.sees("212 passed")
        window.press("\x03")
        await window.sees(lambda text: "stopped" in text and "ready" in text)
        window.press("\x04")
        await window.sees(lambda text: "to go on" in text and text.endswith("\n$"))
        return cells(window)


def cells(window: TerminalWindow) -> list[list[Char]]:
    """Return all rows down to the last that is not empty."""
    rows = [*window.screen.history.top, *(window.screen.buffer[y] for y in range(window.screen.lines))]
    return [[row[x] for x in range(window.screen.columns)] for row in rows][: len(window.rows)]


# -- drawing ------------------------------------------------------------------

_WIDE, _HIGH, _MARGIN, _BAR = 8.4, 19, 16, 34
"""Pixels: a cell's width and height, what is left empty around all, and the bar at the top."""
_STYLE: Final = """
rect{fill:#fff;stroke:#d0d7de}text{fill:#1f2328;white-space:pre;
font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace}
circle,.dim{fill:#6e7781}.red{fill:#cf222e}.green{fill:#116329}.brown{fill:#7d4e00}.blue{fill:#0550ae}
.magenta{fill:#8250df}.cyan{fill:#1b6a72}.bold{font-weight:700}.italics{font-style:italic}
@media(prefers-color-scheme:dark){rect{fill:#0d1117;stroke:#30363d}text{fill:#e6edf3}circle,.dim{fill:#9198a1}
.red{fill:#ff7b72}.green{fill:#56d364}.brown{fill:#e3b341}.blue{fill:#79c0ff}.magenta{fill:#d2a8ff}.cyan{fill:#76e3ea}}
"""


def draw(rows: Sequence[Sequence[Char]]) -> str:
    """Return an SVG of rows of cells, as wide as the longest one."""
    lines = ["".join(cell.data for cell in row).rstrip() for row in rows]
    width = round(max(map(len, lines)) * _WIDE) + 2 * _MARGIN
    height = _BAR + len(lines) * _HIGH + _MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} xml:space="preserve" role="img" aria-labelledby="t d">',
        '<title id="t">trio-acp chat in a terminal</title>',
        '<desc id="d">An agent is asked, shows its plan and a tool call, gets a permission, and is stopped.</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        *(f'<circle cx="{_MARGIN + 5 + 16 * number}" cy="18" r="5"/>' for number in range(3)),
    ]
    for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
        if line:
            runs = groupby(row[: len(line)], key=_classes)
            spans = "".join(_span(classes, "".join(cell.data for cell in run)) for classes, run in runs)
            # Whichever font is there, the row is as long as its cells.
            length = f'textLength="{len(line) * _WIDE:g}"'
            parts.append(f'<text x="{_MARGIN}" y="{_BAR + (number + 1) * _HIGH - 5}" {length}>{spans}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _classes(cell: Char) -> str:
    color = {"default": "", "brightblack": "dim"}.get(cell.fg, cell.fg.removeprefix("bright"))
    return " ".join(filter(None, [color, "bold" * cell.bold, "italics" * cell.italics]))


def _span(classes: str, text: str) -> str:
    return f'<tspan class="{classes}">{escape(text)}</tspan>' if classes and text.strip() else escape(text)


def main(argv: list[str]) -> int:
    """Draw the picture into a file."""
    picture = Path(argv[0]) if argv else PICTURE
    with tempfile.TemporaryDirectory() as directory:
        rows = trio.run(converse, Path(directory))
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw(rows), "utf-8")
    print(f"Drew {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
