"""Runs mutants against their killers: ``python -m tests.mutants [NAME ...]``, all of them without a name.

Each killer runs with its mutant, where it must fail, and right after that
without it, where it must pass: so a failure is due to the mutant, and not to
what an earlier one left behind.  All of that happens in this one process; the
example database of Hypothesis is not touched, and all random choices are fixed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tests.mutants import MUTANTS

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 30
"""Real seconds that one run of a killer may take."""

OPTIONS: Final = (
    *("-p", "no:cacheprovider", "-p", "no:unraisableexception", "-p", "no:threadexception"),
    *("--tb=line", "--hypothesis-seed=0"),
)


@attrs.define
class Referee:
    """A pytest plugin: runs the collected killers, once with and once without each mutant."""

    mutants: list[Mutant]
    verdicts: dict[str, str] = attrs.field(factory=dict)
    failures: list[str] = attrs.field(factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run killers in the order of the mutants instead of the collected order."""
        gc.freeze()  # what is there now stays: collecting garbage after each run need not look at it
        by_id = {item.nodeid.removeprefix("tests/"): item for item in session.items}
        for mutant in self.mutants:
            self.verdicts[mutant.name] = self._judge(mutant, by_id.get(mutant.killer))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep why a run failed."""
        if report.failed:
            self.failures.append(report.longreprtext)

    def _judge(self, mutant: Mutant, killer: pytest.Item | None) -> str:
        if killer is None:
            return f"there is no test {mutant.killer}"
        try:
            mutant.code()
        except ValueError as error:
            return f"it does not apply: {error}"
        with mutant.at_work():
            failures = self._run(killer)
        if any("from pytest-timeout" in text for text in failures):
            return "its killer hangs"
        if self._run(killer):
            return f"its killer fails without it too: {self.failures[-1]}"
        return "killed" if failures else "survived"

    def _run(self, item: pytest.Item) -> list[str]:
        self.failures = []
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        gc.collect()  # whatever the run abandoned is finalised now, and not in the next one
        return self.failures


def judge(mutants: list[Mutant], *, patience: int = PATIENCE) -> dict[str, str]:
    """Run mutants against their killers; return the verdicts by name: ``killed``, or what is wrong.

    Args:
        patience: Real seconds that one run of a killer may take.

    Raises:
        RuntimeError: pytest could not run the killers.
    """
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    os.chdir(ROOT)
    referee = Referee(mutants)
    files = sorted({f"tests/{mutant.killer.partition('::')[0]}" for mutant in mutants})
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = pytest.main([*OPTIONS, f"--timeout={patience}", *files], plugins=[referee])
    if len(referee.verdicts) < len(mutants):
        raise RuntimeError(f"pytest ended with {code}: {output.getvalue()}")
    return referee.verdicts


def main(names: list[str]) -> int:
    """Judge the named mutants, or all; return 0 if every one was killed."""
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        sys.exit(f"there is no mutant {', '.join(sorted(unknown))}")
    verdicts = judge([mutant for mutant in MUTANTS if not names or mutant.name in names])
    for name, verdict in verdicts.items():
        print(f"{verdict}: {name}")
    return int(set(verdicts.values()) != {"killed"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
