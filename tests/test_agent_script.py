"""The language of the scripted agent's prompts."""

from __future__ import annotations

import math

import pytest

from trio_acp.testing._script import STEPS, WILD, ScriptError, Step, parse


def test_ordinary_text_is_one_echo() -> None:
    """A prompt in which no piece is a step is echoed whole, separators included."""
    text = "Please say hello; then rest\nand Stop"
    assert (Step("echo", text),) == parse(f" {text}\n")


def test_the_empty_prompt_is_an_echo_of_nothing() -> None:
    """A prompt without text is an ordinary prompt."""
    assert (Step("echo", ""),) == parse(" \n ")


def test_newlines_and_semicolons_separate_steps() -> None:
    """Steps stand in the order of the text; empty ones are skipped, unknown ones echoed."""
    expected = (Step("say", "a"), Step("hang"), Step("echo", "what now"), Step("say", "b c"))
    assert expected == parse("say a;; hang ;what now\n\n say  b c;")


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("chunks 3", Step("chunks", numbers=(3,))),
        ("chunks\t3  b", Step("chunks", "b", (3,))),
        ("chunks 3 a b every=0.5", Step("chunks", "a b", (3,), {"every": "0.5"})),
        ("tool kind=edit Change it x=1 path=/a", Step("tool", "Change it x=1", (), {"kind": "edit", "path": "/a"})),
        ("usage 10 200", Step("usage", numbers=(10, 200))),
        ("sleep 0.25", Step("sleep", numbers=(0.25,))),
        ("ignore-cancel inf", Step("ignore-cancel", numbers=(math.inf,))),
        ("error -32603 It broke", Step("error", "It broke", (-32603,))),
        ("crash", Step("crash")),
        ("crash 3", Step("crash", numbers=(3,))),
        ("late 2 1.5", Step("late", numbers=(2, 1.5))),
        ("stop max_tokens", Step("stop", "max_tokens")),
        ("permission!", Step("permission!")),
        ('update {"a": ";"}', Step("update", data={"a": ";"})),
        ("raw [1]; {", Step("raw", "[1]; {")),
        ("request fs/x", Step("request", "fs/x")),
        ('request fs/x {"a;": 1}', Step("request", "fs/x", data={"a;": 1})),
    ],
)
def test_a_step_is_read_by_its_usage(text: str, step: Step) -> None:
    """Numbers, words, text, options and JSON are taken as the line in `STEPS` says."""
    assert (step,) == parse(text)


def test_json_ends_a_script_only_where_it_begins() -> None:
    """A step whose JSON was left out is ended by a semicolon like any other."""
    assert (Step("request", "fs/x"), Step("hang")) == parse("request fs/x; hang")
    assert (Step("say", "a"), Step("raw", "x; hang"), Step("hang")) == parse("say a; raw x; hang\nhang")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("say a; say", "step 2, 'say': TEXT is missing"),
        ("sleep soon", "SECONDS cannot be 'soon'"),
        ("sleep -1", "SECONDS cannot be '-1'"),
        ("sleep nan", "SECONDS cannot be 'nan'"),
        ("chunks 1.5", "N cannot be '1.5'"),
        ("chunks 2 every=x", "SECONDS cannot be 'x'"),
        ("hang on", "'on' is too much"),
        ("usage 1", "SIZE is missing"),
        ("stop right now", "'now' is too much"),
        ("update {", "JSON is not valid"),
        ("update; hang", "JSON is missing"),
        ("error now", "CODE cannot be 'now'"),
    ],
)
def test_an_error_names_the_step_and_how_to_write_it(text: str, complaint: str) -> None:
    """A wrongly written step is refused, with its text, what is wrong, and its usage."""
    with pytest.raises(ScriptError) as caught:
        parse(text)
    assert complaint in str(caught.value)
    assert "it is written: " in str(caught.value)


def test_a_long_step_is_named_by_its_beginning() -> None:
    """The message stays short whatever the prompt."""
    with pytest.raises(ScriptError) as caught:
        parse("hang " + "x " * 5000)
    assert "step 1, 'hang x x" in str(caught.value)
    assert "...'" in str(caught.value)


def test_every_wild_prompt_is_a_script() -> None:
    """Each prompt of `WILD` is made of steps, without an unknown one."""
    assert 7 == len(WILD)
    names = {usage.split()[0] for usage in STEPS}
    for text in WILD.values():
        assert {step.name for step in parse(text)} <= names
