"""Three ways to limit a turn: a timeout of its own, a cancel scope, and a cancel from elsewhere.

The agent here never ends by itself.  Whichever way is taken, it is told to
stop, and the session can be used again::

    python examples/timeouts.py
"""

from __future__ import annotations

import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

ENDLESS = "say Let me see ...\nhang"


async def main() -> None:
    """Stop the same prompt in three ways."""
    limits = trio_acp.Limits(grace=0.1)  # after its timeout, a turn may still end by itself for so long
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}, settings=trio_acp.Settings(limits=limits)) as manager:
        session = await manager.start_session("timeouts", agent="agent", cwd="/repo")

        # 1. The turn's own: an error, which has what was said until then.
        try:
            await session.prompt(ENDLESS, timeout=0.2)
        except trio_acp.TurnTimedOut as error:
            print(f"1. {error}; until then it said: {error.partial}")

        # 2. Trio's: whatever is inside of the scope is cancelled, the turn too.
        with trio.move_on_after(0.2) as scope:
            await session.prompt(ENDLESS)
        print(f"2. cancelled: {scope.cancelled_caught}")

        # 3. Somebody else's: a button, say.  It is no error, but an outcome.
        async with session.turn(ENDLESS) as turn:
            async for event in turn:
                if isinstance(event, trio_acp.TextDelta):
                    turn.cancel("the user pressed stop")
        print(f"3. {turn.outcome}")

        print(f"4. {(await session.prompt('say And now for something else.')).outcome}")


if __name__ == "__main__":
    trio.run(main)
