"""Write down what goes on in turns, and see why each of them ended when it did.

Run it, and open the page that it names in a browser::

    python examples/timeline.py [DIRECTORY]

The agent is the scripted one that comes with trio_acp: one turn ends well, one
is cancelled by a cancel scope of ours, and one meets an agent that ignores that
the time is up.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import trio

import trio_acp

AGENT = [sys.executable, "-m", "trio_acp.testing.agent"]
SETTINGS = trio_acp.Settings(limits=trio_acp.Limits(turn=2, grace=0.2, cleanup=0.5))


async def main(trace_file: Path) -> None:
    """Run three turns and write their trace."""
    runtimes = {"agent": trio_acp.AcpRuntime.stdio(AGENT)}
    async with (
        trio_acp.TraceFile(trace_file) as trace,
        trio_acp.open_session_manager(runtimes, settings=SETTINGS, instrument=trace) as manager,
    ):
        session = await manager.start_session("timeline", agent="agent")
        await session.prompt("chunks 20 word every=0.02")
        with trio.move_on_after(0.5):
            await session.prompt("say Working; hang")
        try:
            await session.prompt("say Working; ignore-cancel 60; hang")
        except trio_acp.TurnTimedOut as error:
            print(error)


def show(trace_file: Path) -> None:
    """Show the trace in words, and make a page of it."""
    command = [sys.executable, "-m", "trio_acp", "timeline", str(trace_file)]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    subprocess.run([*command, "--html", str(trace_file.with_suffix(".html"))], check=True)


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="trio-acp-"))
    trio.run(main, directory / "turns.jsonl")
    show(directory / "turns.jsonl")
