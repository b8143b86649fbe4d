"""A runtime adapter of your own: whatever can answer prompts becomes an agent.

Here it is a dictionary.  The manager keeps the promises about queues,
deadlines and cancellation; an adapter says how a session is opened, how a
turn runs, and how it is stopped.  The class at the end tests that it keeps
the rules of an adapter: ``pytest examples/custom_runtime.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import trio_acp
from trio_acp.abc import Done, EnsureRequest, Handle, Runtime
from trio_acp.testing import RuntimeContract

if TYPE_CHECKING:
    from trio_acp.abc import EventSink, TurnRequest

MEANINGS = {
    "nursery": "where Trio's tasks live",
    "checkpoint": "where Trio may cancel, or take another task",
    "recursion": "see recursion; " * 1000,
}


class Dictionary(Runtime):
    """Explains words, one letter at a time."""

    def __init__(self) -> None:
        self._turns: dict[Handle, trio.CancelScope] = {}

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        """Open a session; there is nothing to resume.  If cancelled, nothing was opened."""
        await trio.lowlevel.checkpoint()
        return Handle(key=request.key, session_id=request.resume or f"dictionary-{request.key}")

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Explain the word.  If cancelled, the rest is not said."""
        (block, *_) = request.prompt
        assert isinstance(block, trio_acp.TextContent)
        with trio.CancelScope() as scope:
            self._turns[request.handle] = scope
            try:
                for letter in MEANINGS.get(block.text, "I do not know that word"):
                    await trio.sleep(0.001)
                    events.send(trio_acp.TextDelta(letter))
            finally:
                del self._turns[request.handle]
            return Done()
        return Done(stop_reason="cancelled")

    async def cancel(self, handle: Handle, reason: str) -> None:
        """Stop the turn; `run_turn` ends by itself then.  If cancelled, it ends all the same."""
        if handle in self._turns:
            self._turns[handle].cancel(reason=reason)
        await trio.lowlevel.checkpoint()

    async def close(self, handle: Handle, reason: str) -> None:
        """Release the session: there is nothing to release."""
        await trio.lowlevel.checkpoint()


class TestDictionary(RuntimeContract):
    """Every rule of `trio_acp.abc.Runtime`, as a test."""

    quick = "nursery"
    slow = "recursion"
    resumes = True

    def make_runtime(self) -> Runtime:
        """Return what is tested."""
        return Dictionary()


async def main() -> None:
    """Ask for two words, and leave the second one in the middle."""
    async with trio_acp.open_session_manager({"dictionary": Dictionary()}) as manager:
        session = await manager.start_session("words", agent="dictionary")
        reply = await session.prompt("nursery")
        print(f"nursery: {reply} ({reply.outcome})")
        async with session.turn("checkpoint") as turn:
            async for event in turn:
                print(f"checkpoint: {event} ...")
                break
        print(turn.outcome)


if __name__ == "__main__":
    trio.run(main)
