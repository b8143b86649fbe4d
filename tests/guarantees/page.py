"""The page of guarantees, made of the results of all scenarios."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.guarantees.plans import SCENARIO, SCENE, plan_of
from tests.guarantees.properties import CAUSES, ENDS, JUDGES, PROPERTIES, STRIKES, after_an_interrupt, cause_of, says
from tests.mutants.hunt import TECHNIQUES
from trio_acp.testing import WILD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.guarantees.properties import Judge
    from tests.guarantees.tally import Result
    from tests.mutants.hunt import Hunt

EMPTY: Final = "-"
SINGLE: Final = {"none": frozenset[str](), **{cause: frozenset({cause}) for cause in STRIKES}}
HEADINGS: Final = {
    "scenarios": "## Scenario x cause: all properties at once",
    "properties": "## Property x cause: all scenarios at once",
    "says": "## What each property says",
    "exceptions": "## Where a law looks away",
    "samples": "## How much was tried",
    "kills": "## Which technique finds which planted fault",
    "untested": "## Not tested",
    "findings": "## Counterexamples",
}

HEAD: Final = """# Guarantees, and how often they held

Written by `nox -s guarantees`; do not edit. {about}

**{total}.** Each run is one scenario over the whole stack (manager, `AcpRuntime`, connection, trio-websocket
over streams in memory, a scripted agent) under virtual time. Something strikes it in the middle of some step of
some task, or its tasks take turns in another order; then it is held against the laws of
`trio_acp/testing/_scenario_oracle.py`; the executable model of a turn (`trio_acp/testing/turn_model.py`) is one of
them. [How that works](explorer.md).

**How to read it.** All laws judge every run, except where a law has a reason to look away. So one cell of the first
table, "N of N", answers for *every* property in that scenario under that cause, but for those that "Where a law looks
away" names. "n of N: counterexample" names the properties that N - n runs broke; the last part of the page has the
tapes. `-` was not tested, and "Not tested" says why. That a property held means that no run broke it; in some there was
nothing to break, as of a queue with one prompt.

**Causes.** `none`: nothing but, perhaps, another order of the tasks; `cancel`: the callers' scope is cancelled; `user`:
`Turn.cancel` of every turn; `cut`: the wire breaks; `death`: the agent is killed; `shutdown`: the body of the manager's
block is cancelled; `vanish`: a scope around the whole manager is; `jump`: the clock jumps by more than any deadline;
`interrupt`: Ctrl-C; `pairs`: two of these in one run.

**Reproduce it.** Check out `{commit}`, and run `python -m tests.guarantees --profile {profile} --seed {seed}`. The seed
decides everything that is drawn, so the counts come out again. One scenario: `--only NAME`.

**Limits.** Where it says "all", everything has struck at every step, before and after it, in the default order of the
tasks. Random orders and pairs are samples: n clean random orders say, with 95 % confidence, that a random order *drawn
in the same way* fails with a probability below 3/n (the rule of three); they say little of an order that is hardly ever
drawn. Virtual time means that the slowness of a machine is not in it, nor are threads, processes, sockets and files;
other tests have these. A run is judged by the laws as they are written: the planted faults show what they notice."""


def page(results: Mapping[str, Result], hunts: Sequence[Hunt], about: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        about: ``profile``, ``seed``, ``commit``, ``date``, and ``versions``.
    """
    runs = sum(result.total for result in results.values())
    steps = sum(result.task_steps for result in results.values())
    wrong = sum(sum(result.wrong.values()) for result in results.values())
    verdict = f"{wrong:,} of them counterexamples" if wrong else "no counterexample"
    text = HEAD.format(
        **{key: about[key] for key in ("commit", "profile", "seed")},
        total=f"{runs:,} runs of {len(results)} scenarios, {steps:,} steps of tasks, {verdict}",
        about=f"Profile {about['profile']}, seed {about['seed']}, commit `{about['commit']}`, "
        f"{about['date']}; {about['versions']}.{_again(results)}",
    )
    parts = {
        "scenarios": _table(("scenario", *CAUSES), _scenarios(results)),
        "properties": _table(("property", *CAUSES), _properties(results)),
        "says": _table(("property", "what it says, and which law judges it"), _says()),
        "exceptions": _exceptions(results),
        "samples": _samples(results),
        "kills": _kills(hunts),
        "untested": _table(("what", "under", "why"), _untested(results, hunts, about["profile"])),
        "findings": _findings(results),
    }
    return "\n\n".join([text, *(f"{HEADINGS[key]}\n\n{part}" for key, part in parts.items())]) + "\n"


def _again(results: Mapping[str, Result]) -> str:
    """Say which scenarios were run once more, after what they had found was mended."""
    later: dict[str, list[str]] = {}
    for name, result in results.items():
        if result.commit:
            later.setdefault(result.commit, []).append(f"`{name}`")
    return "".join(
        f" Once what they had found was mended, at `{at}`: {', '.join(names)}." for at, names in later.items()
    )


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def _cell(runs: int, broken: int = 0, what: str = "") -> str:
    if broken:
        return f"{runs - broken} of {runs}: counterexample {what}".rstrip()
    return f"{runs} of {runs}" if runs else EMPTY


def _some(names: Sequence[str]) -> str:
    """Return the names of scenarios, in short if that is possible."""
    others = [name for name in SCENARIO if name not in names]
    if not others:
        return "every scenario"
    return _code(_wild(names)) if len(names) <= len(others) else f"all but {_code(_wild(others))}"


def _wild(names: Sequence[str]) -> Sequence[str]:
    """Return the names with all wild scenarios as one, if all are there."""
    tame = [name for name in names if not name.startswith("wild-")]
    return [*tame, "wild-*"] if len(names) - len(tame) == len(WILD) else names


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _scenarios(results: Mapping[str, Result]) -> Iterator[Sequence[str]]:
    for name, result in results.items():
        cells = []
        for cause in CAUSES:
            broken = [each for each in PROPERTIES if result.broken.get(each, {}).get(cause)]
            cells.append(_cell(result.runs.get(cause, 0), result.wrong.get(cause, 0), ", ".join(broken)))
        yield f"`{name}`", *cells


def _properties(results: Mapping[str, Result]) -> Iterator[Sequence[str]]:
    judged, broken = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for result in results.values():
        for table, into in ((result.judged, judged), (result.broken, broken)):
            into.update({(name, cause): n for name, counts in table.items() for cause, n in counts.items()})
    for name in PROPERTIES:
        yield f"`{name}`", *(_cell(judged[name, cause], broken[name, cause]) for cause in CAUSES)


def _says() -> Iterator[Sequence[str]]:
    for name in PROPERTIES:
        yield f"`{name}`", "; ".join(says(name))


# -- where a law looks away --


def _exceptions(results: Mapping[str, Result]) -> str:
    rows = [
        (f"`{name}`", f"`{judge.law}`", "; ".join(_blind(judge)), _rest(name, judge), judge.why)
        for name, judges in JUDGES.items()
        for judge in judges
        if judge.why
    ]
    heads = ("property", "law", "does not judge", "who does, there", "why")
    ended = "; ".join(
        f"{result.cut_short.get('interrupt', 0)} of the {result.runs['interrupt']} of `{name}`"
        + (f" and {result.cut_short['pairs']} of its pairs" if result.cut_short.get("pairs") else "")
        for name, result in results.items()
        if result.runs.get("interrupt")
    )
    return f"""{_table(heads, iter(rows))}

Of `pairs`, a law judges those that it can judge by both causes together: one that asks for a cause needs it among the
two, one that a cause forbids needs it in neither.

After a `jump`, bounds are longer by as much as the clock has jumped, a row of the store may still name its
(dead) owner (`I15`), and a wait may have ended before what it waited for could run.

When Ctrl-C has ended the program, nobody promises the rest. Such runs are judged by `{ENDS}` and, of the others,
only by {_code(after_an_interrupt())}; of `I21`, that no connection is open; of `I3`, what is seen from outside.
It has ended {ended}."""


def _cells(judge: Judge) -> set[tuple[str, str]]:
    """Return the scenarios and causes of which a law judges nothing."""
    return {(name, cause) for name, scene in SCENE.items() for cause, by in SINGLE.items() if not judge.when(scene, by)}


def _blind(judge: Judge) -> Iterator[str]:
    """Yield the same in words."""
    groups: dict[tuple[str, ...], list[str]] = {}
    blind = _cells(judge)
    for name in SCENE:
        groups.setdefault(tuple(cause for cause in SINGLE if (name, cause) in blind), []).append(name)
    for missed, names in groups.items():
        if missed:
            yield f"{_some(names)}: {'any cause' if len(missed) == len(SINGLE) else _code(missed)}"


def _rest(name: str, judge: Judge) -> str:
    blind = _cells(judge)
    others = [other.law for other in JUDGES[name] if other is not judge and blind - _cells(other)]
    return _code(others) if others else "nobody"


# -- samples, kills, and what is missing --


def _samples(results: Mapping[str, Result]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for name, result in results.items():
            counts = result.schedules
            strikes, orders, pairs = (counts.get(key, 0) for key in ("strike", "schedule", "pair"))
            whole = "all" if "strike" in result.complete else f"{strikes:,} of {result.strikes:,}"
            yield (
                f"`{name}`",
                f"{result.steps:,}",
                f"all {strikes:,}" if whole == "all" else whole,
                f"{orders:,}",
                f"{min(3 / orders, 1):.2%}" if orders else EMPTY,
                f"{pairs:,} of {result.pairs:,}",
                f"{result.task_steps:,}",
            )

    heads = (
        *("scenario", "steps", "single strikes, default order", "random orders"),
        *("so a random order fails below", "pairs, default order", "steps of tasks, all runs"),
    )
    return (
        "Every other random order also has one strike. A pair is drawn at random of all pairs of strikes.\n\n"
        + _table(heads, rows())
    )


def _kills(hunts: Sequence[Hunt]) -> str:
    words = {True: "killed", False: "survives", None: EMPTY}
    rows = (
        (f"`{hunt.mutant.name}`", f"`{hunt.scenario}`", *(words[hunt.found_by.get(way)] for way in TECHNIQUES))
        for hunt in hunts
    )
    return f"""Each mutant is one fault planted into the package, hunted in one scenario. `machine`: the state machine
that drives the code; `cancel`: one cancellation, of the caller, by the user, of the manager's body or of all around it;
`schedule`: orders of the tasks, and nothing strikes; `wire`: the wire is cut or the agent killed. What survives one
technique is killed by another.

{_table(("mutant", "scenario", *TECHNIQUES), rows)}"""


def _untested(results: Mapping[str, Result], hunts: Sequence[Hunt], profile: str) -> Iterator[Sequence[str]]:
    for cause in STRIKES:
        if names := [name for name in results if cause not in {cause_of(a.name) for a in SCENARIO[name].actions}]:
            yield _some(names), f"`{cause}`", "Ctrl-C strikes only a plain turn and a session that is being closed"
    if names := [name for name in results if not plan_of(name, profile).pairs]:
        yield _some(names), "`pairs`", f"the profile {profile} draws pairs of the smallest scenarios only"
    if names := [name for name, judges in JUDGES.items() if not judges]:
        yield _code(names), _code(CAUSES), "no run shows it; the tests are named above"
    met = {name for result in results.values() for name, counts in result.judged.items() if counts.get("interrupt")}
    if late := [name for name, judges in JUDGES.items() if judges and name not in met]:
        yield _code(late), "`interrupt`", "Ctrl-C has ended the program, and nobody promises the rest"
    for name, judges in JUDGES.items():
        seen = {cause for one in results for cause, by in SINGLE.items() if any(j.when(SCENE[one], by) for j in judges)}
        if judges and len(seen) < len(SINGLE):
            never = [cause for cause in SINGLE if cause not in seen]
            yield f"`{name}`", _code(never), "; ".join(dict.fromkeys(judge.why for judge in judges))
    for hunt in hunts:
        if ways := [way for way in TECHNIQUES if hunt.found_by.get(way) is None]:
            yield f"`{hunt.mutant.name}`", _code(ways), "no state machine drives the code that has the fault"


def _findings(results: Mapping[str, Result]) -> str:
    lines = [
        f"* `{name}` breaks {found['properties']}: {found['what']}. Its tape: `{found['tape']}`; "
        f"replay it: `trio-acp explore {name} --replay {found['tape']}`"
        for name, result in results.items()
        for found in result.findings
    ]
    return "\n".join(lines) or "None."
