"""Explores every built-in scenario, each in a process of its own, and writes what held how often."""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tests.evidence import ROOT
from tests.guarantees.page import page
from tests.guarantees.plans import PLANS, SCENARIO
from tests.guarantees.tally import Result, as_json, run
from tests.mutants.explored import HUNTS

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION: Final = 1
_JUDGED: Final = ("trio_acp", "tests")
_LIBRARIES: Final = ("trio", "trio-websocket", "wsproto")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.guarantees", description=__doc__)
    parser.add_argument("--profile", choices=PLANS, default="deep", help="how much is tried (default: deep)")
    parser.add_argument("--jobs", type=int, default=2, help="how many scenarios at once (default: 2)")
    parser.add_argument("--only", nargs="+", choices=SCENARIO, metavar="SCENARIO", help="these scenarios only")
    parser.add_argument("--seed", type=int, default=0, help="decides everything that is drawn (default: 0)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page; without --only")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the results here, and do not run again what it has"
    )
    parser.add_argument("--as-kept", action="store_true", help="run nothing: write the page of what FILE has")
    parser.add_argument(
        "--again",
        nargs="+",
        choices=SCENARIO,
        metavar="SCENARIO",
        default=[],
        help="run these once more, at the commit that is checked out now; the others as FILE has them",
    )
    parser.add_argument("--one", choices=SCENARIO, help=argparse.SUPPRESS)
    return parser


def commit() -> str:
    """Return the commit that is run; if the package or the tests differ from it, with a hash of the difference."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--", *_JUDGED) + git("diff", "HEAD", "--", *_JUDGED)
    return f"{head}-dirty-{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else head


class Kept:
    """Results by scenario, kept in a file after each of them; those of another commit, profile or seed do not count."""

    def __init__(self, path: Path | None, *, as_kept: bool = False, **what: object) -> None:
        self.results: dict[str, Result] = {}
        self._path = path
        self.about: dict[str, Any] = {"version": _VERSION, **what}  # of which run these are
        self._lock = threading.Lock()
        if path is not None and path.exists():
            found = json.loads(path.read_text("utf-8"))
            if as_kept:
                self.about = {key: found[key] for key in self.about}
            if {key: found.get(key) for key in self.about} == self.about:
                self.results = {name: Result(**result) for name, result in found["results"].items()}

    def add(self, result: Result) -> None:
        """Keep one more."""
        with self._lock:
            self.results[result.scenario] = result
            if self._path is not None:
                results = {name: as_json(each) for name, each in self.results.items()}
                self._path.parent.mkdir(parents=True, exist_ok=True)
                part = self._path.with_name(self._path.name + ".part")
                part.write_text(json.dumps({**self.about, "results": results}, indent=1) + "\n", "utf-8")
                part.replace(self._path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _child(name: str, about: Mapping[str, Any]) -> Result | None:
    """Explore a scenario in a process of its own, where hashes are the same each time; None if that has failed."""
    argv = [sys.executable, "-m", "tests.guarantees", "--one", name]
    argv += ["--profile", about["profile"], "--seed", str(about["seed"])]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        _say(f"{name}: its process ended with {done.returncode}")
        return None
    if commit() != about["commit"]:
        _say(f"{name}: the code has changed meanwhile, to {commit()}")
        return None
    result = Result(**json.loads(done.stdout))
    _say(f"{name}: done, {result.total} runs in {result.seconds:g} s, {len(result.findings)} findings")
    return result


def _told(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page says of the run."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    return {
        **{key: str(value) for key, value in about.items()},
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }


def main() -> int:
    """Run what was asked for; return 0 if everything was run and nothing was found."""
    options = _parser().parse_args()
    if options.one:
        print(json.dumps(as_json(run(options.one, options.profile, options.seed))))
        return 0
    if options.write and options.only:
        _say("a page has all scenarios: --write and --only do not go together")
        return 2
    as_kept = options.as_kept or bool(options.again)
    kept = Kept(options.json, as_kept=as_kept, profile=options.profile, seed=options.seed, commit=commit())
    names = [name for name in SCENARIO if not options.only or name in options.only]
    missing = options.again or [name for name in names if name not in kept.results and not as_kept]
    about = {**kept.about, "commit": commit()}
    told = ", ".join(f"{key} {value}" for key, value in about.items() if key != "version")
    _say(f"{len(missing)} of {len(names)} scenarios to be run: {told}")

    def one(name: str) -> None:
        if (result := _child(name, about)) is not None:
            kept.add(attrs.evolve(result, commit=about["commit"]) if options.again else result)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, missing))
    if lacking := [name for name in names if name not in kept.results]:
        _say(f"there is no result of {', '.join(lacking)}")
        return 1
    results = {name: kept.results[name] for name in names}
    if options.write:
        options.write.write_text(page(results, HUNTS, _told(kept.about)), "utf-8")
    for result in results.values():
        for found in result.findings:
            _say(f"{result.scenario} breaks {found['properties']}: {found['what']} ({found['tape']})")
    return int(any(result.findings for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
