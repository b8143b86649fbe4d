"""Finding what ``trio-acp explore`` was asked to explore: a built-in scenario, or one in a file of the user's."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..explore import Cancel, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

_REGISTRY = "trio_acp.testing.scenarios"
"""A module with ``SCENARIOS``, the built-in ones."""


class BadTarget(Exception):
    """There is no such thing to explore; the message says what is missing where."""


def built_in() -> dict[str, Scenario]:
    """Return the built-in scenarios by name; none, if this release has none."""
    if importlib.util.find_spec(_REGISTRY) is None:
        return {}
    scenarios: Iterable[Scenario] = importlib.import_module(_REGISTRY).SCENARIOS
    return {scenario.name: scenario for scenario in scenarios}


def find(target: str, known: Iterable[str]) -> Scenario:
    """Return what ``FILE.py::NAME`` names.

    The file is run as a program's main file is: what is beside it can be imported.

    Raises:
        BadTarget: there is none.
    """
    file, colons, name = target.partition("::")
    path = Path(file)
    if not colons and path.suffix != ".py":
        raise BadTarget(f"there is no built-in scenario {target!r}: {', '.join(known) or 'there are none'}")
    if not path.is_file():
        raise BadTarget(f"there is no file {file}")
    module = _load(path)
    there = [each for each, value in vars(module).items() if _explicit(value) is not None]
    if not name:
        raise BadTarget(f"which scenario of {file}? It has: {', '.join(there) or 'none'}")
    if not hasattr(module, name):
        raise BadTarget(f"there is no {name} in {file}; its scenarios: {', '.join(there) or 'none'}")
    value = getattr(module, name)
    if (scenario := _explicit(value)) is not None:
        return scenario
    if inspect.iscoroutinefunction(value) and len(inspect.signature(value).parameters) == 1:
        return Scenario(value, name, (Cancel(),))
    if hasattr(value, "__wrapped__"):
        raise BadTarget(f"{name} in {file} has parameters that only pytest can fill; run it with pytest")
    raise BadTarget(f"{name} in {file} is no Scenario, no test with @explored, and no async function of one parameter")


def _explicit(value: object) -> Scenario | None:
    found = value if isinstance(value, Scenario) else getattr(value, "scenario", None)
    return found if isinstance(found, Scenario) else None


def _load(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(f"explored_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadTarget(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module
