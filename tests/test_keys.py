"""The names of sessions and of agents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_acp import InvalidOption, Settings, UsageError
from trio_acp._keys import agent_id, agent_of, canonical_key, is_acp_shaped, missing, normalise_key

OPS = Settings(default_agent="ops")
HOME = Settings(main_key="Home")
GLOBAL = Settings(global_scope=True)
KEYS = st.lists(st.sampled_from(["agent", "main", "home", "codex", "acp", "x y", "", "Global", ":"])).map(":".join)


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        ("  Agent:Codex:ACP:X ", Settings(), "agent:codex:acp:x"),
        ("main", OPS, "agent:ops:main"),
        ("agent:codex:main", HOME, "agent:codex:home"),
        ("foo bar", Settings(), "foo bar"),
        ("agent:x", Settings(), "agent:x"),
        ("main", Settings(), "agent:main:main"),
        ("HOME", HOME, "agent:main:home"),
        ("main", HOME, "agent:main:home"),
        ("home", Settings(), "home"),
        ("agent:main:main", HOME, "agent:main:home"),
        ("agent:codex:home", HOME, "agent:codex:home"),
        ("agent:codex:home", Settings(), "agent:codex:home"),
        ("main", Settings(default_agent=" My Ops! "), "agent:my-ops:main"),
        ("agent:codex:main:x", HOME, "agent:codex:main:x"),
        ("agent::codex:main", HOME, "agent::codex:main"),
        ("agent:co dex:main", HOME, "agent:co dex:main"),
        ("main", GLOBAL, "global"),
        ("agent:codex:main", GLOBAL, "global"),
        ("agent:codex:acp:1", GLOBAL, "agent:codex:acp:1"),
        ("Global", HOME, "global"),
        ("unknown", Settings(main_key="unknown"), "unknown"),
        ("acp:1", Settings(), "acp:1"),
        ("   ", Settings(), ""),
        ("", Settings(), ""),
    ],
)
def test_the_canonical_form_of_a_key(given: str, settings: Settings, expected: str) -> None:
    """Trimmed and lower-cased, and the aliases of a main session are one key."""
    assert expected == normalise_key(given, settings)
    assert expected == normalise_key(expected, settings)


@given(KEYS, st.sampled_from([Settings(), OPS, HOME, GLOBAL]))
def test_the_canonical_form_is_its_own(key: str, settings: Settings) -> None:
    """What is stored under a canonical key is found again under it, in whatever case it is asked for."""
    canonical = normalise_key(key, settings)
    assert canonical == normalise_key(canonical.upper(), settings)
    assert canonical == canonical.strip().lower()


@pytest.mark.parametrize("key", ["", " \n", None, 3, b"main"])
def test_something_must_be_in_a_key(key: Any) -> None:
    """An empty key is refused, and so is what is no text."""
    with pytest.raises(UsageError) as caught:
        canonical_key(key, Settings())
    assert "empty-key" == caught.value.detail


@pytest.mark.parametrize(
    ("key", "shaped", "agent"),
    [
        ("acp:1", True, None),
        ("ACP:1", True, None),
        ("agent:codex:acp:1", True, "codex"),
        ("Agent:Codex:ACP:1", True, "codex"),
        ("agent::codex::acp:1", True, "codex"),
        ("agent:my agent:acp:1", True, "my-agent"),
        ("agent:codex:main", False, "codex"),
        ("agent:acp:1", False, "acp"),
        ("agent:codex", False, None),
        ("codex:acp:1", False, None),
        ("acp", False, None),
        ("agent:codex:acp", False, "codex"),
    ],
)
def test_what_the_form_of_a_key_says(key: str, shaped: bool, agent: str | None) -> None:
    """Whose it is, and whether it was made for an ACP session."""
    assert (shaped, agent) == (is_acp_shaped(key), agent_of(key))
    assert ("stale-session" if shaped else "session-missing") == missing(key).detail


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (" Codex ", "codex"),
        ("", "main"),
        ("  ", "main"),
        ("my  agent!", "my-agent"),
        ("--x--", "x"),
        ("***", "main"),
        ("a_b-1", "a_b-1"),
        ("é", "main"),
        ("x" * 80, "x" * 64),
    ],
)
def test_the_id_of_an_agent(name: str, expected: str) -> None:
    """Lower case; runs of other characters are one dash; at most 64 characters; never nothing."""
    assert expected == agent_id(name)


@pytest.mark.parametrize("name", ["main_key", "default_agent"])
@pytest.mark.parametrize("value", ["", " ", None, 3])
def test_the_names_of_main_sessions_are_texts(name: str, value: Any) -> None:
    """A name without anything in it is refused."""
    with pytest.raises(InvalidOption) as caught:
        Settings(**{name: value})
    assert f"invalid-{name}" == caught.value.detail
