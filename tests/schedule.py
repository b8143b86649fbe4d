"""The order in which Trio takes tasks that are ready together: chosen, so that it can be had again.

A pytest plugin, which `conftest.py` loads.  Each test begins with a schedule of
its own, drawn from one seed for the whole run and the test's name.  A failure
shows the seed; ``--hypothesis-seed`` with it replays the schedule, of one test
alone too, as far as a test in virtual time is concerned (threads and sockets
have their own order).
"""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING, Final

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import Generator

SEED: Final = pytest.StashKey[str]()


def begin_schedule(seed: str) -> None:
    """Have Trio take ready tasks in the order that belongs to `seed`, from now on.

    This uses the one private name of Trio in these tests: there is no public
    one.  Trio shows its source of randomness to Hypothesis only; Hypothesis has
    to be imported, which makes the rest of the scheduler deterministic.

    Raises:
        pytest.UsageError: this version of Trio has it elsewhere.
    """
    source = getattr(trio._core._run, "_r", None)
    if not isinstance(source, random.Random):
        raise pytest.UsageError(f"trio {trio.__version__} keeps its scheduler's randomness elsewhere: {__file__}")
    source.seed(seed)


def seed_of(item: pytest.Item) -> str:
    """Return the seed of a test: that of the run, and the test's name."""
    return f"{item.config.stash[SEED]} {item.nodeid}"


def pytest_configure(config: pytest.Config) -> None:
    """Take the seed that Hypothesis was given, or draw one."""
    given = config.getoption("--hypothesis-seed")
    config.stash[SEED] = str(secrets.randbelow(10**6)) if given is None else given


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin each test's own schedule."""
    begin_schedule(seed_of(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure how to have its schedule again."""
    report = yield
    if report.failed:
        report.sections.append(("schedule", f"--hypothesis-seed={item.config.stash[SEED]} replays it"))
    return report
