"""The page of guarantees, made of the results of all scenarios."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.guarantees.kills import TECHNIQUES
from tests.guarantees.plans import SCENARIO, SCENE, plan_of
from tests.guarantees.properties import CAUSES, ENDS, JUDGES, PROPERTIES, STRIKES, after_an_interrupt, cause_of, says

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.guarantees.kills import Hunt
    from tests.guarantees.properties import Judge
    from tests.guarantees.tally import Result

EMPTY: Final = "-"
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

**{total}.** Each run is one scenario over the whole stack (manager, `AcpRuntime`, connection, trio-websocket over
streams in memory, a scripted agent) under virtual time. Something strikes it in the middle of some step of some task, or
its tasks take turns in another order; then it is held against the laws of `trio_acp/testing/_scenario_oracle.py`, the
executable model of a turn (`trio_acp/testing/turn_model.py`) among them. [How that works](explorer.md).

**How to read it.** All laws judge every run, except where a law has a reason to look away. So one cell of the first
table, "N of N", answers for *every* property in that scenario under that cause, but for the pairs that
"Where a law looks away" names. "n of N" with n < N is a counterexample: the last part of the page has its tape. `-` was not
tested, and "Not tested" says why.

**Causes.** `none`: nothing but, perhaps, another order of the tasks; `cancel`: the callers' scope is cancelled; `user`: `Turn.cancel` of every
turn; `cut`: the wire breaks; `death`: the agent is killed; `shutdown`: the body of the manager's block is
cancelled; `vanish`: a scope around the whole manager is; `jump`: the clock jumps by more than any deadline; `interrupt`: Ctrl-C; `pairs`:
two of these in one run.

**Reproduce it.** `git checkout {commit}` and `python -m tests.guarantees --profile {profile} --seed {seed}`. The order of everything is
decided by the seed, so the counts come out again. One scenario: `--only NAME`.

**Limits.** A "complete" technique has struck with everything at every step, before and after it, in the default order of the tasks. The
others are samples: n clean random orders say, with 95 % confidence, that a random order fails with a
probability below 3/n (the rule of three) *under the way they are drawn*; they say nothing of a rare order that this never draws. Virtual time means that slowness of
a machine is not in it, nor are threads, processes, sockets and files; `tests/` has these. A law can be no better than the oracle
that states it: the table of planted faults at the end shows what it notices."""


def page(results: Mapping[str, Result], hunts: Sequence[Hunt], about: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        about: ``profile``, ``seed``, ``commit``, ``date``, and ``versions``.
    """
    runs = sum(result.total for result in results.values())
    steps = sum(result.task_steps for result in results.values())
    broken = sum(sum(counts.values()) for result in results.values() for counts in result.broken.values())
    verdict = "no counterexample" if not broken else f"{broken:,} broken properties"
    text = HEAD.format(
        **{key: about[key] for key in ("commit", "profile", "seed")},
        total=f"{runs:,} runs of {len(results)} scenarios, {steps:,} steps of tasks, {verdict}",
        about=f"Profile {about['profile']}, seed {about['seed']}, commit `{about['commit']}`, "
        f"{about['date']}; {about['versions']}.",
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


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("| --- |", "|---|") for line in lines).replace(
        "|---| --- |", "|---|---|"
    )


def _cell(runs: int, broken: int = 0) -> str:
    return f"{runs - broken} of {runs}" if runs else EMPTY


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _scenarios(results: Mapping[str, Result]) -> Iterator[Sequence[str]]:
    for name, result in results.items():
        worst = {cause: max((counts.get(cause, 0) for counts in result.broken.values()), default=0) for cause in CAUSES}
        yield f"`{name}`", *(_cell(result.runs.get(cause, 0), worst[cause]) for cause in CAUSES)


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
    heads = ("property", "law", "does not judge", "what is left of the property there", "why")
    short = [
        f"`{name}`: {result.cut_short.get('interrupt', 0)} of {result.runs.get('interrupt', 0)}"
        + (f", and {result.cut_short['pairs']} of its pairs" if result.cut_short.get("pairs") else "")
        for name, result in results.items()
        if result.runs.get("interrupt")
    ]
    return (
        f"{_table(heads, iter(rows))}\n\nOf `pairs`, those are judged in which one of the two causes is judged, and "
        "no other forbids it. After a `jump`, bounds are longer by as much as the clock has jumped, a row of the store may "
        "still name its (dead) owner (`I15`), and a wait may have ended before what it waits for could run.\n\n"
        "When Ctrl-C has ended the program, nobody promises the rest: such runs are judged only by "
        f"{_code(after_an_interrupt())} (of `I21`: that no connection is open), and by `{ENDS}`. Runs that it ended: {'; '.join(short)}."
    )


def _blind(judge: Judge) -> Iterator[str]:
    """Yield the scenarios in which a law judges nothing at all, and the causes after which it judges none of the others."""
    causes = [(cause, frozenset() if cause == "none" else frozenset({cause})) for cause in ("none", *STRIKES)]
    sees = {name: {cause for cause, struck in causes if judge.when(scene, struck)} for name, scene in SCENE.items()}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, seen in sees.items():
        missed = tuple(cause for cause, _ in causes if cause not in seen)
        groups.setdefault(missed, []).append(name)
    for missed, names in groups.items():
        if missed:
            where = "every scenario" if len(names) == len(SCENE) else _code(names)
            if len(groups) == 2 and () not in groups and len(names) > len(SCENE) / 2:
                where = "every other scenario"
            under = "at all" if len(missed) == len(causes) else f"under {_code(missed)}"
            yield f"{where} {under}"


def _rest(name: str, judge: Judge) -> str:
    others = [other.law for other in JUDGES[name] if other.law != judge.law]
    return f"what {_code(others)} judges" if others else "nothing"


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
                f"{3 / orders:.2%}" if orders else EMPTY,
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
    return (
        "Each mutant is one fault planted into the package, hunted in one scenario. `machine`: the Hypothesis state machines; "
        "`cancel`: a strike of the callers, the user or the program; `schedule`: another order of the tasks; `wire`: the wire "
        "cut or the agent killed. A technique that it survives does not find it; another one does.\n\n"
        + _table(("mutant", "scenario", *TECHNIQUES), rows)
    )


def _untested(results: Mapping[str, Result], hunts: Sequence[Hunt], profile: str) -> Iterator[Sequence[str]]:
    for cause in STRIKES:
        if names := [name for name in results if cause not in {cause_of(a.name) for a in SCENARIO[name].actions}]:
            yield _code(names), f"`{cause}`", "only the scenarios with the most in flight get it"
    if names := [name for name in results if not plan_of(name, profile).pairs]:
        yield _code(names), "`pairs`", f"the profile {profile} draws pairs of the smallest scenarios only"
    if names := [name for name, judges in JUDGES.items() if not judges]:
        yield _code(names), _code(CAUSES), "no run shows it; the tests are named above"
    late = [name for name, judges in JUDGES.items() if judges and name not in after_an_interrupt()]
    yield _code(late), "`interrupt`", "Ctrl-C has ended the program, and nobody promises the rest"
    for name, judges in JUDGES.items():
        single = [
            (cause, frozenset() if cause == "none" else frozenset({cause})) for cause in CAUSES if cause != "pairs"
        ]
        if never := [
            cause
            for cause, struck in single
            if judges and not any(judge.when(SCENE[one], struck) for judge in judges for one in results)
        ]:
            yield f"`{name}`", _code(never), "; ".join(dict.fromkeys(judge.why for judge in judges))
    for hunt in hunts:
        if ways := [way for way in TECHNIQUES if hunt.found_by.get(way) is None]:
            yield f"`{hunt.mutant.name}`", _code(ways), "what this technique runs does not reach the fault's place"


def _findings(results: Mapping[str, Result]) -> str:
    lines = [
        f"* `{name}` breaks {found['properties']}: {found['what']}. Its tape: `{found['tape']}`; "
        f"replay it: `trio-acp explore {name} --replay {found['tape']}`"
        for name, result in results.items()
        for found in result.findings
    ]
    return "\n".join(lines) or "None."
