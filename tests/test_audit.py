"""Every answer to a request for permission leaves one audit record, wherever it was given, whatever the log does."""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import time
from collections import Counter
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import trio_acp
from trio_acp import MemoryAudit, SQLiteAudit, StoreError
from trio_acp._appender import Appender
from trio_acp._audit import sha256_of
from trio_acp.abc import AuditRecord, Instrument, PermissionPolicy, Verdict
from trio_acp.acp.connection import Connection
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from trio_acp.abc import AuditLog, Decision, PermissionRequest, TraceRecord

pytestmark = pytest.mark.concurrency

OWNER = trio_acp.Owner(pid=1, start_time=2, boot_id="b", manager_id="m")
ONE = AuditRecord(
    id="1",
    time=1.5,
    owner=OWNER,
    event="permission",
    decision="allow",
    rule="r",
    title_sha256=sha256_of("t"),
    session="k",
    session_id="s",
    turn="t",
)
BARE = attrs.evolve(ONE, id="2", session=None, session_id=None, turn=None, decision="cancel")


class Policy(PermissionPolicy):
    """Decides as the next of `plan` says: how, and after how many seconds; an exception is raised."""

    def __init__(self, plan: Sequence[tuple[Decision | Verdict | Exception, float]] = (("allow", 0.0),)) -> None:
        self.plan = list(plan)
        self.asked = 0

    async def decide(self, request: PermissionRequest) -> Decision | Verdict:
        decision, seconds = self.plan[self.asked % len(self.plan)]
        self.asked += 1
        if seconds:
            await trio.sleep(seconds)
        if isinstance(decision, Exception):
            raise decision
        return decision


@asynccontextmanager
async def audited(
    agent: ScriptedAgent, log: AuditLog | None, policy: PermissionPolicy | None = None, **options: Any
) -> AsyncIterator[trio_acp.Session]:
    """Open a manager and one session of `agent`."""
    runtime = trio_acp.AcpRuntime(dial_agent(agent))
    async with trio_acp.open_session_manager(
        {"agent": runtime}, audit=log, permissions=policy or Policy(), **options
    ) as manager:
        yield await manager.start_session("k", agent="agent", cwd="/repo")


def raw(number: int, session: str = "session-1", *, sound: bool = True) -> str:
    """Return the step that asks for permission without waiting for the answer."""
    options = [{"optionId": kind, "name": kind, "kind": kind} for kind in ("allow_once", "reject_once")]
    params = {"sessionId": session, "toolCall": {"toolCallId": "t"}, "options": options if sound else 3}
    asked = {"jsonrpc": "2.0", "id": f"r{number}", "method": "session/request_permission", "params": params}
    return f"raw {json.dumps(asked)}"


def told(agent: ScriptedAgent) -> Counter[str]:
    """Count what the agent was answered, from its own log."""
    decisions: Counter[str] = Counter()
    for entry in agent.log:
        if entry.kind == "response":
            chosen = (entry.params or {}).get("outcome", {}).get("optionId", "")
            decisions["allow" if "allow" in chosen else "deny" if "reject" in chosen else "cancel"] += 1
    return decisions


# -- one record for each answer -----------------------------------------------


async def test_an_answer_leaves_what_is_needed_to_find_it(autojump_clock: trio.testing.MockClock) -> None:
    """A record has the time, who answered, session, turn, decision and rule, and of the title only its hash."""
    log, policy = MemoryAudit(), Policy([(Verdict(decision="deny", rule="rule 7"), 0)])
    before = time.time()
    async with audited(ScriptedAgent(), log, policy) as session, session.turn("permission Write secret") as turn:
        async for _ in turn:
            pass
    [record] = await log.list(session="k")
    assert "Write secret" not in repr(record)
    assert hashlib.sha256(b"Write secret").hexdigest() == record.title_sha256
    assert ("permission", "deny", "rule 7") == (record.event, record.decision, record.rule)
    assert ("k", "session-1", turn.request_id) == (record.session, record.session_id, record.turn)
    assert before <= record.time <= time.time()


@pytest.mark.parametrize(
    ("script", "cancel", "expected"),
    [
        ("permission A", None, ("allow", "Policy", "k")),
        ("permission A kinds=reject_once", None, ("cancel", "Policy; no option says allow", "k")),
        (raw(1, "nobody"), None, ("cancel", "there is no such session", None)),
        (raw(1, sound=False), None, ("cancel", "the request makes no sense", None)),
        (f"run-on; sleep 2\n{raw(1)}", 1.0, ("cancel", "no turn runs", "k")),
        (f"ignore-cancel 5; sleep 2\n{raw(1)}\nsleep 1", 1.0, ("cancel", "the turn is over", "k")),
    ],
)
async def test_every_answer_names_its_rule(
    script: str, cancel: float | None, expected: tuple[str, str, str | None], autojump_clock: trio.testing.MockClock
) -> None:
    """Also answers that no policy gave are on record, with the reason for them."""
    agent, log = ScriptedAgent(), MemoryAudit()
    async with audited(agent, log) as session:
        with trio.move_on_after(20 if cancel is None else cancel):
            await session.prompt(script + "\nsleep 0.1")
        await trio.sleep(10)
    assert [expected] == [(record.decision, record.rule, record.session) for record in await log.list()]
    assert 1 == told(agent).total()


async def test_an_agent_puts_no_text_of_any_length_on_record(autojump_clock: trio.testing.MockClock) -> None:
    """What it calls a session that does not exist is cut."""
    log = MemoryAudit()
    async with audited(ScriptedAgent(), log) as session:
        await session.prompt(f"{raw(1, 'x' * 10_000)}\nsleep 1")
    [record] = await log.list()
    assert "x" * 300 == record.session_id


async def test_a_stopped_turn_leaves_one_record_for_each_open_question(autojump_clock: trio.testing.MockClock) -> None:
    """What the policy says after the cancel is not on record, nor is it told: the agent was answered already."""
    agent, log, policy = ScriptedAgent(), MemoryAudit(), Policy([("allow", 3.0)])
    async with audited(agent, log, policy) as session, session.turn(f"{raw(1)}\n{raw(2)}\nhang") as turn:
        await trio.sleep(1)
        await session.cancel()
        assert ["cancel"] * 2 == [event.decision async for event in turn if hasattr(event, "decision")]
    assert [("cancel", "the turn is over")] * 2 == [(record.decision, record.rule) for record in await log.list()]


async def test_a_policy_that_answers_with_the_cancel_is_too_late(autojump_clock: trio.testing.MockClock) -> None:
    """If policy and cancel come in one step, the record and the event say what the agent was told."""

    class AtOnce(PermissionPolicy):
        async def decide(self, request: PermissionRequest) -> Decision:
            with trio.CancelScope(shield=True):
                await released.wait()
            return "allow"

    released = trio.Event()
    agent, log = ScriptedAgent(), MemoryAudit()
    async with audited(agent, log, AtOnce()) as session, session.turn(f"{raw(1)}\nhang") as turn:
        await trio.testing.wait_all_tasks_blocked()
        released.set()
        turn.cancel()
        await session.cancel()
    decisions = [record.decision for record in await log.list()]
    assert list(told(agent).elements()) == decisions
    assert 1 == len(decisions)


@pytest.mark.parametrize(
    ("script", "rule"),
    [("cancel-own-request 1", "the agent took its request back"), (f"{raw(1)}\nsleep 1; close", "")],
)
async def test_a_question_nobody_waits_for_is_on_record(
    script: str, rule: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A request that was taken back, or whose connection was lost, leaves its one record too."""
    log = MemoryAudit()
    async with audited(ScriptedAgent(), log, Policy([("allow", 100.0)])) as session:
        with suppress(trio_acp.TurnFailed):
            await session.prompt(script)
    [record] = await log.list()
    assert "cancel" == record.decision
    assert rule in record.rule


async def test_a_policy_that_answers_as_the_connection_ends_is_too_late(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If policy and the end of the connection come in one step, nothing was allowed: nobody can have heard it."""

    class AtOnce(PermissionPolicy):
        async def decide(self, request: PermissionRequest) -> Decision:
            with trio.CancelScope(shield=True):
                await released.wait()
            return "allow"

    def end_and_release(connection: Connection, tokens: tuple[Any, ...]) -> None:
        end(connection, tokens)
        released.set()

    end = Connection._end
    monkeypatch.setattr(Connection, "_end", end_and_release)
    for _ in range(8):  # which of the tasks that are ready together is first, is drawn
        released, log = trio.Event(), MemoryAudit()
        async with audited(ScriptedAgent(), log, AtOnce()) as session:
            with pytest.raises(trio_acp.TurnFailed):
                await session.prompt(f"{raw(1)}\nsleep 1; close")
        assert ["cancel"] == [record.decision for record in await log.list()]


PIECES = st.sampled_from(
    [
        "permission A",
        "permission B kinds=reject_always,allow_always",
        "permission C kinds=allow_once",
        "permission D kinds=reject_once",
        "cancel-own-request 0",
        "cancel-own-request 1",
        "sleep 1",
        "run-on",
        "ignore-cancel 2",
        "RAW",
        "UNKNOWN",
        "MALFORMED",
        "FLOOD",
    ]
)
TURNS = st.lists(
    st.tuples(st.lists(PIECES, max_size=5), st.sampled_from([None, 0.0, 0.5, 1.0, 1.5])), min_size=1, max_size=3
)
PLANS = st.lists(
    st.tuples(
        st.sampled_from(["allow", "deny", "cancel", Verdict(decision="allow", rule="r"), ValueError("no")]),
        st.sampled_from([0.0, 0.5, 1.0, 5.0]),
    ),
    min_size=1,
    max_size=4,
)


@given(turns=TURNS, plan=PLANS)
def test_every_answer_has_exactly_one_record(
    turns: list[tuple[list[str], float | None]], plan: list[tuple[Any, float]]
) -> None:
    """Whatever is asked, decided and cancelled, the log has as many of each decision as the agent was told."""
    agent, log = ScriptedAgent(), MemoryAudit()
    numbers = iter(range(10_000))

    def step(piece: str) -> str:
        match piece:
            case "RAW":
                return raw(next(numbers))
            case "UNKNOWN":
                return raw(next(numbers), "nobody")
            case "MALFORMED":
                return raw(next(numbers), sound=False)
            case "FLOOD":
                return "\n".join(raw(next(numbers)) for _ in range(20))
        return piece

    async def run() -> None:
        async with audited(agent, log, Policy(plan)) as session:
            for pieces, cancel in turns:
                with trio.move_on_after(50 if cancel is None else cancel):
                    await session.prompt("\n".join([*map(step, pieces), "say done"]))
            await trio.sleep(100)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    records = trio.run(log.list)
    assert told(agent) == Counter(record.decision for record in records)
    assert len(records) == len({record.id for record in records})


# -- where it goes ------------------------------------------------------------


class Listener(Instrument):
    def __init__(self, error: Exception | None = None) -> None:
        self.records: list[AuditRecord] = []
        self.error = error

    def record(self, record: TraceRecord) -> None:
        """Hear nothing of turns."""

    def audit(self, record: AuditRecord) -> None:
        self.records.append(record)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [None, OSError("full")])
@pytest.mark.parametrize("log", [None, MemoryAudit()])
async def test_the_instrument_hears_every_record(
    log: MemoryAudit | None, error: OSError | None, autojump_clock: trio.testing.MockClock
) -> None:
    """With an audit log or without one; what the instrument raises harms nothing."""
    listener = Listener(error)
    async with audited(ScriptedAgent(), log, instrument=listener) as session:
        await session.prompt("permission A; permission B")
    assert ["allow", "allow"] == [record.decision for record in listener.records]
    if log is not None:
        assert tuple(listener.records) == (await log.list())[-2:]


class Faulty(MemoryAudit):
    """Fails, or hangs, as the next of `plan` says."""

    def __init__(self, *plan: Exception | float) -> None:
        super().__init__()
        self.plan = list(plan)

    async def append(self, records: Sequence[AuditRecord]) -> None:
        fault = self.plan.pop(0) if self.plan else 0.0
        if isinstance(fault, Exception):
            raise fault
        await super().append(records)  # before it hangs: what was given up may have happened
        await trio.sleep(fault)


@pytest.mark.parametrize("faults", [(StoreError("full"),), (OSError("foreign"), 1000.0), (1000.0, 1000.0)])
async def test_a_log_that_fails_gets_the_records_later(
    faults: tuple[Exception | float, ...],
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No turn waits for it or ends otherwise; failures are logged and counted, and nothing is kept twice."""
    log = Faulty(*faults)
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}, audit=log, permissions=Policy()) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        assert trio_acp.Completed() == (await session.prompt("permission A; permission B")).outcome
        assert 0.0 == trio.current_time()
        await trio.sleep(100)
        assert 2 == len(await log.list())
        assert len(faults) == manager.statistics().audit_failures
    assert 2 == len(await log.list())
    assert "audit log did not take" in caplog.text


async def test_leaving_waits_for_a_log_that_hangs_a_bounded_time(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After `cleanup` seconds the rest is given up, and the log says how much that was."""
    async with audited(ScriptedAgent(), Faulty(*[1000.0] * 50)) as session:
        await session.prompt("permission A")
    assert trio_acp.Limits().cleanup == trio.current_time()
    assert "lacks its last 1 records" in caplog.text


async def test_answers_while_hanging_up_are_on_record(autojump_clock: trio.testing.MockClock) -> None:
    """A turn that leaving the manager stops has its open question on record."""
    log = MemoryAudit()
    async with audited(ScriptedAgent(), log, Policy([("allow", 100.0)])) as session, trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "permission A")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ["cancel"] == [record.decision for record in await log.list()]


def test_a_flood_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """What exceeds the buffer of a log that takes nothing is lost, and said to be."""

    async def never(records: Sequence[int]) -> None:
        await trio.sleep_forever()

    appender: Appender[int] = Appender("log", never, patience=1.0, most=3)
    assert [True, True, True, False, False] == [appender.add(number) for number in range(5)]
    assert 2 == appender.lost
    assert 1 == caplog.text.count("does not keep up")


# -- the logs -----------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AuditLog]:
    """Return what makes logs that were not entered yet."""
    if request.param == "memory":
        return MemoryAudit
    return functools.partial(SQLiteAudit, tmp_path / "sessions.db")


async def test_a_log_keeps_the_first_of_each_id_in_order(make: Callable[[], AuditLog]) -> None:
    """Appending twice keeps once, and changes nothing of what is kept."""
    async with make() as log:
        assert () == await log.list()
        await log.append([BARE, ONE])
        await log.append([attrs.evolve(ONE, decision="deny"), attrs.evolve(ONE, id="3")])
        await log.append([])
        assert (BARE, ONE, attrs.evolve(ONE, id="3")) == await log.list()
        assert (ONE, attrs.evolve(ONE, id="3")) == await log.list(session="k")
        assert () == await log.list(session="other")


async def test_the_table_refuses_to_forget(tmp_path: Path) -> None:
    """No statement changes, deletes or replaces a record."""
    path = tmp_path / "sessions.db"
    async with SQLiteAudit(path) as log:
        await log.append([ONE])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("UPDATE audit SET decision = 'deny'", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        connection.execute(
            "INSERT OR REPLACE INTO audit SELECT number, '9', 0, 1, 2, 'b', 'm', NULL, NULL, NULL, "
            "event, 'deny', rule, title_sha256 FROM audit"
        )
    async with SQLiteAudit(path) as log:
        assert (ONE,) == await log.list()


async def test_a_retention_drops_what_is_too_old_and_nothing_else(tmp_path: Path) -> None:
    """Older records are never shown; the first append deletes them; whoever else deletes is refused as before."""
    path, now = tmp_path / "sessions.db", 1000.0
    old, edge = attrs.evolve(ONE, id="old", time=899.0), attrs.evolve(ONE, id="edge", time=900.0)
    async with SQLiteAudit(path) as log:
        await log.append([old, edge])
    async with SQLiteAudit(path, retention=100.0, wall_clock=lambda: now) as log:
        assert (edge,) == await log.list()
        with closing(sqlite3.connect(path)) as connection:
            assert [(2,)] == connection.execute("SELECT count(*) FROM audit").fetchall()
        await log.append([attrs.evolve(ONE, id="new", time=now)])
        now += 3599
        await log.append([attrs.evolve(ONE, id="newer", time=now)])
        assert ["newer"] == [record.id for record in await log.list()]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        kept = "SELECT id FROM audit ORDER BY number"
        assert [("edge",), ("new",), ("newer",)] == connection.execute(kept).fetchall()
        for statement in ("UPDATE audit SET time = 0", "DELETE FROM audit WHERE time < 901"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    now += 1
    async with SQLiteAudit(path, retention=100.0, wall_clock=lambda: now) as log:
        await log.append([])
    async with SQLiteAudit(path) as log:
        assert ["newer"] == [record.id for record in await log.list()]


async def test_a_sweep_that_fails_leaves_records_and_guards(tmp_path: Path) -> None:
    """Deleting and appending are one transaction: whatever fails, the table is as it was, and refuses as before."""
    path = tmp_path / "sessions.db"
    async with SQLiteAudit(path) as log:
        await log.append([ONE])
    async with SQLiteAudit(path, retention=1.0) as log:
        with pytest.raises(StoreError):
            await log.append([attrs.evolve(ONE, id="2", owner=attrs.evolve(OWNER, pid=2**70))])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute("DELETE FROM audit")
        assert [("1",)] == connection.execute("SELECT id FROM audit").fetchall()


@pytest.mark.parametrize("retention", [0, -1, float("nan")])
def test_a_retention_that_cannot_be_is_refused(retention: float, tmp_path: Path) -> None:
    """It must be more than 0 seconds."""
    with pytest.raises(trio_acp.InvalidOption, match="retention must be more than 0"):
        SQLiteAudit(tmp_path / "sessions.db", retention=retention)


async def test_what_a_file_cannot_hold_is_replaced(tmp_path: Path) -> None:
    """Halves of surrogate pairs keep no record from being written."""
    async with SQLiteAudit(tmp_path / "sessions.db") as log:
        await log.append([attrs.evolve(ONE, session="k\ud800", rule="\udfff")])
        [record] = await log.list()
    assert ("k?", "?") == (record.session, record.rule)
    assert 64 == len(sha256_of("\ud800"))


async def test_a_real_turn_is_audited_in_the_store_of_its_session(tmp_path: Path) -> None:
    """Store, ledger and audit share one file."""
    path = tmp_path / "sessions.db"
    store = trio_acp.SQLiteStore(path)
    async with audited(ScriptedAgent(), SQLiteAudit(path), store=store) as session:
        await session.prompt("permission A")
    with closing(sqlite3.connect(path)) as connection:
        assert [("k", "allow")] == connection.execute("SELECT session, decision FROM audit").fetchall()
        assert [("k",)] == connection.execute("SELECT key FROM sessions").fetchall()
