"""Stream one turn of an agent, with a deadline of your own.

Run it against any ACP agent::

    python examples/quickstart.py claude-agent-acp

Without an argument it uses the scripted agent that comes with trio_acp.
"""

from __future__ import annotations

import shlex
import sys

import trio

import trio_acp

SCRIPTED = [sys.executable, "-m", "trio_acp.testing.agent"]


async def main(argv: list[str]) -> None:
    """Ask once, streaming, and once more with a time limit."""
    runtime = trio_acp.AcpRuntime.stdio(shlex.split(" ".join(argv)) if argv else SCRIPTED)
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        session = await manager.start_session("quickstart", agent="agent")

        async with session.turn("What is structured concurrency?") as turn:
            async for event in turn:
                match event:
                    case trio_acp.TextDelta(text=text):
                        print(text, end="", flush=True)
                    case trio_acp.ToolCall(title=title, status=status):
                        print(f"\n[{status}] {title}")
        print("\n", turn.outcome)

        with trio.move_on_after(1) as scope:
            print(await session.prompt("Think about it for an hour\nsleep 3600"))
        if scope.cancelled_caught:
            print("That took too long; the agent has been told to stop.")


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
