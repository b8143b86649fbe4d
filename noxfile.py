"""Tasks of this repository: ``nox`` runs the first four, ``nox -l`` lists them all.

Every session also is a plain command, which its body shows.
"""

from __future__ import annotations

import secrets

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "typing", "tests", "demo"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and measure branch coverage, subprocesses included; arguments go to pytest instead."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", *(session.posargs or ["--cov", "-n", "2", "--dist", "loadfile"]))


@nox.session
def ci(session: nox.Session) -> None:
    """Run the tests as a build machine does, with three times as many Hypothesis examples."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", *session.posargs, env={"HYPOTHESIS_PROFILE": "ci"})


@nox.session
def deep(session: nox.Session) -> None:
    """Run the tests with a hundred times as many Hypothesis examples."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", "--timeout=1800", *session.posargs, env={"HYPOTHESIS_PROFILE": "deep"})


@nox.session
def soak(session: nox.Session) -> None:
    """Run what is about concurrency 20 times, then everything 3 times, each with a seed of its own, up to a failure.

    The seed decides what Hypothesis draws and in which order Trio takes tasks
    that are ready together; it stands in the command of each run, which is
    shown, and repeats that run.  The first seed may be given: ``nox -s soak -- 4711``.
    """
    session.install("-e", ".[tests]")
    first = int(session.posargs[0]) if session.posargs else secrets.randbelow(10**6)
    for n in range(23):
        chosen = ["-m", "concurrency"] if n < 20 else []
        seed = f"--hypothesis-seed={first + n}"
        session.run("python", "-m", "pytest", "-q", "-x", "-n", "2", "--dist", "loadfile", seed, *chosen)


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of the package, the tests, the examples and the benchmarks."""
    session.install("-e", ".[tests]", "mypy")
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the rules of structured concurrency."""
    session.install("ruff", "flake8", "flake8-async")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", "--select", "ASYNC", "trio_acp", "examples")  # minutes for the tests, which ruff checks too


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demonstration."""
    session.install("-e", ".")
    session.run("trio-acp", "demo", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Take pictures of the pages that people look at, in headless Chromium if there is one, and say where they are."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "tests.pictures", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build, and check that no page is wider than a phone, if there is Chromium."""
    session.install("-e", ".[docs,otel,prometheus]")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-E", "-b", "html", "docs", "docs/_build", *session.posargs)
    session.run("python", "-m", "tests.page_widths", "docs/_build")


@nox.session
def interop(session: nox.Session) -> None:
    """Run against agents and clients made elsewhere, which the tests install; they say which cannot be had."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", "tests/interop", *session.posargs)


@nox.session
def compare(session: nox.Session) -> None:
    """Play seven cancellations on the official Python SDK and on trio_acp, and write docs/comparison.md."""
    session.install("-e", ".", "agent-client-protocol==0.12.1")
    session.run("python", "-m", "benchmarks.cancellation", "--write", "docs/comparison.md", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what turns and updates cost beside the peers, which are installed into a cache; about an hour.

    ``python -m benchmarks --quick`` is a look that installs nothing.
    """
    session.install("-e", ".[fast]", "trustme>=1.2")
    session.run("python", "-m", "benchmarks", "--install", *session.posargs)


@nox.session
def guarantees(session: nox.Session) -> None:
    """Explore all built-in scenarios as deeply as can be, for hours, and write docs/guarantees.md.

    What was done is kept in .trio-acp/guarantees.json, so that it goes on there when it was cut short.
    """
    session.install("-e", ".[tests]")
    kept = ["--json", ".trio-acp/guarantees.json"]
    page = ["--write", "docs/guarantees.md"]
    session.run("python", "-m", "tests.guarantees", "--profile", "deep", *kept, *page, *session.posargs)
