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
            "_turn:_attempt",
            "entry is None or turn.stopping",
            "entry is None",
        ),
        scenario="start-and-prompt",
        found_by={"machine": False, "cancel": True, "schedule": False, "wire": False},
        machine=TURN,
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
            "a prompt that is given up is cancelled once more",
            "H-03",
            "acp.session:AgentSession.run_turn",
            "self._pending.withdraw(_never_sent())",
            (
                "if not self._pending.withdraw(_never_sent()) and not self._pending.done:\n"
                '                    self.connection.notify("session/cancel", CancelNotification(session_id=self.id))'
            ),
        ),
        scenario="ignored-cancel",
        found_by={"machine": None, "cancel": True, "schedule": False, "wire": False},
    ),
    Hunt(
        mutant=_hunted(
            "a stopped turn counts as completed",
            "E-10",
            "_turn_state:TurnState.decide",
            "return Stopped(by=kind, reason=first.reason, agent_stop_reason=self.agent_stop_reason)",
            'return Completed(self.agent_stop_reason or "")',
        ),
        scenario="start-and-prompt",
        found_by={"machine": True, "cancel": True, "schedule": False, "wire": False},
        machine=TURN,
    ),
    Hunt(
        mutant=_hunted(
            "the end of the connection counts as the end of the turn",
            "H-06",
            "acp.session:AgentSession.run_turn",
            "except RequestFailed as error:",
            (
                "except ConnectionLost:\n"
                '            return Done(stop_reason="end_turn")\n'
                "        except RequestFailed as error:"
            ),
        ),
        scenario="start-and-prompt",
        found_by={"machine": None, "cancel": False, "schedule": False, "wire": True},
    ),
    Hunt(
        mutant=_hunted(
            "each update is taken in by a task of its own",
            "G7",
            "acp.connection:Connection._take",
            "if not self._handler.on_chunk(*chunk, len(text)):\n",
            (
                "\n"
                "            async def take() -> None:\n"
                "                self._handler.on_chunk(*chunk, len(text))\n"
                "\n"
                "            assert self._nursery is not None\n"
                "            self._nursery.start_soon(take)\n"
                "            if False:\n"
            ),
        ),
        scenario="start-and-prompt",
        found_by={"machine": None, "cancel": False, "schedule": True, "wire": False},
    ),
    Hunt(
        mutant=_hunted(
            "a reader may miss the end of its turn",
            "H-01",
            "_turn_state:TurnState.next_event",
            "self._consumer = trio.lowlevel.current_task()\n",
            "await trio.lowlevel.checkpoint()\n            self._consumer = trio.lowlevel.current_task()\n",
        ),
        scenario="start-and-prompt",
        found_by={"machine": True, "cancel": True, "schedule": True, "wire": False},
        machine=TURN,
        seed=1,
    ),
    Hunt(
        mutant=_hunted(
            "an actor may miss that its turn was stopped",
            "E-09",
            "_turn:_attempt",
            "call = _submit(ctx,",
            "await trio.lowlevel.checkpoint()\n    call = _submit(ctx,",
        ),
        scenario="start-and-prompt",
        found_by={"machine": True, "cancel": True, "schedule": False, "wire": False},
        machine=TURN,
    ),
    Hunt(
        mutant=_hunted(
            "a cancelled caller does not wait for the end of his turn",
            "E-10",
            "_prompt:Turn._settled_within_bound",
            "with shielded(2 * limits.cleanup + 2 * limits.join):",
            "if True:",
        ),
        scenario="start-and-prompt",
        found_by={"machine": True, "cancel": True, "schedule": False, "wire": False},
        machine=TURN,
    ),
    Hunt(
        mutant=_hunted(
            "rows are not freed if everything around is cancelled",
            "E-33",
            "_claims:holding_rows",
            "with shielded(seconds) as scope:",
            "with trio.move_on_after(seconds) as scope:",
        ),
        scenario="start-and-prompt",
        found_by={"machine": None, "cancel": True, "schedule": False, "wire": False},
    ),
    Hunt(
        mutant=_hunted(
            "a turn is marked as running only when that was written",
            "E-25",
            "_turn:_prepare",
            "await ctx.save(turn, _running(ctx, entry.record), deadline, interruptible=True)",
            (
                "turn.marked = False\n"
                "        await ctx.save(turn, _running(ctx, entry.record), deadline, interruptible=True)\n"
                "        turn.marked = not turn.stopping"
            ),
        ),
        scenario="start-and-prompt",
        found_by={"machine": False, "cancel": True, "schedule": False, "wire": False},
        machine=MANAGER,
    ),
    Hunt(
        mutant=_hunted(
            "a handle whose agent would not stop is clean",
            "E-05",
            "_turn:_stop_backend",
            "return call.finished and cancelling.ok",
            "return True",
        ),
        scenario="ignored-cancel",
        found_by={"machine": True, "cancel": True, "schedule": False, "wire": False},
        machine=TURN,
    ),
    Hunt(
        mutant=_hunted(
            "a suspect handle counts as quiet before its late answer has come",
            "E-08",
            "_ensure:ensure_runtime_handle",
            "if entry.suspect and runtime.is_quiet(entry.handle):",
            "if entry.suspect:",
        ),
        scenario="ignored-cancel",
        found_by={"machine": False, "cancel": True, "schedule": False, "wire": False},
        machine=MANAGER,
    ),
    Hunt(
        mutant=_hunted(
            "a caller who gives up in the queue stays there",
            "E-17",
            "_session:Session._stop",
            "if self._ctx.queue.withdraw(self.key, turn):",
            "if turn.settled.is_set():",
        ),
        scenario="two-queued",
        found_by={"machine": True, "cancel": True, "schedule": False, "wire": False},
        machine=MANAGER,
    ),
    Hunt(
        mutant=_hunted(
            "what an agent asked stays open when it is told to stop",
            "H-03",
            "acp.session:AgentSession.cancel",
            "self._cancel_permissions()",
            "pass",
        ),
        scenario="permission",
        found_by={"machine": None, "cancel": True, "schedule": False, "wire": False},
    ),
    Hunt(
        mutant=_hunted(
            "a session that was idle a step ago is evicted",
            "H-08",
            "_evictor:Evictor._evict",
            "self._ctx.start_in_lane(key, self._close_in_lane)",
            (
                "\n"
                "        async def close() -> None:\n"
                "            await trio.lowlevel.checkpoint()\n"
                "            if self._ctx.cache.take_out(key) is not None:\n"
                "                await self._ctx.runtime(entry.record.agent).close(entry.handle, 'idle-evicted')\n"
                "                self._ctx.capacity.closed(entry.handle)\n"
                "\n"
                "        self._ctx.calls.start('evict', close)"
            ),
        ),
        scenario="evicted",
        found_by={"machine": None, "cancel": True, "schedule": True, "wire": True},
    ),
    Hunt(
        mutant=_hunted(
            "room that there was a step ago is taken",
            "E-12",
            "_evictor:Evictor.slot_for",
            "claim = capacity.claim(request.key, request.poke)",
            (
                "room = capacity.taken < (capacity.limit or math.inf)\n"
                "        await trio.lowlevel.checkpoint()\n"
                "        claim = capacity.claim(request.key, request.poke)\n"
                "        if room and claim.slot is None:\n"
                "            capacity._waiting.remove(claim)\n"
                "            capacity._grant(claim)"
            ),
        ),
        scenario="full-house",
        found_by={"machine": None, "cancel": True, "schedule": True, "wire": True},
    ),
)

MUTANTS: Final = tuple(hunt.mutant for hunt in HUNTS)
