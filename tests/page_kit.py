"""Reads and runs the blocks of a page of the documentation.

A block is fenced, with its language: ``python`` and ``sh`` are run, ``text``
is shown only.  A text block after a line that ends in "prints:" is what the
block before it prints.

A block of Python is one of three things: a program, if it calls ``trio.run``;
tests, if it defines functions that are called so; or a piece of a program,
which runs in one task with all pieces of its page, in a Trio run with virtual
time, has ``manager`` and ``session`` from the beginning, and may await.
"""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import types
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from trio.testing import MockClock

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

LANGUAGES: Final = {"python", "sh", "text", "toml", "mermaid"}
PORT: Final = "8137"
"""Where pages expect the scripted agent."""

_FENCE: Final = re.compile(r"^(`{3,}|:{3,})(\S*)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A fenced block of a page.

    Attributes:
        line: Of the page, where it begins.
        printed: What it is said to print.
    """

    language: str
    text: str
    line: int
    printed: str | None = None

    @property
    def is_program(self) -> bool:
        """Whether it is a whole program."""
        return self.language == "python" and "trio.run(" in self.text


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, but for directives."""
    blocks: list[Block] = []
    end = 0
    for found in _FENCE.finditer(page):
        between, end = page[end : found.start()], found.end()
        if found[2].startswith("{"):
            continue
        if found[2] == "text" and between.rstrip().endswith("prints:"):
            blocks[-1] = attrs.evolve(blocks[-1], printed=found[3])
        blocks.append(Block(found[2], found[3], page.count("\n", 0, found.start()) + 1))
    return blocks


def run_pieces(name: str, blocks: Iterable[Block], output: Callable[[], str]) -> None:
    """Run all pieces and tests of a page; `output` returns what was printed since it was called last."""
    names: dict[str, Any] = {"trio": trio, "trio_acp": trio_acp, "__name__": name}

    async def main() -> None:
        async with trio_acp.open_session_manager(
            {"agent": trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))}
        ) as manager:
            session = await manager.start_session("agent:agent:acp:work", agent="agent", cwd="/repo")
            names.update(manager=manager, session=session)
            for block in blocks:
                code = compile("\n" * block.line + block.text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)  # noqa: FBT003 - it has no name for `dont_inherit`
                done = types.FunctionType(code, names)()
                if code.co_flags & inspect.CO_COROUTINE:
                    await done
                check_output(name, block, output())

    trio.run(main, clock=MockClock(autojump_threshold=0))
    for test in [value for key, value in names.items() if key.startswith("test_")]:
        clock = MockClock(autojump_threshold=0)
        if inspect.iscoroutinefunction(test):
            trio.run(test, *([clock] if "autojump_clock" in inspect.signature(test).parameters else []), clock=clock)
        else:
            test()


def run_program(name: str, block: Block, port: str, directory: Path, output: Callable[[], str]) -> None:
    """Run a block as a program, with the agent at that port."""
    path = directory / "program.py"
    path.write_text(block.text.replace(PORT, port), "utf-8")
    runpy.run_path(str(path), run_name="__main__")
    check_output(name, block, output())


def check_output(name: str, block: Block, output: str) -> None:
    """Compare what was printed with what the page shows; ``...`` in a line of it stands for any text.

    Raises:
        AssertionError: it is something else.
    """
    if block.printed is not None:
        pattern = ".*".join(re.escape(part) for part in block.printed.strip().split("..."))
        assert re.fullmatch(pattern, output.strip()), f"{name}:{block.line} printed\n{output}\nnot\n{block.printed}"
