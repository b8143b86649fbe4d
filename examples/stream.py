"""Show everything that a turn streams: text, thoughts, tool calls, a plan, usage.

``match`` names the events that you care about; the others, and those that a
later version adds, pass by::

    python examples/stream.py
"""

from __future__ import annotations

import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

PROMPT = """\
think Where is that file?
plan Find it|Read it|Summarise it
tool Search kind=search
tool Read README.md kind=read path=/repo/README.md
say It explains how to install the program,
say and how to run its tests.
usage 1200 200000
"""


async def main() -> None:
    """Run one turn, and print each event as it comes."""
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        session = await manager.start_session("stream", agent="agent", cwd="/repo")
        async with session.turn(PROMPT) as turn:
            async for event in turn:
                match event:
                    case trio_acp.TextDelta(text=text):
                        print(text)
                    case trio_acp.Thought(text=text):
                        print(f"  (thinks: {text})")
                    case trio_acp.ToolCall(title=title, kind=kind, status=status, locations=where):
                        print(f"  [{status}] {kind}: {title} {' '.join(place.path for place in where)}")
                    case trio_acp.Plan(entries=entries):
                        print("  plan:", ", ".join(f"{entry.content} ({entry.status})" for entry in entries))
                    case trio_acp.Usage(used=used, size=size):
                        print(f"  {used / size:.0%} of the context is in use")
        print(turn.outcome)


if __name__ == "__main__":
    trio.run(main)
