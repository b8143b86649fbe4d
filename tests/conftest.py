"""How hard Hypothesis looks, and in which order Trio's scheduler takes tasks that are ready together.

``HYPOTHESIS_PROFILE`` is dev, ci or deep; on a build machine ci.

Each test begins with a schedule of its own, drawn from one seed for the whole
run and the test's name.  A failure shows the seed; ``--hypothesis-seed`` with
it replays the schedule, of one test alone too, as far as a test in virtual time
is concerned (threads and sockets have their own order).
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings

from tests.schedule import SEED, begin_schedule

if TYPE_CHECKING:
    from collections.abc import Generator

# No deadline for a single example: it would measure the machine, not the code.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None)
settings.register_profile("deep", max_examples=5000, deadline=None)
# For tests.mutants, where failing is the aim: no shrinking, and nothing is remembered.
settings.register_profile("mutants", max_examples=100, deadline=None, database=None, phases=[Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--hypothesis-seed")
    config.stash[SEED] = str(secrets.randbelow(10**6)) if given is None else given


def pytest_runtest_setup(item: pytest.Item) -> None:
    begin_schedule(f"{item.config.stash[SEED]} {item.nodeid}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("schedule", f"--hypothesis-seed={item.config.stash[SEED]} replays it"))
    return report
