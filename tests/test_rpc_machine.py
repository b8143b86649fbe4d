"""JSON-RPC bookkeeping against an oracle, in any order of events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_acp._errors import ConnectionLost
from trio_acp.acp.rpc import (
    AnswerWith,
    ErrorArrived,
    Ignored,
    NotificationArrived,
    PeerState,
    RequestArrived,
    ResponseArrived,
    RpcPeer,
)

OUR_IDS = st.integers(0, 6)  # few, so that responses meet requests, open and answered ones
THEIR_IDS = st.sampled_from([0, 1, 2, "0", "1", "a"])


class RpcMachine(RuleBasedStateMachine):
    """Drives a peer; the oracle knows what is pending and owed, as plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.peer: RpcPeer[int] = RpcPeer()
        self.issued = 0
        self.pending: list[int] = []
        self.owed: list[int | str] = []
        self.settled: list[int] = []
        self.state = PeerState.OPEN

    @property
    def ended(self) -> bool:
        return self.state in (PeerState.CLOSED, PeerState.BROKEN)

    @rule()
    def request(self) -> None:
        """Ours; the token is the id, so that a mix-up shows."""
        if self.state is not PeerState.OPEN:
            with pytest.raises(ConnectionLost):
                self.peer.request("m", self.issued + 1)
            return
        self.issued += 1
        request_id = self.peer.request("m", self.issued)
        assert self.issued == request_id
        self.pending.append(request_id)

    @rule(request_id=OUR_IDS)
    def forget(self, request_id: int) -> None:
        """A request that was never sent is withdrawn, if it is pending."""
        assert (request_id in self.pending) == self.peer.forget(request_id)
        if request_id in self.pending:
            self.pending.remove(request_id)
            self.settled.append(request_id)

    @rule(request_id=OUR_IDS, good=st.booleans())
    def response(self, request_id: int, good: bool) -> None:
        """A response resolves exactly the request that it names, if that is pending."""
        answer: dict[str, Any] = {"result": {}} if good else {"error": {"code": 1, "message": "x"}}
        arrived = self.peer.receive_decoded({"jsonrpc": "2.0", "id": request_id} | answer)
        if request_id in self.pending:
            assert isinstance(arrived, ResponseArrived if good else ErrorArrived)
            assert request_id == arrived.token
            self.pending.remove(request_id)
            self.settled.append(request_id)
        else:
            known = 0 < request_id <= self.issued
            kind = "ended" if self.ended else "duplicate-response" if known else "unknown-response"
            assert isinstance(arrived, Ignored)
            assert kind == arrived.kind

    @rule(request_id=THEIR_IDS)
    def incoming(self, request_id: int | str) -> None:
        """Theirs; an id that is still open is refused and changes nothing."""
        arrived = self.peer.receive_decoded({"jsonrpc": "2.0", "id": request_id, "method": "x"})
        if self.ended:
            assert Ignored("ended") == arrived
        elif request_id in self.owed:
            assert isinstance(arrived, AnswerWith)
            assert (arrived.kind, arrived.message["id"]) == ("duplicate-id", None)
        else:
            assert RequestArrived(request_id, "x", None) == arrived
            self.owed.append(request_id)

    @rule(request_id=THEIR_IDS, good=st.booleans())
    def reply(self, request_id: int | str, good: bool) -> None:
        """A request gets one reply, under its own id; there is none for what is not open."""
        message = self.peer.reply(request_id, {}) if good else self.peer.reply_error(request_id, 1, "x")
        if request_id in self.owed:
            assert message is not None
            assert (request_id, type(request_id)) == (message["id"], type(message["id"]))
            self.owed.remove(request_id)
        else:
            assert message is None

    @rule()
    def notification(self) -> None:
        """A notification changes nothing in either direction."""
        arrived = self.peer.receive_decoded({"jsonrpc": "2.0", "method": "n"})
        assert (Ignored("ended") if self.ended else NotificationArrived("n", None)) == arrived

    @rule(text=st.sampled_from(["x", "[]", "3", "{}", '{"jsonrpc":"2.0","error":{}}']))
    def garbage(self, text: str) -> None:
        """Bad input changes nothing."""
        arrived = self.peer.receive(text)
        assert isinstance(arrived, Ignored if self.ended or "error" in text else AnswerWith)

    @rule()
    def start_closing(self) -> None:
        """Closing begins, if it is open."""
        self.peer.start_closing()
        if self.state is PeerState.OPEN:
            self.state = PeerState.CLOSING

    @rule(broken=st.booleans(), really=st.integers(0, 3))
    def end(self, broken: bool, really: int) -> None:
        """The end, now and then: everything that is pending comes back, once."""
        if really:
            return
        tokens = self.peer.break_(ConnectionLost("gone")) if broken else self.peer.close()
        assert tuple(self.pending) == tokens
        if not self.ended:
            self.state = PeerState.BROKEN if broken else PeerState.CLOSED
        self.settled += tokens
        self.pending.clear()
        self.owed.clear()

    @invariant()
    def agrees(self) -> None:
        """The peer and the oracle know the same."""
        assert self.state is self.peer.state
        assert self.pending == list(self.peer.pending)
        assert self.owed == list(self.peer.open_requests)

    @invariant()
    def every_request_is_settled_once(self) -> None:
        """Each request ever made is either pending or settled, and that once."""
        assert list(range(1, self.issued + 1)) == sorted(self.pending + self.settled)


TestRpcMachine = RpcMachine.TestCase
TestRpcMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
