"""The SDK's half of the comparison: it runs, and what its rows are made of was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.cancellation.plan import SCENARIOS, Scenario
from benchmarks.cancellation.sides import run
from tests.evidence import ROOT

from . import peers

if TYPE_CHECKING:
    from benchmarks.cancellation.measure import Row

pytestmark = pytest.mark.timeout(peers.PYTEST_TIMEOUT)


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario.name)
def row(request: pytest.FixtureRequest, python_sdk: peers.PythonSdk) -> Row:
    """Return the SDK's row of a scenario."""
    scenario: Scenario = request.param
    return run("sdk", scenario, str(python_sdk.python))


def test_a_scenario_is_played_and_measured(row: Row) -> None:
    """The prompt went out, the scenario struck, and a call either ended or is said not to have."""
    assert f"agent-client-protocol {peers.PYTHON_SDK}" == row.library
    assert (2 if row.scenario in {"next", "timeout"} else 1) == row.prompts
    assert (row.settle is None) == (row.ended_as == "did not end")
    assert (row.next_as is not None) == (row.scenario in {"next", "timeout"})
    assert (row.leave is not None) == (row.scenario in {"close", "resist"})
    assert (row.tidied_up is not None) == (row.scenario == "close")


def test_the_session_that_compares_has_the_same_version() -> None:
    """What `nox -s compare` installs is what is tested here."""
    assert f'"agent-client-protocol=={peers.PYTHON_SDK}"' in (ROOT / "noxfile.py").read_text("utf-8")
