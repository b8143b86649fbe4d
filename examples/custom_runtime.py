"""A runtime adapter of your own: whatever can answer prompts becomes an agent.

Here it is any program that reads a prompt from its standard input and prints
an answer; without arguments it is a small dictionary::

    python examples/custom_runtime.py [PROGRAM ARGUMENT ...]

The class after the adapter tests that it keeps every law of an adapter::

    pytest examples/custom_runtime.py
"""

from __future__ import annotations

import codecs
import functools
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs
import trio

import trio_acp
from trio_acp.abc import Done, EnsureRequest, Handle, Runtime
from trio_acp.testing import RuntimeContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_acp.abc import EventSink, TurnRequest


@attrs.frozen
class Running:
    """A turn that is under way."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)


async def end_group(process: trio.Process) -> None:
    """End a program with all that it has started: politely, and by force what is left a second later.

    If cancelled, because the program has ended, the rest is ended by force at once.
    """
    try:
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(process.pid, signal.SIGTERM)
        await trio.sleep(1)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class Program(Runtime):
    """Runs a program for each turn.  Nothing is held between turns, so there is nothing to close."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._turns: dict[Handle, Running] = {}

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        """Look whether there is such a program.  If cancelled, nothing happened."""
        await trio.lowlevel.checkpoint()
        if shutil.which(self._command[0]) is None:
            raise trio_acp.BackendUnavailable(f"there is no program {self._command[0]!r}")
        return Handle(key=request.key, cwd=request.cwd)

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Run the program once.  If cancelled, it is ended, with all that it has started, in a second."""
        prompt = "\n".join(block.text for block in request.prompt if isinstance(block, trio_acp.TextContent))
        run = functools.partial(
            trio.run_process,
            self._command,
            stdin=prompt.encode(),
            stdout=subprocess.PIPE,
            check=False,
            cwd=request.handle.cwd,
            start_new_session=True,  # a process group of its own, which Ctrl-C does not reach
            deliver_cancel=end_group,
        )
        text = codecs.getincrementaldecoder("utf-8")(errors="replace")
        turn = self._turns[request.handle] = Running()
        try:
            with turn.scope:
                async with trio.open_nursery() as nursery:
                    process: trio.Process = await nursery.start(run)
                    assert process.stdout is not None
                    async for data in process.stdout:
                        events.send(trio_acp.TextDelta(text.decode(data)))
                # After the nursery: what is raised inside would leave it in a group.
                if process.returncode != 0:
                    raise trio_acp.TurnFailed(f"{self._command[0]} exited with status {process.returncode}")
                return Done()
            return Done(stop_reason="cancelled")
        finally:
            turn.ended.set()
            del self._turns[request.handle]

    async def cancel(self, handle: Handle, reason: str) -> None:
        """Stop the turn, and wait until the program has ended.  If cancelled, it may still run."""
        if (turn := self._turns.get(handle)) is not None:
            turn.scope.cancel(reason=reason)
            await turn.ended.wait()

    async def close(self, handle: Handle, reason: str) -> None:
        """Do nothing, but be a checkpoint.  If cancelled, that was all the same."""
        await trio.lowlevel.checkpoint()

    def can_resume(self, handle: Handle) -> bool:
        """Say that the program remembers nothing."""
        return False


DICTIONARY = """\
import subprocess, sys, time
word = sys.stdin.read()
if word == "nonsense":
    sys.exit(3)
print({"nursery": "where Trio's tasks live"}.get(word, f"{word}: see {word}"), flush=True)
if word == "recursion":
    subprocess.Popen(["sleep", "9"])  # as agents run tools
while word == "recursion":
    time.sleep(0.01)
    print("see recursion", flush=True)
"""
COMMAND = [sys.executable, "-c", DICTIONARY]


class TestProgram(RuntimeContract):
    """Every law of `trio_acp.abc.Runtime`, as a test."""

    quick = "nursery"
    slow = "recursion"
    faulty = ("nonsense",)

    def make_runtime(self) -> Runtime:
        """Return what is tested."""
        return Program(COMMAND)

    def make_unreachable(self) -> Runtime:
        """Return one that can open no session."""
        return Program(["no-such-program"])


async def main(command: Sequence[str]) -> None:
    """Ask for two words, and leave the second one in the middle."""
    async with trio_acp.open_session_manager({"program": Program(command)}) as manager:
        session = await manager.start_session("words", agent="program")
        reply = await session.prompt("nursery")
        print(f"nursery: {str(reply).strip()} ({reply.outcome})")
        async with session.turn("recursion") as turn:
            async for event in turn:
                if isinstance(event, trio_acp.TextDelta):
                    print(f"{event.text.strip()} ...")
                    break
        print(turn.outcome)


if __name__ == "__main__":
    trio.run(main, sys.argv[1:] or COMMAND)
