"""What the log says: whom a record is about, and frames without secrets."""

from __future__ import annotations

import copy
import io
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import given
from hypothesis import strategies as st

import trio_acp
from tests.acp_kit import managed
from tests.turn_kit import AwkwardStore, one_session
from trio_acp import TextDelta
from trio_acp._serving import serving
from trio_acp.abc import PermissionPolicy, PermissionRequest
from trio_acp.acp.frame_log import LoggedTransport, logged
from trio_acp.logs import MAX_FRAME, REDACTED, TRACE, JsonFormatter, SessionFilter, redact
from trio_acp.testing import FakeRuntime, Raise, Run, ScriptedAgent
from trio_acp.transports.memory import memory_transport_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio.testing import MockClock

    from trio_acp.abc import Decision, Transport

SECRET = "s3ntinel-1f0e"


class Kept(logging.Handler):
    """Keeps records, as a handler with the filter sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(SessionFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def whom(self, words: str) -> set[tuple[str, str]]:
        """Return whom the records with these words are about."""
        return {of(record) for record in self.records if words in record.getMessage()}


def of(record: logging.LogRecord) -> tuple[str, str]:
    """Return session and turn of a record."""
    return vars(record)["session"], vars(record)["turn"]


@contextmanager
def kept(level: int = TRACE) -> Iterator[Kept]:
    """Keep what is logged, by this package and by those whom it calls."""
    handler, root = Kept(), logging.getLogger()
    before = root.level, logging.getLogger("trio_acp").level
    root.addHandler(handler)
    logging.getLogger("trio_acp").setLevel(level)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        logging.getLogger("trio_acp").setLevel(before[1])


# -- whom a record is about -----------------------------------------------------------


def say(what: str) -> None:
    """Log as an application does, of its own."""
    logging.getLogger("application").warning(what)


class Talkative(PermissionPolicy):
    """Logs whenever it is asked."""

    async def decide(self, request: PermissionRequest) -> Decision:
        await trio.sleep(1)
        say(f"asked by {request.session}")
        return "deny"


async def test_each_session_has_its_own_records(autojump_clock: MockClock) -> None:
    """Two sessions on one connection: each record names the session and the turn that it is about, or none."""
    agent = ScriptedAgent()
    with kept() as log:
        async with managed(agent, permissions=Talkative()) as manager:
            turns: dict[str, str] = {}

            async def work(key: str) -> None:
                session = await manager.start_session(key, agent="agent", cwd="/repo")
                async with session.turn(f"permission {key}; say {key}-said; notify x/y; read-file x") as turn:
                    turns[session.key] = turn.request_id
                    say(f"the body of {key}")
                    async for _ in turn:
                        pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, "one")
                nursery.start_soon(work, "two")
    one, two = (next(key for key in turns if name in key) for name in ("one", "two"))
    for name, key in (("one", one), ("two", two)):
        assert {(key, turns[key])} == log.whom(f"asked by {key}")
        assert {(key, turns[key])} == log.whom(f"{name}-said")  # the prompt, and what came
        assert {("", "")} == log.whom(f"the body of {name}")  # a task of the application is its own
    assert {("", "")} == log.whom("tolerated from the agent: unknown-notification")
    assert {("", "")} == log.whom('"initialize"')
    answered = {of(record) for record in log.records if '"stopReason"' in record.getMessage()}
    assert set(turns.items()) == answered
    for method in ("session/new", "session/close"):  # which are about a session, and no turn
        assert {(one, ""), (two, "")} == log.whom(f'"{method}"')
    for part in ('"result": {"sessionId"', '"outcome": {"outcome"'):  # answers, theirs and ours
        assert {one, two} == {session for session, _ in log.whom(part)}


async def test_the_next_request_of_a_lane_has_its_own_records(autojump_clock: MockClock) -> None:
    """One actor serves requests of several callers: its records are about the one that it serves."""
    runtime = FakeRuntime([Run(lambda _: say("run")), TextDelta("x")])
    with kept() as log:
        async with (
            one_session(runtime) as (_manager, session),
            session.turn("a") as first,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(session.prompt, "b")
            async for _ in first:
                pass
    seen = [of(record) for record in log.records if record.getMessage() == "run"]
    assert [session.key] * 2 == [key for key, _ in seen]
    assert first.request_id == seen[0][1] != seen[1][1] != ""


async def test_failures_outside_of_a_turn_name_the_session(autojump_clock: MockClock) -> None:
    """What fails at the exit, and in an instrument that the caller's own task tells, is logged with its session."""
    store = AwkwardStore()
    runtime = FakeRuntime([TextDelta("x")], close=[Raise(ValueError("planted"))])

    class Deaf(trio_acp.abc.Instrument):
        def record(self, record: trio_acp.abc.TraceRecord) -> None:
            raise ValueError("planted")

    with kept() as log:
        async with one_session(runtime, store=store, instrument=Deaf()) as (_manager, session):
            async with session.turn("x") as turn:
                pass
            store.error_in_update = ValueError("planted")
            await session.prompt("x")
    assert {(session.key, "")} == log.whom("closing the session of")
    assert (session.key, turn.request_id) in log.whom("the instrument failed on admitted")
    assert {(session.key, "")} == log.whom("was not stored")
    assert {(session.key, "")} == log.whom("was not freed")
    assert ("", "") not in {of(record) for record in log.records if session.key in record.getMessage()}


def test_a_record_that_says_whom_it_is_about_is_left_alone() -> None:
    """What was given with `extra` stands."""
    record = logging.makeLogRecord({"session": "given", "turn": "too"})
    assert SessionFilter().filter(record)
    assert ("given", "too") == of(record)


def test_a_record_as_json() -> None:
    """One line of ASCII with what there is, and nothing that there is not."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SessionFilter())
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("a.b")  # noqa: LOG001 - one of its own, which nothing else sees
    logger.addHandler(handler)
    logger.warning("two\nlines \u202e %d", 3, extra={"turn": "t", "connection": 1})
    try:
        raise ValueError("planted")
    except ValueError:
        logger.exception("failed", stack_info=True)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert stream.getvalue().isascii()
    assert first.pop("time") > 0
    assert {
        "level": "WARNING",
        "logger": "a.b",
        "message": "two\nlines \u202e 3",
        "turn": "t",
        "connection": 1,
    } == first
    assert "ValueError: planted" in second["exception"]
    assert "test_a_record_as_json" in second["stack"]


# -- frames ---------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
SPECIAL = {"params", "result", "method", "mcpServers", "env", "headers", "url", "value", "authMethods", "methodId"}
others = st.dictionaries(st.text(max_size=8).filter(lambda name: name not in SPECIAL), json_values, max_size=3)
urls = st.sampled_from(
    [
        ("https://{}@host:1/p", "https://{}@host:1/p"),
        ("https://u:{}@host/p#f", "https://{}@host/p#f"),
        ("wss://[::1]:2/p?token={}", "wss://[::1]:2/p?{}"),
        ("http://host/p?a=1&b={}", "http://host/p?{}"),
        ("{}", "{}"),
        ("http://[{}", "{}"),
    ]
)


def leaf(secret: str, *, hidden: bool) -> str:
    """Return a secret, or what is to be in its place."""
    return REDACTED if hidden else secret


@st.composite
def variables(draw: Any) -> Callable[[bool], Any]:
    """Draw variables or headers: right ones, ones by name, and what has another form."""
    kind = draw(st.sampled_from(["list", "object", "text", "items"]))
    rest = [draw(others) for _ in range(draw(st.integers(0, 2)))]
    return lambda hidden: {
        "list": [{"name": "N", **other, "value": leaf(SECRET, hidden=hidden)} for other in rest],
        "object": {f"N{at}": leaf(SECRET, hidden=hidden) for at in range(len(rest))},
        "text": leaf(SECRET, hidden=hidden),
        "items": [leaf(f"N={SECRET}", hidden=hidden)],
    }[kind]


@st.composite
def holders(draw: Any, *, server: bool = False) -> Callable[[bool], dict[str, Any]]:
    """Draw what has variables or headers, and in its address a secret, if it is a server."""
    parts: dict[str, Callable[[bool], Any]] = {}
    for name in draw(st.sets(st.sampled_from(["env", "headers"]))):
        parts[name] = draw(variables())
    if server and draw(st.booleans()):
        plain, safe = draw(urls)
        parts["url"] = lambda hidden: (safe if hidden else plain).format(leaf(SECRET, hidden=hidden))
    other = draw(others)
    return lambda hidden: {**other, **{name: part(hidden) for name, part in parts.items()}}


@st.composite
def messages(draw: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw a message with secrets, and what is to be left of it."""
    kind = draw(st.sampled_from(["servers", "servers by name", "bare servers", "params", "authenticate", "methods"]))
    other, id_ = draw(others), draw(st.integers())
    method = draw(st.sampled_from(["session/new", "session/load", "session/fork", "terminal/create", "x"]))
    several = draw(st.lists(holders(server=True), min_size=1, max_size=3))
    holder = draw(holders())

    def build(hidden: bool) -> dict[str, Any]:
        secret = leaf(SECRET, hidden=hidden)
        items = [each(hidden) for each in several]
        match kind:
            case "servers":
                params: Any = {**other, "mcpServers": items}
            case "servers by name":
                params = {**other, "mcpServers": {f"s{at}": item for at, item in enumerate(items)}}
            case "bare servers":
                params = {**other, "mcpServers": secret}
            case "authenticate":
                params = {"methodId": "login", "_meta": secret if hidden else {"key": secret}, "x": secret}
                return {"id": id_, "method": "authenticate", "params": params}
            case "methods":
                return {"id": id_, "result": {**other, "authMethods": [holder(hidden)]}}
            case _:
                params = {**other, **holder(hidden)}
        return {"id": id_, "method": method, "params": params}

    return build(hidden=False), build(hidden=True)


@given(messages())
def test_secrets_are_redacted_by_position_and_nothing_else_is(drawn: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """What is left is the message with the mark where each secret was; the message itself is as before."""
    message, safe = drawn
    before = copy.deepcopy(message)
    assert safe == redact(message)
    assert [safe, 1] == redact([message, 1])
    assert before == message


@given(json_values | others.map(lambda params: {"method": "session/prompt", "params": params}))
def test_what_has_no_secret_position_survives(message: object) -> None:
    """Prompts, updates, and what is no message at all are logged as they are."""
    if not (isinstance(message, dict) and SPECIAL & message.keys() - {"method", "params"}):
        assert message == redact(message)


@given(st.dictionaries(st.sampled_from(sorted(SPECIAL)), json_values, max_size=5))
def test_redacting_never_fails(message: dict[str, Any]) -> None:
    """Whatever an agent sends, it can be logged; what was redacted once is not changed any more."""
    assert redact(message) == redact(redact(message))


@given(st.lists(messages(), max_size=4))
def test_no_planted_secret_reaches_the_log_at_trace_level(drawn: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Frames both ways, whole, cut or broken, at the lowest level: no record has the secret in any of its parts."""

    async def main() -> None:
        ours, theirs = memory_transport_pair()
        both = [LoggedTransport(each, lambda _: ("", "")) for each in (ours, theirs)]
        for message, _ in drawn:
            for text in (json.dumps(message), json.dumps(message)[:-1]):
                await both[0].send(text)
                assert text == await both[1].receive()

    with kept() as log:
        trio.run(main)
    assert 4 * len(drawn) == len(log.records)
    said = "".join(f"{JsonFormatter().format(record)} {vars(record)!r}" for record in log.records)
    assert SECRET not in said


async def told(*frames: str | bytes) -> list[str]:
    """Return what is logged of frames that arrive."""
    ours, theirs = memory_transport_pair()
    with kept() as log:
        transport = logged(ours, lambda _: ("", ""))
        for frame in frames:
            await (theirs.send(frame) if isinstance(frame, str) else theirs.send_bytes(frame))
            assert frame == await transport.receive()
    return [record.getMessage().partition(": ")[2] for record in log.records]


async def test_a_frame_is_cut_and_cannot_harm_a_terminal() -> None:
    """A long frame is cut and its length told; escapes are escaped; what is no text or no JSON is only counted."""
    long = json.dumps("x" * 10_000)
    assert [
        f"{long[:MAX_FRAME]}... [10002 characters]",
        '{"a": "\\u001b[2J\\u202e"}',
        "[3 bytes in a binary frame]",
        "[10 characters that are no JSON]",
        f"[{200_000} characters that are no JSON]",
    ] == await told(long, '{"a": "\\u001b[2J\u202e"}', b"abc", "not a JSON", "[" * 200_000)


async def test_frames_cost_nothing_unless_they_are_wanted() -> None:
    """At DEBUG level a connection has the very transport that it was given; the lower level has a name."""
    ours, theirs = memory_transport_pair()
    assert "TRACE" == logging.getLevelName(TRACE)
    with kept(logging.DEBUG):
        assert ours is logged(ours, lambda _: ("", ""))
    with kept(TRACE) as log:
        watched: Transport = logged(ours, lambda _: ("", ""))
        logging.getLogger("trio_acp").setLevel(logging.DEBUG)
        await watched.send("{}")
        assert "{}" == await theirs.receive()
        await watched.aclose()
    assert [] == log.records


async def test_what_is_remembered_of_unanswered_requests_is_bounded() -> None:
    """An agent that answers nothing costs no more than a thousand ids; an answer is about whom its request was."""
    ours, theirs = memory_transport_pair()
    watched = LoggedTransport(ours, lambda session: (session, "t"))
    with kept() as log:
        for number in range(1001):
            with serving(f"s{number}", "t"):
                await watched.send(json.dumps({"id": number, "method": "m"}))
        for number, answer in ((1, "method"), (True, "result"), *((n, "result") for n in (0, 1, 1000, 1000))):
            await theirs.send(json.dumps({"id": number, answer: "x"}))
            await watched.receive()
    nobody = ("", "")
    assert [("s1000", "t"), nobody, nobody, nobody, ("s1", "t"), ("s1000", "t"), nobody] == [
        of(record) for record in log.records[-7:]
    ]
