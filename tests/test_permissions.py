"""Which option says a decision, and what the policies decide."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.acp_kit import session_with
from trio_acp import AllowAll, ApproveReads, Ask, DenyAll, InvalidOption, Location, PermissionAnswered, ToolCall
from trio_acp._permissions import choose_option
from trio_acp.abc import PermissionOption, PermissionPolicy, PermissionRequest, Verdict
from trio_acp.testing import ScriptedAgent

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import Decision

KINDS = ("reject_always", "allow_always", "reject_once", "allow_once", "newer_kind")
ALL = [PermissionOption(id=kind, name="Allow", kind=kind) for kind in KINDS]


def request_for(*paths: str, kind: str = "read", cwd: str | None = "/repo", title: str = "t") -> PermissionRequest:
    call = ToolCall(id="1", title=title, kind=kind, locations=tuple(Location(path=path) for path in paths))
    return PermissionRequest(session="k", tool_call=call, options=tuple(ALL), cwd=cwd)


async def decision_of(policy: PermissionPolicy, request: PermissionRequest) -> str:
    verdict = await policy.decide(request)
    return verdict.decision if isinstance(verdict, Verdict) else verdict


# -- options ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "kinds", "expected"),
    [
        ("allow", None, "allow_once"),
        ("deny", None, "reject_once"),
        ("cancel", None, None),
        ("allow", {"allow_always", "reject_once"}, "allow_always"),
        ("deny", {"reject_always", "allow_once"}, "reject_always"),
        ("allow", {"reject_once", "newer_kind"}, None),
        ("deny", {"allow_once"}, None),
        ("deny", set(), None),
    ],
)
def test_an_option_is_chosen_by_its_kind(decision: Decision, kinds: set[str] | None, expected: str | None) -> None:
    """The mildest of the right kind, wherever it stands and whatever it is called; else none."""
    option = choose_option(decision, [option for option in ALL if kinds is None or option.kind in kinds])
    assert expected == (option.id if option else None)


OPTIONS = st.lists(
    st.builds(
        PermissionOption, id=st.text(max_size=3), name=st.text(max_size=5), kind=st.sampled_from((*KINDS, "allow"))
    )
)


@given(OPTIONS, st.sampled_from(("allow", "deny", "cancel")), st.booleans())
def test_a_decision_is_never_turned_round(options: list[PermissionOption], decision: Decision, always: bool) -> None:
    """Whatever an agent offers, denying chooses no option that allows, allowing none that rejects; cancelling none."""
    option = choose_option(decision, options, always=always)
    prefix = {"allow": "allow_", "deny": "reject_"}.get(decision)
    fitting = (
        [] if prefix is None else [option for option in options if option.kind in {f"{prefix}once", f"{prefix}always"}]
    )
    assert (option is None) is (fitting == [])
    assert option is None or option in fitting
    wanted = "always" if always else "once"
    assert option is None or option.kind.endswith(wanted) or all(other.kind == option.kind for other in fitting)


# -- the simple policies --------------------------------------------------------


async def test_the_two_simple_policies(caplog: pytest.LogCaptureFixture) -> None:
    """One denies everything; one allows everything, and says so in a warning."""
    assert "deny" == await decision_of(DenyAll(), request_for())
    assert [] == caplog.records
    assert "allow" == await decision_of(AllowAll(), request_for(kind="delete"))
    assert [logging.WARNING] == [record.levelno for record in caplog.records]


@pytest.mark.parametrize("answer", ["allow", "deny", "cancel"])
async def test_whoever_is_asked_decides(answer: Decision) -> None:
    """And gets the request as it came; a word of his own about it is kept."""
    asked: list[PermissionRequest] = []

    async def ask(request: PermissionRequest) -> Decision:
        await trio.lowlevel.checkpoint()
        asked.append(request)
        return answer

    async def ask_boss(request: PermissionRequest) -> Verdict:
        await trio.lowlevel.checkpoint()
        return Verdict(decision=answer, rule="the boss")

    request = request_for("/repo/a")
    assert Verdict(decision=answer, rule="asked") == await Ask(ask).decide(request)
    assert [request] == asked
    assert Verdict(decision=answer, rule="the boss") == await Ask(ask_boss).decide(request)


async def test_a_question_that_nobody_answers_is_cancelled(autojump_clock: MockClock) -> None:
    """At the timeout, the question is withdrawn and the request is cancelled; the turn goes on."""
    withdrawn: list[float] = []

    async def ask(request: PermissionRequest) -> Decision:
        try:
            await trio.sleep_forever()
        finally:
            withdrawn.append(trio.current_time())

    async with (
        session_with(ScriptedAgent(), permissions=Ask(ask, timeout=5)) as session,
        session.turn("permission Write; say on") as turn,
    ):
        (answer,) = [event async for event in turn if isinstance(event, PermissionAnswered)]
    assert ("cancel", None, "nobody answered within 5 s") == (answer.decision, answer.option_id, answer.rule)
    assert [5.0] == withdrawn
    assert turn.reply is not None
    assert turn.reply.text.endswith("on")


async def test_an_answer_after_the_timeout_allows_nothing(autojump_clock: MockClock) -> None:
    """Not even if whoever is asked takes no notice of being cancelled."""

    async def ask(request: PermissionRequest) -> Decision:
        with trio.CancelScope(shield=True):
            await trio.sleep(6)
        return "allow"

    verdict = await Ask(ask, timeout=5).decide(request_for())
    assert Verdict(decision="cancel", rule="nobody answered within 5 s") == verdict


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    """Anything else is refused at once."""
    with pytest.raises(InvalidOption):
        Ask(DenyAll().decide, timeout=timeout)


async def test_a_late_answer_is_dropped(autojump_clock: MockClock) -> None:
    """Who is asked when the turn is stopped is not asked any more, and nothing is allowed."""
    agent = ScriptedAgent()

    async def ask(request: PermissionRequest) -> Decision:
        with trio.move_on_after(10, shield=True):  # somebody clicks, too late
            await trio.sleep_forever()
        return "allow"

    async with session_with(agent, permissions=Ask(ask)) as session:
        with trio.move_on_after(1):
            await session.prompt("permission Write")
    (answer,) = (entry.params for entry in agent.log if entry.kind == "response")
    assert {"outcome": {"outcome": "cancelled"}} == answer
    assert [] == agent.violations


# -- reads --------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with links that lead out of it, and in; beside it, one whose name begins alike."""
    above = tmp_path_factory.mktemp("above")
    root = above / "repo"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").touch()
    (above / "repository").mkdir()
    (above / "secret").touch()
    (root / "out").symlink_to(above)
    (root / "in").symlink_to(root / "src")
    (root / "dangling").symlink_to(above / "nothing")
    (root / "loop").symlink_to(root / "loop")
    (root / "src" / "deep" / "er").mkdir(parents=True)
    (root / "deep").symlink_to(root / "src" / "deep" / "er")
    (above / "repository" / "sub").mkdir()
    (root / "far").symlink_to(above / "repository" / "sub")
    (above / "alias").symlink_to(root)
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{root}/src/a.py", True),
        ("{root}", True),
        ("{root}/", True),
        ("{root}/nothing/yet", True),
        ("{root}/in/a.py", True),
        ("{root}/src/../src/a.py", True),
        ("{above}/alias/src/a.py", True),
        ("{root}/../secret", False),
        ("{root}/src/../../secret", False),
        ("{root}/out/secret", False),
        ("{root}/dangling", False),
        ("{root}/in/../../secret", False),
        ("{root}/deep/../../secret", False),
        ("{root}/far/../a.py", False),
        ("{root}/loop", False),
        ("{root}/loop/../out/secret", False),
        ("//{root}/src/a.py", True),
        ("{root}/" + "x/" * 2100, False),
        ("{above}/repository/x", False),
        ("/etc/passwd", False),
        ("src/a.py", False),
        ("~/x", False),
        ("", False),
        ("{root}/\0", False),
        ("{root}/\ud800", False),
    ],
)
async def test_what_is_read_in_the_directory_is_allowed(tree: Path, path: str, expected: bool) -> None:
    """Links and ``..`` followed; what leads out of it, or is no absolute path, is not."""
    file = path.format(root=tree, above=tree.parent)
    inside = str(tree / "src" / "a.py")
    for cwd in (str(tree), str(tree.parent / "alias")):
        for files in ([file], [inside, file], [file, inside]):
            assert ("allow" if expected else "deny") == await decision_of(ApproveReads(), request_for(*files, cwd=cwd))


@pytest.mark.parametrize(
    "request_",
    [
        request_for("/repo/a", kind="edit"),
        request_for("/repo/a", kind="execute"),
        request_for("/repo/a", kind="READ"),
        request_for("/repo/a", cwd=None),
        request_for("/repo/a", cwd="repo"),
        request_for(),
    ],
    ids=["edit", "execute", "another case", "no directory", "relative directory", "no file"],
)
async def test_everything_else_is_left_to_the_other_policy(request_: PermissionRequest) -> None:
    """Another kind, no file, or no directory to be in."""
    asked: list[PermissionRequest] = []

    async def ask(request: PermissionRequest) -> Decision:
        await trio.lowlevel.checkpoint()
        asked.append(request)
        return "cancel"

    assert "cancel" == await decision_of(ApproveReads(Ask(ask)), request_)
    assert [request_] == asked


def test_a_call_that_names_too_much_is_nobodys_to_allow() -> None:
    """A list of files so long that looking at them would take for ever counts as unknown; so does a chain of links."""
    many = request_for(*(f"/repo/{number}" for number in range(257)))
    assert "deny" == trio.run(decision_of, ApproveReads(), many)
    assert "allow" == trio.run(decision_of, ApproveReads(), request_for(*(f"/repo/{number}" for number in range(256))))


async def test_a_chain_of_links_without_end_is_unknown(tmp_path: Path) -> None:
    """One that is longer than anything the system follows is left to the other policy, without an exception."""
    for number in range(1200):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    verdict = await ApproveReads().decide(request_for(str(tmp_path / "l0"), cwd=str(tmp_path)))
    assert Verdict(decision="deny", rule="everything is denied") == verdict


async def test_a_file_system_that_hangs_is_unknown(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 5 seconds the other policy decides; the thread that looks is left behind."""
    hangs = threading.Event()

    def realpath(path: str) -> str:
        hangs.wait(30)
        return path

    monkeypatch.setattr("trio_acp._reads.os.path.realpath", realpath)
    try:
        # The clock jumps only while no thread is at work, so it is moved by hand.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expire, autojump_clock)
            assert "deny" == await decision_of(ApproveReads(), request_for("/repo/a"))
        # It has a place of its own: were it one that all threads share, forty of them would stop everything.
        assert 0 == trio.to_thread.current_default_thread_limiter().borrowed_tokens
    finally:
        hangs.set()


async def _expire(clock: MockClock) -> None:
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(5)


PARTS = st.sampled_from(
    ("src", "a.py", "..", ".", "in", "out", "deep", "er", "far", "dangling", "loop", "", "new", "repo")
)


def meant(path: str) -> str | None:
    """Return the file that the system opens under a path, as it says itself; None if there is none."""
    try:
        descriptor = os.open(path, os.O_PATH)
    except OSError:
        return None
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)


def ways_to_read(path: str) -> tuple[str, str]:
    """Return a path as the system reads it, and as those read it who undo ``..`` first."""
    return path, os.path.normpath(path)


def is_below(path: str, root: Path) -> bool:
    """Whether a path is in a directory, links followed."""
    real = os.path.realpath(root)
    return os.path.commonpath([os.path.realpath(path), real]) == real


@given(parts=st.lists(PARTS, max_size=7))
async def test_no_way_leads_out_of_the_directory(parts: list[str], tree: Path) -> None:
    """What is allowed is in the directory, whether ``..`` is undone before links are followed or meanwhile."""
    path = "/".join((str(tree), *parts))
    ways = ways_to_read(path)
    inside = all(is_below(way, tree) for way in ways)
    decided = await decision_of(ApproveReads(), request_for(path, cwd=str(tree)))
    if "loop" in parts:
        assert decided == "deny" or inside
    else:
        assert ("allow" if inside else "deny") == decided
    if sys.platform == "linux" and decided == "allow":
        opened = [file for file in map(meant, ways) if file is not None]
        assert [] == [file for file in opened if not is_below(file, tree)]
