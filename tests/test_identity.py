"""By which ids a session is known: each rule by example, and all of them against an oracle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_acp import Identity
from trio_acp._identity import (
    fits,
    from_ensure,
    from_event,
    from_status,
    ids_of,
    is_pending,
    merge,
    normalise,
    resume_id,
    tells_more,
)
from trio_acp.abc import Handle, RuntimeStatus

if TYPE_CHECKING:
    from trio_acp._records import IdentitySource, IdentityState

NOW = 100.0


def known(
    state: IdentityState,
    session: str | None = None,
    agent: str | None = None,
    record: str | None = None,
    source: IdentitySource = "ensure",
    updated: float = 1.0,
) -> Identity:
    return Identity(
        state=state, session_id=session, agent_session_id=agent, record_id=record, source=source, updated=updated
    )


def same(expected: Identity | None, actual: Identity | None) -> bool:
    """Equal, time stamps included."""
    times = [identity and identity.updated for identity in (expected, actual)]
    return expected == actual and times[0] == times[1]


# -- the table ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "observed", "expected"),
    [
        (None, None, None),
        (None, known("pending", "s"), known("pending", "s", updated=NOW)),
        (None, known("resolved", "s", source="status"), known("resolved", "s", source="status", updated=NOW)),
        (known("resolved", "s"), None, known("resolved", "s")),
        (known("pending", record="r"), None, known("pending", record="r")),
        # What is not confirmed replaces nothing that is.
        (
            known("resolved", "s", "a", source="status"),
            known("pending", "t", "b"),
            known("resolved", "s", "a", source="status", updated=NOW),
        ),
        (
            known("resolved", "s", source="event"),
            known("pending", agent="b"),
            known("resolved", "s", source="event", updated=NOW),
        ),
        # Each id on its own; an id makes it resolved.
        (known("pending", "s"), known("pending", "s"), known("resolved", "s", updated=NOW)),
        (
            known("pending", "s", record="r"),
            known("pending", agent="a", source="event"),
            known("resolved", "s", "a", "r", source="event", updated=NOW),
        ),
        (
            known("resolved", "s", "a"),
            known("resolved", "t", source="status"),
            known("resolved", "t", "a", source="status", updated=NOW),
        ),
        # A record id resolves nothing.
        (known("pending", record="r"), known("pending", record="r"), known("pending", record="r", updated=NOW)),
        (known("resolved"), known("resolved", source="status"), known("resolved", source="status", updated=NOW)),
        (known("pending"), known("resolved", record="r"), known("resolved", record="r", updated=NOW)),
        # Another record: another session.
        (
            known("resolved", "s", "a", "r"),
            known("pending", "t", None, "q"),
            known("pending", "t", None, "q", updated=NOW),
        ),
        (
            known("pending", "s", None, "r"),
            known("resolved", None, "b", "q", source="event"),
            known("resolved", None, "b", "q", source="event", updated=NOW),
        ),
        (known("resolved", "s", None, "r"), known("resolved", "t"), known("resolved", "t", None, "r", updated=NOW)),
        (known("resolved", "s"), known("pending", "t", None, "q"), known("resolved", "s", updated=NOW)),
    ],
)
def test_a_merge(current: Identity | None, observed: Identity | None, expected: Identity | None) -> None:
    """The table of `_identity`, row by row."""
    actual = merge(current, observed, NOW)
    assert same(expected, actual), actual


# -- observations -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "ensured", "heard", "told"),
    [
        ({}, None, None, None),
        ({"record_id": "r"}, "pending", "pending", "pending"),
        ({"session_id": "s"}, "pending", "pending", "resolved"),
        ({"agent_session_id": "a"}, "pending", "resolved", "resolved"),
        ({"session_id": " s ", "agent_session_id": "a", "record_id": "r"}, "pending", "resolved", "resolved"),
        ({"session_id": " ", "agent_session_id": ""}, None, None, None),
    ],
)
def test_an_observation(ids: dict[str, Any], ensured: Any, heard: Any, told: Any) -> None:
    """Opening confirms nothing; the handle does with the agent's own id; the runtime's answer with any stable id."""
    handle = Handle(key="k", **ids)
    facts: dict[str, Any] = {"updated": NOW, **{name: value.strip() for name, value in ids.items()}}
    for identity, state, source in (
        (from_ensure(handle, NOW), ensured, "ensure"),
        (from_event(handle, NOW), heard, "event"),
        (from_status(RuntimeStatus(summary="", **ids), NOW), told, "status"),
    ):
        assert same(None if state is None else Identity(**{**facts, "state": state, "source": source}), identity)


def test_ids_among_the_details_of_a_status() -> None:
    """They count where the status has none of its own; what is no text does not."""
    details: dict[str, Any] = {"session_id": "d", "agent_session_id": " e ", "record_id": 5}
    status = RuntimeStatus(summary="", session_id="s", details=details)
    assert same(known("resolved", "s", "e", source="status", updated=NOW), from_status(status, NOW))
    assert None is from_status(None, NOW)


def test_a_handle_tells_when_its_ids_have_changed() -> None:
    """An id may be assigned later; the rest of a handle may not."""
    handle = Handle(key="k", session_id="s")
    before = ids_of(handle)
    handle.agent_session_id = "a"
    assert (("s", None, None), ("s", "a", None)) == (before, ids_of(handle))
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        handle.key = "l"


# -- what is known ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (None, None),
        (known("resolved", " s ", "", " "), known("resolved", "s")),
        (known("pending", updated=math.nan), known("pending", updated=NOW)),
        (known("pending", "s", updated=math.inf), known("pending", "s", updated=NOW)),
    ],
)
def test_normalising(identity: Identity | None, expected: Identity | None) -> None:
    """An id that says nothing is none, and a time that is none is now."""
    assert same(expected, normalise(identity, NOW))


def test_nobody_is_pending() -> None:
    """Pending is what nobody confirmed, so also what is not there."""
    assert [True, True, False] == [is_pending(i) for i in (None, known("pending", "s"), known("resolved"))]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (None, None),
        (known("pending", "s", "a", "r"), "s"),
        (known("resolved", None, "a", "r"), "a"),
        (known("resolved", " ", "a"), "a"),
        (known("resolved", record="r"), None),
    ],
)
def test_the_id_to_resume_by(identity: Identity | None, expected: str | None) -> None:
    """The ACP session id, else the agent's, whatever the state; never the record's."""
    assert expected == resume_id(identity)


@pytest.mark.parametrize(
    ("ours", "stored", "expected"),
    [
        (None, known("resolved", "s"), True),
        (known("resolved", "s"), None, True),
        (known("pending", "s"), known("resolved", "s", "a"), True),
        (known("resolved", "s", "a"), known("resolved", "s", "b"), False),
        (known("resolved", "s"), known("resolved", "t"), False),
        (known("resolved", "s", record="r"), known("resolved", "s", record="q"), False),
        (known("resolved", "s"), known("resolved", agent="a"), True),
    ],
)
def test_what_fits(ours: Identity | None, stored: Identity | None, expected: bool) -> None:
    """Two identities are of one session unless an id that both have differs."""
    assert expected == fits(ours, stored) == fits(stored, ours)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (known("resolved", "s", source="status", updated=2), False),
        (known("resolved", "s", "a"), True),
        (known("pending", "s"), True),
        (None, True),
    ],
)
def test_what_is_worth_a_write(after: Identity | None, expected: bool) -> None:
    """An id, or the state; not the source alone, nor the time."""
    before = known("resolved", "s")
    assert (expected, expected) == (tells_more(before, after), tells_more(after, before))
    assert not tells_more(None, None)


# -- all together -----------------------------------------------------------------

ID = st.sampled_from([None, "x", "y"])
Facts: TypeAlias = dict[str, Any]


class IdentityMachine(RuleBasedStateMachine):
    """Observations of one session in any order, against a history that is read anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.identity: Identity | None = None
        self.history: list[Facts] = []
        self.clock = 0.0

    def observe(self, identity: Identity | None, source: str, ids: tuple[str | None, ...], *, confirmed: bool) -> None:
        self.clock += 1
        self.identity = merge(self.identity, identity, self.clock)
        if any(ids):
            self.history.append({"source": source, "confirmed": confirmed, "ids": ids, "time": self.clock})

    @rule(session=ID, agent=ID, record=ID)
    def ensure(self, session: str | None, agent: str | None, record: str | None) -> None:
        handle = Handle(key="k", session_id=session, agent_session_id=agent, record_id=record)
        self.observe(from_ensure(handle, self.clock), "ensure", (session, agent, record), confirmed=False)

    @rule(session=ID, agent=ID, record=ID)
    def event(self, session: str | None, agent: str | None, record: str | None) -> None:
        handle = Handle(key="k", session_id=session, agent_session_id=agent, record_id=record)
        self.observe(from_event(handle, self.clock), "event", (session, agent, record), confirmed=agent is not None)

    @rule(session=ID, agent=ID, record=ID)
    def status(self, session: str | None, agent: str | None, record: str | None) -> None:
        told = RuntimeStatus(summary="", session_id=session, agent_session_id=agent, record_id=record)
        confirmed = session is not None or agent is not None
        self.observe(from_status(told, self.clock), "status", (session, agent, record), confirmed=confirmed)

    @rule()
    def begin_anew(self) -> None:
        """What a failed resume does: everything known is stale."""
        self.identity = None
        self.history.clear()

    def replayed(self) -> tuple[bool, list[str | None], str] | None:
        """Read the history: whether it is resolved, the ids, and who said so last."""
        taken: list[Facts] = []
        resolved = False
        for fact in self.history:
            records = [earlier["ids"][2] for earlier in taken if earlier["ids"][2]]
            if records and fact["ids"][2] and fact["ids"][2] != records[-1]:
                taken, resolved = [], False  # another session
            if resolved and not fact["confirmed"]:
                continue
            taken.append(fact)
            # The first observation stands as it is; a second one that finds a stable id confirms it.
            stable = any(earlier["ids"][0] or earlier["ids"][1] for earlier in taken)
            resolved = resolved or fact["confirmed"] or (len(taken) > 1 and stable)
        if not taken:
            return None
        newest = [next((f["ids"][i] for f in reversed(taken) if f["ids"][i]), None) for i in range(3)]
        return resolved, newest, taken[-1]["source"]

    @invariant()
    def it_is_what_the_history_says(self) -> None:
        expected = self.replayed()
        if expected is None:
            assert self.identity is None
            return
        assert self.identity is not None
        ids = [self.identity.session_id, self.identity.agent_session_id, self.identity.record_id]
        assert expected == (not is_pending(self.identity), ids, self.identity.source)
        assert self.history[-1]["time"] == self.identity.updated

    @invariant()
    def what_is_resumed_by_was_told(self) -> None:
        told = {value for fact in self.history for value in fact["ids"][:2]}
        assert resume_id(self.identity) in {None, *told}


TestIdentity = IdentityMachine.TestCase


@given(
    *[st.builds(known, st.sampled_from(["pending", "resolved"]), ID, ID, ID, st.sampled_from(["ensure", "status"]))] * 2
)
def test_merging_the_same_again_changes_nothing(current: Identity, observed: Identity) -> None:
    """Once taken in, an observation that comes again is no news, but that it may confirm what was pending."""
    once = merge(current, observed, NOW)
    twice = merge(once, observed, NOW)
    assert once is not None
    stable = once.session_id or once.agent_session_id
    assert twice == (attrs.evolve(once, state="resolved") if stable else once)
