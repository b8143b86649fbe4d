"""`explored`: an async test function as a test that explores it."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from typing import TYPE_CHECKING, Any, Final

from ._explorer import Plan, explore, replay
from ._report import Report
from ._scenario import Scenario
from ._tape import Tape, tape_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._actions import Action
    from ._case import Case
    from ._report import Finding

REPLAY: Final = "TRIO_ACP_REPLAY"
"""The environment variable with the tape that explored tests play, instead of exploring."""


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
    """Make an async function with a parameter `case` a synchronous test that explores it.

    ::

        @explored(Cancel())
        async def test_a_cancelled_acquire_loses_nothing(case):
            pool = Pool(1)
            with case.scope:
                await pool.acquire()
                pool.release()
            assert pool.free == 1

    Works with pytest and every other runner: what it returns is a plain
    function.  Other parameters stay, so `self`, parametrization and fixtures
    work, but for fixtures of pytest-trio, which belong to a run of its own.
    They are made once, not for each run, which must leave them as they were.

    Args:
        actions: What is done to it.
        plan: How much of it; default: each action, at each step, on both sides.
        max_steps: How many task steps count as "it never ends".

    Raises:
        ExplorationFailed: by the test, if anything was found.
        Forbidden: by the test, if it uses a thread, a process or a real socket.
        TypeError: the function has no parameter `case`.
    """

    def decorate(function: Callable[..., Awaitable[object]]) -> Callable[..., None]:
        signature = inspect.signature(function)
        if "case" not in signature.parameters:
            raise TypeError(f"{function.__qualname__} needs a parameter named case")
        others = [parameter for name, parameter in signature.parameters.items() if name != "case"]

        @functools.wraps(function)
        def test(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True

            def play(case: Case) -> Awaitable[object]:
                return function(*args, case=case, **kwargs)

            scenario = Scenario(play, function.__name__, actions, max_steps)
            if tape := os.environ.get(REPLAY):
                finding = replay(scenario, Tape.load(tape))
                report = Report(scenario.name, findings=[finding] if finding else [])
                text = str(finding)
            else:
                report = explore(scenario, plan)
                text = "\n".join(_save(finding, function, alone=not others) for finding in report.findings)
            if report.findings:
                raise ExplorationFailed(text, report)

        # pytest asks for the parameters, and would take the case for a fixture.
        vars(test)["__signature__"] = signature.replace(parameters=others, return_annotation=None)
        if not others:
            vars(test)["scenario"] = Scenario(function, function.__name__, actions, max_steps)
        return test

    return decorate


def _save(finding: Finding, function: Callable[..., object], *, alone: bool) -> str:
    """Keep a finding's tape; return the text that tells of both."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    file = os.path.relpath(inspect.getsourcefile(function) or ".")
    path = finding.tape.keep(tape_name(file, test.partition("::")[2] or function.__name__))
    command = ["trio-acp", "explore", f"{file}::{function.__name__}", "--replay", str(path)]
    if not alone:  # only pytest can make its arguments
        command = ["env", f"{REPLAY}={path}", "pytest", test or file]
    return f"{finding}\n\nits tape: {path}\nreplay it: {shlex.join(command)}\n"
