"""`explored`: an async test function as a test that explores it."""

from __future__ import annotations

import functools
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._explorer import Plan, explore
from ._run import Scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._actions import Action
    from ._report import Report

TAPES = Path(".trio-acp") / "tapes"
"""Where tapes of failures are kept, below the current directory."""


class ExplorationFailed(AssertionError):
    """An explored test failed; the message has the program, the tape's path, and the command that replays it.

    Attributes:
        report: Everything the exploration did.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def explored(
    *actions: Action, plan: Plan | None = None, max_steps: int = 50_000
) -> Callable[[Callable[..., Awaitable[object]]], Callable[..., None]]:
    """Make an async function, whose first parameter is a `Case`, a synchronous test that explores it.

    ::

        @explored(Cancel())
        async def test_a_cancelled_acquire_loses_nothing(case):
            pool = Pool(1)
            with case.scope:
                await pool.acquire()
                pool.release()
            assert pool.free == 1

    Works with pytest and every other runner: what it returns is a plain
    function.  Further parameters stay, so fixtures may be used; they are made
    once, not for each run.

    Args:
        actions: What is done to it.
        plan: How much of it; default: each action, at each step, on both sides.
        max_steps: How many task steps count as "it never ends".

    Raises:
        ExplorationFailed: by the test, if anything was found.
        Forbidden: by the test, if it uses a thread, a process or a real socket.
    """

    def decorate(function: Callable[..., Awaitable[object]]) -> Callable[..., None]:
        scenario = Scenario(function, function.__name__, actions, max_steps)

        @functools.wraps(function)
        def test(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            bound = Scenario(functools.partial(_with, function, args, kwargs), scenario.name, actions, max_steps)
            report = explore(bound, plan)
            if report.findings:
                raise ExplorationFailed(_message(report, function), report)

        _, *others = inspect.signature(function).parameters.values()
        # pytest asks for the parameters, and would take the case for a fixture.
        vars(test).update(__signature__=inspect.Signature(others), scenario=scenario)
        return test

    return decorate


def _with(function: Callable[..., Awaitable[object]], args: Any, kwargs: Any, case: Any) -> Awaitable[object]:
    return function(case, *args, **kwargs)


def _message(report: Report, function: Callable[..., object]) -> str:
    TAPES.mkdir(parents=True, exist_ok=True)
    file = Path(os.path.relpath(inspect.getsourcefile(function) or "."))
    lines = [""]
    for finding in report.findings:
        path = TAPES / f"{report.scenario}-{finding.kind}.json"
        path.write_text(finding.tape.dumps(), "utf-8")
        lines += [str(finding), "", f"replay it: trio-acp explore {file}::{report.scenario} --replay {path}", ""]
    return "\n".join(lines)
