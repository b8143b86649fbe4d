"""A policy in a file: the first rule that matches decides."""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.acp_kit import session_with
from tests.test_permissions import decision_of, request_for
from trio_acp import Ask, InvalidOption, PermissionAnswered, Rule, RulePolicy, ToolCall
from trio_acp._rules import _KINDS
from trio_acp.abc import Decision, PermissionRequest, Verdict
from trio_acp.acp.leniency import CLOSED_SETS
from trio_acp.testing import ScriptedAgent

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = """\
default = "ask"

[[rules]]
action = "deny"
path = ["**/.git/**", "/etc/**"]

[[rules]]
action = "allow"
kind = ["read", "search"]
path = "**"

[[rules]]
action = "allow"
kind = "execute"
name = "pytest*"

[[rules]]
action = "ask"
kind = "execute"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(EXAMPLE)
    return path


async def yes(request: PermissionRequest) -> Decision:
    await trio.lowlevel.checkpoint()
    return "allow"


def test_the_example_of_the_docstring_is_this_one() -> None:
    """What the documentation shows can be read."""
    shown = [line.partition("#")[0].strip() for line in (RulePolicy.__doc__ or "").splitlines()]
    assert [line for line in EXAMPLE.splitlines() if line][:-3] == [line for line in shown if line in EXAMPLE and line]


@pytest.mark.parametrize(
    ("request_", "decision", "rule"),
    [
        (request_for("/repo/a"), "allow", "rule 2"),
        (request_for("/repo"), "allow", "rule 2"),
        (request_for("/repo/a", "/other/b"), "allow", "no rule matches: asked"),
        (request_for("/repo/x/.git/config"), "deny", "rule 1"),
        (request_for("/repo/.git/config"), "deny", "rule 1"),
        (request_for("/repo/a", "/etc/passwd"), "deny", "rule 1"),
        (request_for("/repo/x/../../etc/passwd"), "deny", "rule 1"),
        (request_for(kind="execute", title="pytest -x tests/a.py"), "deny", "rule 1"),
        (request_for("/repo", kind="execute", title="pytest -x tests/a.py"), "allow", "rule 3"),
        (request_for("/repo", kind="execute", title="rm -r /"), "allow", "rule 4: asked"),
        (request_for("/repo/a", kind="edit"), "allow", "no rule matches: asked"),
        (request_for("/repo/a", cwd=None), "deny", "rule 1"),
    ],
)
async def test_the_first_rule_that_matches_decides(
    file: Path, request_: PermissionRequest, decision: Decision, rule: str
) -> None:
    """All files have to match for an allow, one for a deny; a call that names none is not let off by its path."""
    policy = RulePolicy.from_file(file, ask=Ask(yes))
    assert Verdict(decision=decision, rule=rule) == await policy.decide(request_)


async def test_nobody_to_ask_means_no(file: Path) -> None:
    """Where a rule, or the default, asks and nobody can be asked, it is denied, and the rule says why."""
    verdict = await RulePolicy.from_file(file).decide(request_for("/repo/a", kind="edit"))
    assert Verdict(decision="deny", rule="no rule matches: nobody can be asked") == verdict


async def test_a_link_neither_widens_an_allow_nor_hides_from_a_deny(tmp_path: Path) -> None:
    """An allow looks at where a link leads; a deny there and at what was named."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "out").symlink_to("/etc")
    (tmp_path / "to_src").symlink_to(tmp_path / "src")
    allow = RulePolicy([Rule(action="allow", path=("src/**",))])
    (tmp_path / "alias").symlink_to(tmp_path / "kept")
    deny = RulePolicy([Rule(action="deny", path=("to_src/**", "/etc/**"))], default="ask", ask=Ask(yes))
    cwd = str(tmp_path)
    assert "allow" == await decision_of(allow, request_for(f"{cwd}/to_src/a", cwd=cwd))
    assert "deny" == await decision_of(allow, request_for(f"{cwd}/src/out/passwd", cwd=cwd))
    assert "deny" == await decision_of(deny, request_for(f"{cwd}/to_src/a", cwd=cwd))
    assert "deny" == await decision_of(deny, request_for(f"{cwd}/src/out/passwd", cwd=cwd))
    assert "deny" == await decision_of(deny, request_for(f"{cwd}/src/a", cwd=cwd))
    assert "allow" == await decision_of(deny, request_for(f"{cwd}/other/a", cwd=cwd))
    elsewhere = RulePolicy([Rule(action="deny", path=f"{cwd}/alias/*.key")], default="ask", ask=Ask(yes))
    assert "deny" == await decision_of(elsewhere, request_for(f"{cwd}/kept/a.key", cwd=cwd))
    assert "allow" == await decision_of(elsewhere, request_for(f"{cwd}/kept/a.txt", cwd=cwd))
    linked = RulePolicy([Rule(action="allow", path="src/out/**")])
    assert "deny" == await decision_of(linked, request_for("/etc/passwd", cwd=cwd))


async def test_nothing_in_the_directorys_name_is_a_pattern(tmp_path: Path) -> None:
    """A session in a directory named ``a*`` is allowed nothing in ``ab``."""
    for name in ("a*", "ab", "a?"):
        (tmp_path / name).mkdir()
    policy = RulePolicy([Rule(action="allow", path=("*",))])
    for name, other in (("a*", "ab"), ("a?", "ab")):
        cwd = str(tmp_path / name)
        assert "allow" == await decision_of(policy, request_for(f"{cwd}/x", cwd=cwd))
        assert "deny" == await decision_of(policy, request_for(str(tmp_path / other / "x"), cwd=cwd))


# -- an oracle ------------------------------------------------------------------

NAMES = st.sampled_from(("a", "b", "src", "x.py", "y.txt", ".git"))
FILES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/repo/" + "/".join(names)), max_size=3)
PATTERNS = st.sampled_from(
    ("**", "*", "*.py", "**/*.py", "src/**", "src/*", "**/.git/**", "a/?", "/repo/a/**", "/other/**")
)
RULES = st.lists(
    st.builds(
        Rule,
        action=st.sampled_from(("allow", "deny", "ask")),
        kind=st.none() | st.sampled_from(("read", "edit")),
        name=st.none() | st.sampled_from(("t*", "*/x", "other")),
        path=st.none() | st.lists(PATTERNS, min_size=1, max_size=2),
    ),
    max_size=4,
)


def fits(pattern: list[str], names: list[str]) -> bool:
    """Match names one by one: the slow way, and the obvious one."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(fits(pattern[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and fits(pattern[1:], names[1:])


def expected(rules: list[Rule], request: PermissionRequest) -> str:
    """Decide as the documentation says, rule by rule."""
    call = request.tool_call
    files = [location.path for location in call.locations]
    for rule in rules:
        if rule.kind and call.kind not in rule.kind:
            continue
        if rule.name and not any(fnmatch.fnmatchcase(call.title, name) for name in rule.name):
            continue
        if rule.path:
            patterns = [(p if p.startswith("/") else f"/repo/{p}").split("/") for p in rule.path]
            hits = [any(fits(pattern, file.split("/")) for pattern in patterns) for file in files]
            if rule.action == "allow" and not (hits and all(hits)):
                continue
            if rule.action != "allow" and hits and not any(hits):
                continue
        return rule.action
    return "deny"


@given(RULES, FILES, st.sampled_from(("read", "edit")), st.sampled_from(("t/x", "test", "u")))
async def test_rules_mean_what_the_documentation_says(
    rules: list[Rule], files: list[str], kind: str, title: str
) -> None:
    """Against an oracle that takes paths apart instead of translating patterns."""

    async def ask(request: PermissionRequest) -> Decision:
        await trio.lowlevel.checkpoint()
        return "cancel"  # stands for "ask"

    request = request_for(*files, kind=kind, title=title)
    decided = await decision_of(RulePolicy(rules, ask=Ask(ask)), request)
    assert {"cancel": "ask"}.get(decided, decided) == expected(rules, request)


# -- files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("default = 3", "default: must be 'deny' or 'ask', not 3"),
        ("default = 'allow'", "default: must be 'deny' or 'ask', not 'allow'"),
        ("defaults = 'ask'", "unknown key 'defaults' (known: default, rules)"),
        ("rules = 3", "rules must be tables: [[rules]]"),
        ("[rules]\naction = 'deny'", "rules must be tables: [[rules]]"),
        ("[[rules]]\nkind = 'read'", "rule 1: action: is missing"),
        ("[[rules]]\naction='deny'\n[[rules]]\naction = 'permit'", "rule 2: action: must be one of allow, deny, ask"),
        ("[[rules]]\naction = 'deny'\npaths = 'a'", "rule 1: unknown key 'paths' (known: action, kind, name, path)"),
        ("[[rules]]\naction = 'deny'\nkind = 3", "rule 1: kind: must be a text or a list of texts, not 3"),
        ("[[rules]]\naction = 'deny'\nname = ['a', 3]", "rule 1: name: must be a text or a list of texts"),
        ("[[rules]]\naction = 'deny'\npath = ''", "rule 1: path: must be a text or a list of texts, not ['']"),
        ("[[rules]]\naction = 'deny'\npath = []", "rule 1: path: is an empty list, which matches nothing"),
        ("[[rules]]\naction = 'deny'\nkind = ['read', 'raed']", "rule 1: kind: there is no 'raed' (known: read, edit"),
        ("[[rules]]\naction = ['deny']", "rule 1: action: must be one of allow, deny, ask, not ['deny']"),
        ("[[rules]]\naction = 'deny'\npath = '../x'", "rule 1: path: '../x': no path has '..' left"),
        (
            "[[rules]]\naction = 'deny'\npath = 'secret/'",
            "rule 1: path: 'secret/': it ends with '/'; write 'secret/**'",
        ),
        ("[[rules]]\naction = 'deny'\npath = 'a**'", "rule 1: path: 'a**': '**' stands for whole directories"),
        (
            "[[rules]]\naction = 'deny'\npath = '~no-such-user/x'",
            "rule 1: path: '~no-such-user/x': there is no such user",
        ),
        ('[[rules]]\naction = "deny"\npath = "a\\u0000"', "no path has a NUL in it"),
        ("[[rules]]\naction = 'deny'\n[rules.when]\nx = 1", "rule 1: unknown key 'when'"),
        ("default = ['ask']", "default: must be 'deny' or 'ask', not ['ask']"),
        ("[[rules]\n", "line 1"),
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "codec"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, content: str | bytes | None, complaint: str) -> None:
    """The message names the file, the rule and the key."""
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidOption) as caught:
        RulePolicy.from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


def test_a_rule_in_code_is_checked_as_one_in_a_file_is() -> None:
    """One pattern may stand without a tuple, and is not taken for its characters; no pattern at all is refused."""
    assert Rule(action="allow", path=("**",)) == Rule(action="allow", path="**")
    for wrong in ({"path": ()}, {"kind": "raed"}, {"action": "permit"}, {"name": ("",)}, {"path": (3,)}):
        arguments: dict[str, Any] = {"action": "allow", **wrong}
        with pytest.raises(InvalidOption, match=f"^{next(iter(wrong))}: "):
            Rule(**arguments)


async def test_dots_and_the_home_directory_in_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """``./x`` is ``x``; ``~`` is the user's home; ``./~`` is a file of that name; and ``[`` is itself."""
    monkeypatch.setenv("HOME", "/people/me")
    for pattern, file in (
        ("./x/*", "/repo/x/a"),
        ("~/x", "/people/me/x"),
        ("./~root/x", "/repo/~root/x"),
        ("a[b]/*", "/repo/a[b]/c"),
        (".", "/repo"),
        ("/", "/"),
        ("/**", "/etc/passwd"),
    ):
        rules: list[Rule] = [Rule(action="deny", path=pattern), Rule(action="allow")]
        assert "deny" == await decision_of(RulePolicy(rules), request_for(file))
        assert "allow" == await decision_of(RulePolicy([Rule(action="allow", path=pattern)]), request_for(file))
        other = request_for("/other/b/c")
        assert ("deny" if pattern == "/**" else "allow") == await decision_of(RulePolicy(rules), other)


async def test_a_title_costs_no_more_than_its_length() -> None:
    """However an agent makes up titles and paths, matching them does not keep the program from its work."""
    rules = [
        Rule(action="deny", name="*rm*-rf*/*x*y*z"),
        Rule(action="deny", path="**/a/**/a/**/a/**/a/**/b"),
        Rule(action="allow"),
    ]
    request = request_for("/repo" + "/a" * 2000, title="rm -rf /xy" * 20_000)
    began = time.perf_counter()
    assert "allow" == await decision_of(RulePolicy(rules), request)
    assert time.perf_counter() - began < 5


def test_every_kind_of_tool_call_can_be_named() -> None:
    """Those that rules may name are those that tool calls can have."""
    assert CLOSED_SETS[ToolCall, "kind"] == set(_KINDS)


def test_allow_is_no_default() -> None:
    """What no rule mentions is not allowed, in code either."""
    allow: Any = "allow"
    with pytest.raises(InvalidOption):
        RulePolicy([], default=allow)


async def test_the_rule_is_told_with_the_answer(autojump_clock: object, file: Path) -> None:
    """The event of an answered request names the rule."""
    async with (
        session_with(ScriptedAgent(), permissions=RulePolicy.from_file(file)) as session,
        session.turn("permission Write kind=edit") as turn,
    ):
        (answer,) = [event async for event in turn if isinstance(event, PermissionAnswered)]
    assert ("deny", "rule 1") == (answer.decision, answer.rule)
