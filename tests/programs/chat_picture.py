"""Draw a picture of a chat as it is seen: ``python -m tests.programs.chat_picture FILE.svg COLUMNS``.

A real chat with the scripted agent runs on a pseudo-terminal; the emulator's
cells are then drawn by rich.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import trio
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.cli_kit import CLI, STDIO
from tests.pty_kit import TerminalWindow, terminal_window

ANSWER = (
    "## What I found\n\nThe test fails because `two` is **not** a number:\n\n"
    "- it is read as text\n- nothing converts it\n\n"
    "```python\ntotal = one + int(two)\n```\n"
)
EDIT = (
    '{"sessionUpdate":"tool_call","toolCallId":"d","title":"sum.py","kind":"edit","status":"completed",'
    '"content":[{"type":"diff","path":"/repo/sum.py","oldText":"def add(one, two):\\n    return one + two\\n",'
    '"newText":"def add(one, two):\\n    return one + int(two)\\n"}]}'
)


def chunk(text: str) -> str:
    """Return a step that says any text."""
    escaped = text.replace('"', '\\"').replace("\n", "\\n")
    return f'update {{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{escaped}"}}}}'


def draw(window: TerminalWindow, title: str) -> str:
    """Return what the window shows as SVG."""
    screen = window.screen
    console = Console(record=True, width=screen.columns, file=io.StringIO(), force_terminal=True, highlight=False)
    for y in range(screen.lines):
        row = Text(no_wrap=True)
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            cursor = (x, y) == (screen.cursor.x, screen.cursor.y)
            colour = cell.fg.replace("brown", "yellow").replace("bright", "bright_")  # as rich calls them
            row.append(cell.data, Style(color=colour, bold=cell.bold, underline=cell.underscore, reverse=cursor))
        console.print(row)
    return console.export_svg(title=title)


async def main(path: Path, columns: int) -> None:
    """Chat a little, up to a question and with something half typed, and draw it."""
    plan = "plan Find the cause|Correct it|Run the tests"
    script = f"think Let me look at the failing test.; tool tests/test_sum.py kind=read; {plan}; usage 31200 200000"
    script += f"\nupdate {EDIT}\n{chunk(ANSWER)}\npermission pytest -q tests kind=execute"
    with tempfile.TemporaryDirectory() as home:
        argv = [*CLI, "chat", "--stdio", STDIO, "--session", "sums"]
        async with terminal_window(argv, columns=columns, lines=40, env={"TRIO_ACP_HOME": home}) as window:
            await window.sees("ready")
            window.press("Why does test_sum fail? Correct it.\r")
            await window.sees("You said")
            window.press(f"\x1b[200~{script}\x1b[201~\r")
            await window.sees("? pytest")
            window.press("then tell me wh")
            await window.sees("tell me wh")
            await trio.Path(path).write_text(draw(window, f"trio-acp chat, {columns} columns"))
            sys.stdout.write(window.text + "\n")


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
