"""The policy of options: what is accepted, how changes merge, what the backend is told."""

from __future__ import annotations

import json
import math
import operator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_acp import UNSET, InvalidOption, RuntimeOptions
from trio_acp._options import (
    MAX_EXTRAS,
    ConfigPair,
    changes_of_config,
    check_changes,
    check_config,
    check_cwd,
    check_text,
    check_timeout,
    check_timeout_text,
    config_pairs,
    merge,
    must_reopen,
    normalise,
    signature,
)

LIMITS = {"mode": 64, "model": 200, "permission_profile": 80, "cwd": 4096, "config_key": 64, "config_value": 512}


def refused(call: Any, *args: Any) -> str:
    """Return the detail and what the message says is wrong."""
    with pytest.raises(InvalidOption) as caught:
        call(*args)
    return f"{caught.value.detail}: {caught.value}"


# -- single values ------------------------------------------------------------


@pytest.mark.parametrize(("option", "limit"), LIMITS.items())
def test_a_text_is_trimmed_and_bounded(option: str, limit: int) -> None:
    """Exactly the limit is accepted, one more is not, and white space around does not count."""
    assert "x" * limit == check_text(option, f" \ufeff{'x' * limit}\n")
    assert refused(check_text, option, "x" * (limit + 1)).endswith(f"{option} must be at most {limit} characters")


@pytest.mark.parametrize("value", ["", " \t\n", None, 5, True, ["x"]])
def test_what_is_no_text_is_empty(value: object) -> None:
    """A blank text, and anything that is no text, is refused as empty."""
    assert "invalid-mode: mode must not be empty" == refused(check_text, "mode", value)


@pytest.mark.parametrize("character", ["\x00", "\x1c", "\x1f", "\x7f", "\n"])
def test_control_characters_are_refused_after_the_length(character: str) -> None:
    """A control character inside is refused, but a text that is too long is refused for that."""
    assert refused(check_text, "mode", f"a{character}b").endswith("mode must not include control characters")
    assert refused(check_text, "mode", f"a{character}b" * 64).endswith("mode must be at most 64 characters")


def test_a_directory_is_absolute() -> None:
    """After the checks of a text."""
    assert "/repo" == check_cwd(" /repo ")
    assert refused(check_cwd, "repo").endswith("cwd must be an absolute path, not 'repo'")
    assert "absolute" not in refused(check_cwd, "re\npo")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), (86_400, 86_400), (1.5, 2), (2.5, 3), (0.5, 1), (86_400.4, 86_400), ("0120", 120), (" 7 ", 7)],
)
def test_a_timeout_is_rounded_half_up(value: Any, expected: int) -> None:
    """Whole seconds between 1 and a day, as a number or as digits."""
    check = check_timeout_text if isinstance(value, str) else check_timeout
    assert expected == check(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None, "5", [1]])
def test_a_timeout_is_a_finite_number(value: object) -> None:
    """Anything else is refused as no number, before its range is looked at."""
    assert "positive integer" in refused(check_timeout, value)


@pytest.mark.parametrize("value", [0, 0.4, -1, 86_401, 86_400.5, 10**400])
def test_a_timeout_is_in_range(value: float) -> None:
    """A number that is rounded to less than 1 or more than a day is refused for its range."""
    assert "between 1 and 86400" in refused(check_timeout, value)


@pytest.mark.parametrize("value", ["", "1.5", "-1", "+1", "1e3", "12s", "\u0665", "not-a-number", "9" * 5000, 5])
def test_a_timeout_text_is_digits(value: object) -> None:
    """Only decimal digits of ASCII, and no more of them than a number can have."""
    assert "positive integer" in refused(check_timeout_text, value)


def test_a_timeout_text_is_in_range() -> None:
    """As the number it stands for."""
    for text in ("0", "86401", "9" * 30):
        assert "between 1 and 86400" in refused(check_timeout_text, text)


@pytest.mark.parametrize("key", ["a", "A.b:c_d-9", "9"])
def test_a_config_key_has_its_own_alphabet(key: str) -> None:
    """Letters, digits, dots, colons, underscores and dashes, the first a letter or digit."""
    assert (key, "v") == check_config(f" {key} ", " v ")


@pytest.mark.parametrize("key", [".a", "-a", "a b", "ä", "a/b", "\u212a"])
def test_a_config_key_with_other_characters_is_refused(key: str) -> None:
    """Also those that only case folding makes letters of ASCII; the key is looked at before the value."""
    assert refused(check_config, key, "").startswith("invalid-config_key: config_key must use letters")


# -- changes ------------------------------------------------------------------


def test_changes_are_checked_in_order() -> None:
    """Unknown options first, then mode, model, cwd, permission profile, timeout and extras."""
    wrong: dict[str, object] = {
        "extras": 5,
        "timeout_seconds": 0,
        "permission_profile": "",
        "cwd": "x",
        "model": None,
        "mode": "",
    }
    assert refused(check_changes, {**wrong, "Mode": "x"}).startswith("unknown-option: there is no option 'Mode'")
    for option in ("mode", "model", "cwd", "permission_profile", "timeout_seconds", "extras"):
        assert refused(check_changes, wrong).startswith(f"invalid-{option}: {option} ")
        wrong[option] = UNSET
    assert dict.fromkeys(wrong, UNSET) == check_changes(wrong)


def test_extras_are_bounded_before_they_are_read() -> None:
    """More than 32 are refused, whatever they are; then each key and value is checked."""
    assert "at most 32" in refused(check_changes, {"extras": dict.fromkeys(range(33))})
    assert "config_value must not be empty" in refused(check_changes, {"extras": {"a": None}})
    assert "config_key must" in refused(check_changes, {"extras": {"": UNSET}})
    assert {"extras": {"a": "b", "c": UNSET}} == check_changes({"extras": {" a": " b", "c": UNSET}})


def test_extras_do_not_grow_past_their_bound() -> None:
    """Changes that are small each add up to no more than 32; what is stored beyond can still shrink."""
    full = RuntimeOptions(extras={str(n): "x" for n in range(MAX_EXTRAS)})
    assert "at most 32" in refused(merge, full, {"extras": {"one-more": "x"}})
    assert MAX_EXTRAS == len(merge(full, {"extras": {"one-more": "x", "0": UNSET}}).extras)
    older = RuntimeOptions(extras={str(n): "x" for n in range(MAX_EXTRAS + 2)})
    assert MAX_EXTRAS + 1 == len(merge(older, {"extras": {"0": UNSET}}).extras)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model", "m", {"model": "m"}),
        ("MODEL", "m", {"model": "m"}),
        ("Mode", "plan", {"mode": "plan"}),
        ("approval_policy", "p", {"permission_profile": "p"}),
        ("Permission_Profile", "p", {"permission_profile": "p"}),
        ("permissions", "p", {"permission_profile": "p"}),
        ("timeout", "60", {"timeout_seconds": 60}),
        ("TIMEOUT_SECONDS", "60", {"timeout_seconds": 60}),
        ("cwd", "/w", {"cwd": "/w"}),
        ("Effort", "high", {"extras": {"Effort": "high"}}),
    ],
)
def test_a_config_option_may_be_an_option_of_ours(key: str, value: str, expected: dict[str, Any]) -> None:
    """By any of its names, in any case; every other key is an extra, in its own case."""
    assert expected == changes_of_config(key, value)


def test_an_alias_has_the_rules_of_its_option() -> None:
    """A value that a configuration option may have can be too long for a model, or no timeout."""
    assert "model must be at most 200" in refused(changes_of_config, "model", "x" * 201)
    assert "timeout_seconds must be a positive" in refused(changes_of_config, "timeout", "soon")
    assert "cwd must be an absolute path" in refused(changes_of_config, "cwd", "here")


def test_what_says_nothing_is_dropped() -> None:
    """Stored options are normalised, and no limit is applied to them."""
    raw = RuntimeOptions(mode=" ", model=" m ", timeout_seconds=0, extras={" ": "x", "a": " ", "b ": " c"})
    assert RuntimeOptions(model="m", extras={"b": "c"}) == normalise(raw)
    assert 10**9 == normalise(RuntimeOptions(timeout_seconds=10**9)).timeout_seconds


# -- what the backend is told -------------------------------------------------

ALL = RuntimeOptions(
    mode="plan", model="m", cwd="/w", permission_profile="strict", timeout_seconds=120, extras={"b": "2", "a": "1"}
)


def test_the_pairs_and_their_order() -> None:
    """Model, approval policy, timeout, then extras in their order; mode and directory are no pairs."""
    expected = [("model", "m"), ("approval_policy", "strict"), ("timeout", "120"), ("b", "2"), ("a", "1")]
    assert expected == [(pair.key, pair.value) for pair in config_pairs(ALL)]
    assert [False] == [pair.required for pair in config_pairs(ALL) if pair.key == "timeout"]


def test_a_fixed_option_wins_over_an_extra() -> None:
    """An extra under the key of a fixed option is not sent beside it."""
    assert (ConfigPair("model", "m"),) == config_pairs(RuntimeOptions(model="m", extras={"model": "other"}))


def test_fixed_options_go_by_the_advertised_alias() -> None:
    """In the backend's own case; a timeout that it does not have is not sent, anything else is."""
    told = [pair.key for pair in config_pairs(ALL, ["Permissions", "timeout_seconds", "a", "b"])]
    assert ["model", "Permissions", "timeout_seconds", "b", "a"] == told
    assert ["model", "approval_policy", "b", "a"] == [pair.key for pair in config_pairs(ALL, ["model"])]


def test_options_do_not_change_under_their_holder() -> None:
    """Extras are copied and cannot be written; equal options have equal hashes."""
    extras = {"a": "1"}
    options = RuntimeOptions(extras=extras)
    extras["a"] = "2"
    assert {"a": "1"} == options.extras
    assert hash(options) == hash(RuntimeOptions(extras={"a": "1"}))
    with pytest.raises(TypeError):
        operator.setitem(cast("Any", options.extras), "a", "3")


# -- properties ---------------------------------------------------------------

TEXTS = st.text(st.sampled_from("ab \x00\u00e9\ufeff\x1c"), max_size=70)


@given(TEXTS, st.sampled_from(sorted(LIMITS)))
def test_a_text_is_accepted_exactly_if_it_can_be(value: str, option: str) -> None:
    """The oracle: what is left between the first and the last character that is no white space."""
    kept = [n for n, c in enumerate(value) if c not in " \ufeff"]
    expected = value[kept[0] : kept[-1] + 1] if kept else ""
    fine = 0 < len(expected) <= LIMITS[option] and not set(expected) & {"\x00", "\x1c"}
    if fine:
        assert expected == check_text(option, value)
        assert expected == check_text(option, expected)
    else:
        refused(check_text, option, value)


FIELDS = ("mode", "model", "cwd", "permission_profile", "timeout_seconds")
VALUES = {
    "mode": st.sampled_from(["plan", "code"]),
    "model": st.sampled_from(["small", "large"]),
    "cwd": st.sampled_from(["/a", "/b"]),
    "permission_profile": st.sampled_from(["strict", "lax"]),
    "timeout_seconds": st.integers(1, 3),
}
KEYS = st.sampled_from(["x", "y", "model", "timeout"])


class Options(RuleBasedStateMachine):
    """Options under changes, against a flat dict that knows only "set" and "delete"."""

    @initialize()
    def start(self) -> None:
        self.options = RuntimeOptions()
        self.model: dict[tuple[str, str], object] = {}

    @rule(data=st.data(), names=st.sets(st.sampled_from(FIELDS)))
    def set_fields(self, data: st.DataObject, names: set[str]) -> None:
        changes = {name: data.draw(VALUES[name] | st.just(UNSET)) for name in names}
        self.options = merge(self.options, check_changes(changes))
        for name, value in changes.items():
            self.model.pop(("field", name), None)
            if value is not UNSET:
                self.model["field", name] = value

    @rule(extras=st.dictionaries(KEYS, st.sampled_from(["1", "2"]) | st.just(UNSET)))
    def set_extras(self, extras: dict[str, Any]) -> None:
        self.options = merge(self.options, check_changes({"extras": extras}))
        for key, value in extras.items():
            self.model.pop(("extra", key), None)
            if value is not UNSET:
                self.model["extra", key] = value

    @rule()
    def unset_extras(self) -> None:
        self.options = merge(self.options, check_changes({"extras": UNSET}))
        self.model = {key: value for key, value in self.model.items() if key[0] == "field"}

    @rule(key=st.sampled_from(["Model", "permissions", "Timeout", "x"]), value=st.sampled_from(["1", "2"]))
    def set_config(self, key: str, value: str) -> None:
        self.options = merge(self.options, changes_of_config(key, value))
        meaning = {"Model": "model", "permissions": "permission_profile", "Timeout": "timeout_seconds"}.get(key)
        place = ("extra", key) if meaning is None else ("field", meaning)
        self.model[place] = int(value) if key == "Timeout" else value

    @invariant()
    def options_are_what_was_set(self) -> None:
        """And normalising says nothing new."""
        fields = {("field", name): value for name in FIELDS if (value := getattr(self.options, name)) is not None}
        assert self.model == fields | {("extra", key): value for key, value in self.options.extras.items()}
        assert self.options == normalise(self.options)

    @rule(cwd=st.sampled_from(["/a", "/b"]))
    def the_signature_does_not_know_the_directory(self, cwd: str) -> None:
        moved = merge(self.options, {"cwd": cwd})
        assert signature(self.options) == signature(moved)
        assert must_reopen(self.options, moved) == (self.options.cwd != cwd)

    @rule(other=st.dictionaries(KEYS, st.sampled_from(["1", "2"])), mode=st.sampled_from(["plan", "code"]))
    def signatures_are_equal_exactly_for_equal_controls(self, other: dict[str, str], mode: str) -> None:
        changed = merge(self.options, {"extras": other, "mode": mode})
        controls = {key: value for key, value in self.model.items() if key != ("field", "cwd")}
        after = controls | {("extra", key): value for key, value in other.items()} | {("field", "mode"): mode}
        same = after == controls
        assert same == (signature(self.options) == signature(changed))
        assert not must_reopen(self.options, changed)

    @rule()
    def what_is_unset_needs_another_session(self) -> None:
        lost = {key for key in self.model if key != ("field", "cwd")}
        bare = RuntimeOptions(cwd=self.options.cwd)
        assert bool(lost) == must_reopen(self.options, bare)

    @rule()
    def each_key_is_sent_once_with_its_value(self) -> None:
        sent = {pair.key: pair.value for pair in config_pairs(self.options)}
        expected = {key: value for (kind, key), value in self.model.items() if kind == "extra"}
        names = {"model": "model", "permission_profile": "approval_policy", "timeout_seconds": "timeout"}
        expected |= {key: str(self.model["field", f]) for f, key in names.items() if ("field", f) in self.model}
        assert expected == sent
        assert len(sent) == len(config_pairs(self.options))


TestOptions = Options.TestCase


def test_a_signature_is_readable() -> None:
    """It is JSON, with extras by key."""
    assert ["plan", "m", "strict", 120, [["a", "1"], ["b", "2"]]] == json.loads(signature(ALL))
