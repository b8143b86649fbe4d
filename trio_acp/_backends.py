"""Which runtime serves a session: the registered ones, by name, in order of registration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ._errors import BackendMissing, BackendUnavailable, InvalidOption, UsageError
from ._keys import agent_of
from .abc import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


def backend_name(name: object) -> str:
    """Return a runtime's name trimmed and lower-cased; empty if it is no text, or nothing is left."""
    return name.strip().lower() if isinstance(name, str) else ""


def require_kind(name: str, given: object, kind: type, words: str | None = None) -> None:
    """Refuse what is not of the kind that an argument needs, before it fails somewhere else, or never.

    Raises:
        InvalidOption: it is not.
    """
    if not isinstance(given, kind):
        it = f"the class {given.__name__}" if isinstance(given, type) else _one(type(given))
        raise InvalidOption(f"{name} must be {words or _one(kind)}, not {it}", detail="invalid-argument")


def _one(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


class Backends:
    """The runtimes of a manager.

    Args:
        runtimes: By name; names are trimmed and lower-cased.

    Raises:
        InvalidOption: it is no mapping, or one is no runtime.
        UsageError: a name is blank, or two are the same.
    """

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self._runtimes: dict[str, Runtime] = {}
        require_kind("runtimes", runtimes, Mapping, "a mapping of names to runtimes")
        for given, runtime in runtimes.items():
            name = backend_name(given)
            if not name:
                raise UsageError("a runtime needs a name", detail="empty-backend-name")
            if name in self._runtimes:
                raise UsageError(f"two runtimes are named {name!r}", detail="duplicate-backend-name")
            require_kind(f"runtimes[{given!r}]", runtime, Runtime)
            self._runtimes[name] = runtime

    def __iter__(self) -> Iterator[str]:
        return iter(self._runtimes)

    def get(self, name: str) -> Runtime:
        """Return the runtime registered under `name`.

        Raises:
            BackendMissing: there is none.
        """
        registered = name if name in self._runtimes else backend_name(name)
        if registered not in self._runtimes:
            known = ", ".join(sorted(self)) or "none"
            raise BackendMissing(f"no runtime is registered as {name!r} (registered: {known})")
        return self._runtimes[registered]

    def is_healthy(self, name: str) -> bool:
        """Whether a registered runtime says that it can open sessions; one that fails to answer cannot."""
        try:
            return self._runtimes[name].healthy()
        except Exception:  # noqa: BLE001 - foreign code, whose answer is no
            _log.exception("the runtime %s failed to say whether it is healthy", name)
            return False

    def require(self, name: str) -> str:
        """Return the registered name of a runtime that can open a session.

        Raises:
            BackendMissing: there is no such runtime.
            BackendUnavailable: it says that it is not healthy.
        """
        self.get(name)
        name = backend_name(name)
        if not self.is_healthy(name):
            raise BackendUnavailable(f"the runtime {name!r} is not healthy now; nothing was asked of it")
        return name

    def choose(self, key: str = "") -> str:
        """Return the name of the runtime for a session that names none.

        The agent of its key, if that is registered; else the first healthy
        runtime; else the first.

        Raises:
            BackendMissing: none is registered.
            BackendUnavailable: the chosen one is not healthy.
        """
        own = agent_of(key)
        if own in self._runtimes:
            return self.require(own)
        if not self._runtimes:
            raise BackendMissing("no runtime is registered")
        for name in self._runtimes:
            if self.is_healthy(name):
                return name
        return self.require(next(iter(self._runtimes)))
