"""Ask a person before an agent acts, with dialogs as in a graphical program.

A dialog is what waits for a button; a button only calls a function, as those
of every toolkit do.  `trio_acp.Ask` opens one for each request, several at a
time, and whatever ends a turn takes its dialog away.  Here the screen is
standard output, and the person is a task::

    python examples/permission_dialogs.py
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import trio

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from trio_acp.abc import Decision, PermissionRequest


class Dialog:
    """A question with two buttons."""

    def __init__(self, number: int, title: str) -> None:
        self.number = number
        self.title = title
        self.answer: Decision = "cancel"
        self.answered = trio.Event()

    def press(self, answer: Decision) -> None:
        """Do what a button does.  A toolkit in another thread: ``trio_token.run_sync_soon(dialog.press, answer)``."""
        self.answer = answer
        self.answered.set()


class Screen:
    """Shows dialogs."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.opened, self.dialogs = trio.open_memory_channel[Dialog](math.inf)

    async def confirm(self, request: PermissionRequest) -> Decision:
        """Open a dialog and wait for its button.  If cancelled, it is taken away."""
        # The title is the agent's: ascii() shows what could deceive.
        dialog = Dialog(next(self._numbers), ascii(request.tool_call.title))
        print(f"[{dialog.number}] May the agent do {dialog.title}?  (Allow) (Deny)")
        try:
            self.opened.send_nowait(dialog)
            await dialog.answered.wait()
            return dialog.answer
        finally:
            print(f"[{dialog.number}] closed: {dialog.answer}")


async def person(screen: Screen) -> None:
    """Read two dialogs before answering, then leave the others alone.  If cancelled, they stay open."""
    first, second = await screen.dialogs.receive(), await screen.dialogs.receive()
    for dialog in (first, second):
        dialog.press("allow" if "docs" in dialog.title else "deny")


async def main() -> None:
    """Have two agents ask at once, then one that nobody answers, then one whose turn is stopped meanwhile."""
    screen = Screen()
    permissions = trio_acp.Ask(screen.confirm, timeout=0.3)
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with (
        trio_acp.open_session_manager({"agent": runtime}, permissions=permissions) as manager,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(person, screen)

        async def ask(title: str) -> None:
            print(f"{title}: {await manager.ask(f'permission {title}', agent='agent', cwd='/repo')}")

        async with trio.open_nursery() as both:
            both.start_soon(ask, "write docs/why.md")
            both.start_soon(ask, "delete build/")
        await ask("call a friend")
        with trio.move_on_after(0.1):
            await ask("format the disk")
        reply = await manager.ask("say Nothing else was done.", agent="agent", cwd="/repo")
        print(reply, reply.outcome)


if __name__ == "__main__":
    trio.run(main)
