"""Ask two agents the same; take the first answer, and stop the other agent.

A nursery and a cancel scope are all that it takes: the loser's turn is
cancelled like any other Trio code, and its agent is told::

    python examples/race.py
"""

from __future__ import annotations

import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent


async def first_reply(manager: trio_acp.SessionManager, questions: dict[str, str]) -> tuple[str, trio_acp.Reply]:
    """Ask each agent its question; return who was first, and what it said.

    If cancelled, all of them are stopped.

    Raises:
        ExceptionGroup: of `TurnError`: an agent failed before another had answered.
    """
    replies: list[tuple[str, trio_acp.Reply]] = []

    async def ask(agent: str, question: str) -> None:
        reply = await manager.ask(question, agent=agent, cwd="/repo")
        replies.append((agent, reply))
        nursery.cancel_scope.cancel(reason=f"{agent} was faster")

    async with trio.open_nursery() as nursery:
        for agent, question in questions.items():
            nursery.start_soon(ask, agent, question)
    return replies[0]


async def main() -> None:
    """Race a fast agent against one that thinks for an hour."""
    hare, tortoise = ScriptedAgent(), ScriptedAgent()
    runtimes = {
        "hare": trio_acp.AcpRuntime(dial_agent(hare)),
        "tortoise": trio_acp.AcpRuntime(dial_agent(tortoise)),
    }
    async with trio_acp.open_session_manager(runtimes) as manager:
        winner, reply = await first_reply(
            manager, {"hare": "sleep 0.2; say Forty-two.", "tortoise": "say Hm.; sleep 3600; say Forty-two."}
        )
        print(f"{winner}: {reply}")
        print(reply.outcome)
    told = [received.method for received in tortoise.log]
    print("the tortoise was told to stop:", "session/cancel" in told)


if __name__ == "__main__":
    trio.run(main)
