"""Faults that show only if something strikes at the right step, or if tasks run in another order: `HUNTS`."""

from __future__ import annotations

from typing import Final

from tests.mutants.hunt import Hunt
from tests.mutants.mutant import Mutant

TURN: Final = "test_turn_machine.py::TestTurn::runTest"
MANAGER: Final = "test_manager_machine.py::TestManager::runTest"


def _hunted(name: str, stands_for: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name, stands_for, where, old, new, f"test_hunts.py::test_nothing_is_found[{name}]")


HUNTS: Final[tuple[Hunt, ...]] = (
    Hunt(
        mutant=_hunted(
            "a turn that is stopped just before its prompt is sent sends it",
            "H-03",
            "_turn:_submit",
            "if turn.stopping:",
            "if turn.settled.is_set():",
        ),
        scenario="ask",
        found_by={"machine": False, "cancel": True, "schedule": False, "wire": False},
        machine=MANAGER,
    ),
    Hunt(
        mutant=_hunted(
            "the agent is not told to stop",
            "E-09",
            "acp.session:AgentSession.cancel",
            'self.connection.notify("session/cancel", CancelNotification(session_id=self.id))',
            "pass",
        ),
        scenario="start-and-prompt",
        found_by={"machine": None, "cancel": True, "schedule": False, "wire": False},
    ),
    Hunt(
        mutant=_hunted(
            "a turn that was stopped counts as completed if the agent says that it ended",
            "E-10",
            "_turn_state:TurnState.decide",
            "return Stopped(by=kind, reason=first.reason, agent_stop_reason=self.agent_stop_reason)",
            'return Completed(self.agent_stop_reason or "")',
        ),
        scenario="start-and-prompt",
        found_by={"machine": True, "cancel": True, "schedule": False, "wire": False},
        machine=TURN,
    ),
)
