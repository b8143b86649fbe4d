"""JSON-RPC bookkeeping, example by example."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_acp._errors import ConnectionLost, InvalidMessage, MessageTooLarge, RequestFailed
from trio_acp.acp import codec
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

V2: dict[str, Any] = {"jsonrpc": "2.0"}


def peer_with_request() -> RpcPeer[str]:
    """Make a peer with one unanswered request: id 1, method m, token t."""
    peer: RpcPeer[str] = RpcPeer()
    assert 1 == peer.request("m", "t")
    return peer


def test_a_response_resolves_its_request_once() -> None:
    """The first response brings the token back, the second is a duplicate."""
    peer = peer_with_request()
    text = codec.encode(V2 | {"id": 1, "result": {"x": 1}})

    assert peer.pending == {1: "m"}
    assert ResponseArrived("t", "m", {"x": 1}) == peer.receive(text)
    assert Ignored("duplicate-response") == peer.receive(text)
    assert peer.pending == {}


def test_an_error_response_is_the_agents_word() -> None:
    """An error response brings the token back with code, message and data."""
    peer = peer_with_request()

    arrived = peer.receive_decoded(V2 | {"id": 1, "error": {"code": -32000, "message": "no", "data": [1]}})

    assert isinstance(arrived, ErrorArrived)
    assert isinstance(arrived.error, RequestFailed)
    assert (arrived.token, arrived.error.method, arrived.error.rpc_code, arrived.error.data) == ("t", "m", -32000, [1])
    assert str(arrived.error) == "m: no (-32000)"


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"error": "no"}, "$.error"),
        ({"error": {"message": "no"}}, "$.error.code"),
        ({"error": {"code": "1", "message": "no"}}, "$.error.code"),
        ({"error": {"code": 1}}, "$.error.message"),
        ({"error": {"code": 1, "message": "no"}, "result": {}}, "$"),
        ({"error": None}, "$.result"),
        ({}, "$.result"),
    ],
)
def test_a_malformed_response_fails_its_request(members: dict[str, Any], path: str) -> None:
    """A response to a known request that is none fails the request, and says where it is wrong."""
    peer = peer_with_request()

    arrived = peer.receive_decoded(V2 | {"id": 1} | members)

    assert isinstance(arrived, ErrorArrived)
    assert isinstance(arrived.error, InvalidMessage)
    assert ("t", path) == (arrived.token, arrived.error.path)
    assert peer.pending == {}


@pytest.mark.parametrize("result", [{}, None, [], "x", 0])
def test_nulls_beside_an_answer_say_nothing(result: object) -> None:
    """Members that are null beside the result do not change what a message is."""
    arrived = peer_with_request().receive_decoded(V2 | {"id": 1, "result": result, "error": None, "method": None})

    assert ResponseArrived("t", "m", result) == arrived


def test_nulls_beside_a_method_say_nothing() -> None:
    """A request that carries a null result is still a request."""
    arrived = peer_with_request().receive_decoded(V2 | {"id": 1, "method": "x", "result": None, "error": None})

    assert RequestArrived(1, "x", None) == arrived


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (V2 | {"id": 9, "result": {}}, "unknown-response"),
        (V2 | {"id": 0, "result": {}}, "unknown-response"),
        (V2 | {"id": "1", "result": {}}, "unknown-response"),
        (V2 | {"id": 1.0, "result": {}}, "unknown-response"),
        (V2 | {"id": True, "result": {}}, "unknown-response"),
        (V2 | {"id": None, "error": {"code": 1, "message": "x"}}, "error-without-id"),
        (V2 | {"error": {"code": 1, "message": "x"}}, "error-without-id"),
        (V2 | {"result": {}}, "response-without-id"),
        ({"id": 1, "result": {}}, "not-json-rpc"),
        ({"error": "Batch JSON-RPC not supported"}, "not-json-rpc"),
        (V2 | {"id": 1, "method": "x", "result": {}}, "not-json-rpc"),
    ],
)
def test_what_looks_like_a_response_is_never_answered(message: dict[str, Any], kind: str) -> None:
    """A response that belongs to nothing is dropped, and leaves what is pending alone."""
    peer = peer_with_request()

    arrived = peer.receive_decoded(message)

    assert isinstance(arrived, Ignored)
    assert kind == arrived.kind
    assert peer.pending == {1: "m"}


@pytest.mark.parametrize(
    ("text", "kind", "code", "answered_id"),
    [
        ("nonsense", "parse-error", -32700, None),
        ("[" * 100_000, "parse-error", -32700, None),
        ('{"jsonrpc":"2.0","id":1,"method":"x"}\n{}', "parse-error", -32700, None),
        ("[]", "batch", -32600, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"x"},{"jsonrpc":"2.0","id":2,"method":"x"}]', "batch", -32600, None),
        ("3", "invalid-request", -32600, None),
        ("null", "invalid-request", -32600, None),
        ("{}", "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":77}', "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":true}', "invalid-request", -32600, None),
        ('{"id":5,"method":"x"}', "invalid-request", -32600, 5),
        ('{"jsonrpc":"1.0","id":"a","method":"x"}', "invalid-request", -32600, "a"),
        ('{"jsonrpc":"2.0","id":5,"method":3}', "invalid-request", -32600, 5),
        ('{"jsonrpc":"2.0","id":5,"method":"x","params":3}', "invalid-request", -32600, 5),
        ('{"jsonrpc":"2.0","method":"x","params":"y"}', "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":null,"method":"x"}', "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":1.5,"method":"x"}', "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":false,"method":"x"}', "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":[1],"method":"x"}', "invalid-request", -32600, None),
        ('{"jsonrpc":"2.0","id":1.5,"method":3}', "invalid-request", -32600, None),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else str(value),
)
def test_bad_input_gets_one_answer(text: str, kind: str, code: int, answered_id: int | str | None) -> None:
    """What is no message is answered once, with the id only where it is certain and free."""
    peer = peer_with_request()

    arrived = peer.receive(text)

    assert isinstance(arrived, AnswerWith)
    assert (kind, code) == (arrived.kind, arrived.message["error"]["code"])
    assert answered_id == arrived.message["id"]
    assert (peer.state, peer.pending, peer.open_requests) == (PeerState.OPEN, {1: "m"}, {})


@pytest.mark.parametrize("request_id", [0, 1, -5, 2**70, "1", "", "_qwen_perm_1"])
def test_an_incoming_request_gets_one_reply(request_id: int | str) -> None:
    """An id is echoed as it came, overlaps with ours, and is answered once."""
    peer = peer_with_request()

    assert RequestArrived(request_id, "x", {"p": 1}) == peer.receive_decoded(
        V2 | {"id": request_id, "method": "x", "params": {"p": 1}}
    )
    assert {request_id: "x"} == peer.open_requests
    assert V2 | {"id": request_id, "result": None} == peer.reply(request_id, None)
    assert peer.reply(request_id, None) is None
    assert peer.reply_error(request_id, -32603, "late") is None
    assert peer.pending == {1: "m"}


def test_an_error_reply_carries_its_data() -> None:
    """An error reply has a code, a message, and data if there are some."""
    peer: RpcPeer[None] = RpcPeer()
    for request_id in (1, 2):
        peer.receive_decoded(V2 | {"id": request_id, "method": "x"})

    assert peer.reply_error(1, -32601, "no") == V2 | {"id": 1, "error": {"code": -32601, "message": "no"}}
    assert peer.reply_error(2, 5, "no", 0) == V2 | {"id": 2, "error": {"code": 5, "message": "no", "data": 0}}


def test_a_duplicate_id_leaves_the_first_request_alone() -> None:
    """A second request under an open id is refused with id null; the first is still owed its reply."""
    peer: RpcPeer[None] = RpcPeer()
    peer.receive_decoded(V2 | {"id": 1, "method": "x"})
    peer.receive_decoded(V2 | {"id": "1", "method": "y"})

    arrived = peer.receive_decoded(V2 | {"id": 1, "method": "z"})

    assert isinstance(arrived, AnswerWith)
    assert (arrived.kind, arrived.message["id"]) == ("duplicate-id", None)
    assert arrived.message["error"]["data"] == {"id": 1}
    assert peer.open_requests == {1: "x", "1": "y"}
    malformed = peer.receive_decoded({"id": 1, "method": "z"})
    assert isinstance(malformed, AnswerWith)
    assert malformed.message["id"] is None


def test_an_id_is_free_again_after_its_reply() -> None:
    """After the reply the other side may use the id again."""
    peer: RpcPeer[None] = RpcPeer()
    for method in ("x", "y"):
        assert RequestArrived(1, method, None) == peer.receive_decoded(V2 | {"id": 1, "method": method})
        peer.reply(1, {})


def test_notifications_go_both_ways() -> None:
    """A notification has no id, and its params may be anything structured, or missing."""
    peer: RpcPeer[None] = RpcPeer()

    assert peer.notification("n", {}) == V2 | {"method": "n", "params": {}}
    assert NotificationArrived("$/x", None) == peer.receive_decoded(V2 | {"method": "$/x", "params": None})
    assert NotificationArrived("n", [1]) == peer.receive_decoded(V2 | {"method": "n", "params": [1]})


def test_a_forgotten_request_is_not_resolved() -> None:
    """A withdrawn request is gone: it resolves no more, and is withdrawn once."""
    peer = peer_with_request()

    assert peer.forget(1)
    assert not peer.forget(1)
    assert Ignored("duplicate-response") == peer.receive_decoded(V2 | {"id": 1, "result": {}})
    assert peer.close() == ()


def test_closing_still_takes_answers() -> None:
    """While closing nothing new is asked, but answers, replies and notifications go on."""
    peer = peer_with_request()
    peer.start_closing()
    peer.start_closing()

    assert PeerState.CLOSING is peer.state
    with pytest.raises(ConnectionLost) as caught:
        peer.request("m", "u")
    assert (caught.value.detail, caught.value.retryable) == ("closed", True)
    assert peer.notification("session/cancel", {}) == V2 | {"method": "session/cancel", "params": {}}
    assert ResponseArrived("t", "m", {}) == peer.receive_decoded(V2 | {"id": 1, "result": {}})


def test_a_broken_peer_fails_what_was_pending_and_nothing_resolves() -> None:
    """Breaking returns the pending tokens once, in order; then nothing resolves and nothing is sent."""
    peer = peer_with_request()
    peer.request("m", "u")
    peer.receive_decoded(V2 | {"id": 1, "method": "x"})
    reason = MessageTooLarge("65 MiB")

    assert peer.break_(reason) == ("t", "u")
    assert peer.break_(ConnectionLost("later")) == ()
    assert peer.close() == ()
    peer.start_closing()
    assert PeerState.BROKEN is peer.state
    assert Ignored("ended") == peer.receive('{"jsonrpc":"2.0","id":1,"result":{}}')
    assert Ignored("ended") == peer.receive_decoded(V2 | {"id": 1, "result": {}})
    assert peer.reply(1, {}) is None
    for send in (lambda: peer.request("m", "v"), lambda: peer.notification("m", {})):
        with pytest.raises(ConnectionLost, match="m was not sent: 65 MiB") as caught:
            send()
        assert reason is caught.value.__cause__
        assert caught.value.detail == "message-too-large"
    assert reason is peer.lost().__cause__


def test_repr_tells_the_state() -> None:
    """The repr shows the state and how much is open in both directions."""
    peer = peer_with_request()

    assert repr(peer) == "<RpcPeer open: 1 pending, 0 owed>"
    assert peer.close() == ("t",)
    assert repr(peer) == "<RpcPeer closed: 0 pending, 0 owed>"


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | SCALARS,
        "id": SCALARS,
        "method": SCALARS,
        "params": SCALARS | st.just({}),
        "result": SCALARS | st.just({}),
        "error": SCALARS | st.fixed_dictionaries({}, optional={"code": SCALARS, "message": SCALARS}),
    },
)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.lists(MESSAGES | SCALARS | st.lists(SCALARS, max_size=2), max_size=6), st.text(max_size=20))
def test_nothing_that_arrives_makes_receive_raise(messages: list[Any], text: str) -> None:
    """Whatever arrives is one of the documented kinds, answers can be sent, and responses are not answered."""
    peer = peer_with_request()
    for message in messages:
        arrived = peer.receive(codec.encode(message))
        if isinstance(arrived, AnswerWith):
            assert codec.decode(codec.encode(arrived.message)) == arrived.message
            if isinstance(message, dict):
                assert message.get("result") is None
                assert message.get("error") is None
        else:
            assert isinstance(message, dict)
    peer.receive(text)
