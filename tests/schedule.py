"""The order in which Trio takes tasks that are ready together: chosen, so that it can be had again."""

from __future__ import annotations

import random
from typing import Final

import pytest
import trio

SEED: Final = pytest.StashKey[str]()
"""Where a pytest run keeps the seed of its schedules."""


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
