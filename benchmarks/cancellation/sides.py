"""Runs the sides: each scenario in a process of its own, with an agent and a recorder of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import telling, wire
from .measure import Row, measure
from .plan import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
TEE: Final = Path(__file__).with_name("tee.py")

SIDES: Final = {"sdk": "benchmarks.cancellation.sdk_side", "trio_acp": "benchmarks.cancellation.trio_side"}
"""The module of each side."""

LIMIT: Final = 40.0
"""Seconds for one run of one side, its start included."""


def run(side: str, scenario: Scenario, python: str = sys.executable) -> Row:
    """Run one scenario on one side.

    Args:
        side: One of `SIDES`.
        scenario: Which.
        python: The interpreter that has the side's library; the agent runs with ours.

    Raises:
        RuntimeError: the side failed; the message has its last words.
    """
    with tempfile.TemporaryDirectory(prefix="compare-") as directory:
        agent = [
            sys.executable,
            str(TEE),
            directory,
            "--",
            sys.executable,
            "-m",
            "trio_acp.testing.agent",
            "--state-dir",
            directory,
        ]
        # The sessions are kept beside the recordings: one process of the agent can resume what another has begun.
        command = [python, "-m", SIDES[side], scenario.name, *agent]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{side}, {scenario.name}: exit {done.returncode}\n{done.stderr[-4000:]}")
        return measure(scenario, telling.load(done.stdout), wire.read(Path(directory)))


def run_all(pythons: Mapping[str, str]) -> Iterator[list[Row]]:
    """Run every scenario, the sides at the same time; yield the rows of each as they come.

    Args:
        pythons: The interpreter of each side to run.
    """
    with ThreadPoolExecutor(len(pythons)) as pool:
        for scenario in SCENARIOS:
            yield list(pool.map(run, pythons, repeat(scenario), pythons.values()))
