"""``trio-acp timeline``: why each turn of a trace ended when it did, in words and as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import InvalidOption
from ._exits import OK
from ._options import Commands, add_command
from ._text import one_line, safe_text
from ._timeline_html import page
from ._timeline_layout import lay_out
from ._timeline_perfetto import perfetto
from ._timeline_text import summary
from ._trace_read import read_trace
from ._turns import tell

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Show the turns of a trace: what each spent its time on, and why it ended.

FILE is what `trio-acp prompt --trace FILE` or `trio_acp.TraceFile` has written.
"""
_EXAMPLES = """\
examples:
  trio-acp prompt "Fix the tests" --stdio "gemini --acp" --trace turns.jsonl
  trio-acp timeline turns.jsonl
  trio-acp timeline turns.jsonl --html turns.html
"""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "timeline",
        timeline,
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    option("file", type=Path, metavar="FILE", help="the trace")
    option("--html", type=Path, metavar="OUT", help="write a page with a picture")
    option("--perfetto", type=Path, metavar="OUT", help="write a trace for ui.perfetto.dev or chrome://tracing")


def timeline(options: argparse.Namespace) -> int:
    """Run the command; return its exit code.

    Raises:
        InvalidOption: the file is no trace.
        OSError: a file cannot be read or written.
    """
    name = one_line(str(options.file))
    for out in (options.html, options.perfetto):
        if out is not None and out.exists() and out.samefile(options.file):
            raise InvalidOption(f"{name} is the trace itself; write to another file", detail="invalid-out")
    with options.file.open("rb") as file:
        trace = read_trace(file, name)
    stories = tell(trace)
    wall = one_line(trace.wall, 40)
    if options.html is not None:
        chart = lay_out(stories)
        _write(options.html, page(chart, name=one_line(options.file.name), wall=wall, notes=trace.notes))
    if options.perfetto is not None:
        _write(options.perfetto, perfetto(stories, wall=wall))
    if options.html is None and options.perfetto is None:
        for line in summary(stories, wall=wall, notes=trace.notes):
            print(safe_text(line, multiline=False))
    return OK


def _write(path: Path, text: str) -> None:
    # Like the trace, it has the keys of sessions and the messages of errors.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        file.write(text)
    print(f"Wrote {one_line(str(path))}")
