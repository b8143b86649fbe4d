"""The options of a session: what is accepted, how changes merge, what the backend is told.

Synchronous and without I/O.  The class itself is `_records.RuntimeOptions`,
because it is stored.  A change is checked here before anything happens; what
was stored earlier is only normalised, for it may be older than a rule.

Lengths are counted in code points.  White space is what ECMAScript trims, so
that both implementations of these rules accept the same texts.
"""

from __future__ import annotations

import enum
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath
from typing import Any, Final, TypedDict

import attrs

from ._errors import InvalidOption
from ._records import RuntimeOptions

LONGEST: Final = {
    "mode": 64,
    "model": 200,
    "permission_profile": 80,
    "cwd": 4096,
    "config_key": 64,
    "config_value": 512,
}
"""Characters that a text may have."""

MAX_TIMEOUT: Final = 86_400
"""Seconds that a session's own timeout may have: a day."""

MAX_EXTRAS: Final = 32
"""Extras that a session may have."""

_SPACE: Final = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._:-]*", re.IGNORECASE | re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_FIXED: Final = {
    # The option, and the keys under which agents know it; the first is the one to use where nothing is advertised.
    "model": ("model",),
    "permission_profile": ("approval_policy", "permission_profile", "permissions"),
    "timeout_seconds": ("timeout", "timeout_seconds"),
}
_ALIASES: Final = {alias: option for option, keys in _FIXED.items() for alias in keys} | {"cwd": "cwd", "mode": "mode"}


class Unset(enum.Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""Given as the new value of an option: it is not set any more."""


class OptionChanges(TypedDict, total=False):
    """What `Session.update_options` takes, as `RuntimeOptions` has it; an option that is not named stays as it is."""

    mode: str | Unset
    model: str | Unset
    cwd: str | Unset
    permission_profile: str | Unset
    timeout_seconds: float | Unset
    extras: Mapping[str, str | Unset] | Unset


@attrs.frozen
class ConfigPair:
    """One configuration option to send; if not `required`, a backend without it is fine."""

    key: str
    value: str
    required: bool = True


# -- checking -----------------------------------------------------------------


def _refuse(option: str, why: str) -> InvalidOption:
    return InvalidOption(f"{option} {why}", detail=f"invalid-{option}")


def _text(value: object) -> str | None:
    return value.strip(_SPACE) or None if isinstance(value, str) else None


def check_text(option: str, value: object) -> str:
    """Return a text trimmed.

    Raises:
        InvalidOption: it is empty or no text; else too long; else has a control character.
    """
    text = _text(value)
    if text is None:
        raise _refuse(option, "must not be empty")
    if len(text) > LONGEST[option]:
        raise _refuse(option, f"must be at most {LONGEST[option]} characters")
    if _CONTROL.search(text):
        raise _refuse(option, "must not include control characters")
    return text


def check_cwd(value: object) -> str:
    """Return a working directory; what is absolute, the platform decides.

    Raises:
        InvalidOption: see `check_text`; or it is not absolute.
    """
    cwd = check_text("cwd", value)
    if not PurePath(cwd).is_absolute():
        raise _refuse("cwd", f"must be an absolute path, not {cwd!r}")
    return cwd


def check_timeout(value: object) -> int:
    """Return a number of seconds as a whole one; a half is rounded up.

    Raises:
        InvalidOption: it is no finite number; or not in 1 to `MAX_TIMEOUT` once it is rounded.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse("timeout_seconds", "must be a positive integer in seconds")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refuse("timeout_seconds", "must be a positive integer in seconds")
        value = math.floor(value + 0.5)
    if not 1 <= value <= MAX_TIMEOUT:
        raise _refuse("timeout_seconds", f"must be between 1 and {MAX_TIMEOUT} seconds")
    return value


def check_timeout_text(value: object) -> int:
    """Return a number of seconds that is written in decimal digits.

    Raises:
        InvalidOption: it has something else; or see `check_timeout`.
    """
    text = _text(value)
    if text is None or not _DIGITS.fullmatch(text):
        raise _refuse("timeout_seconds", "must be a positive integer in seconds")
    return check_timeout(float(text))  # not int(), which refuses thousands of digits in its own way


def check_config(key: object, value: object) -> tuple[str, str]:
    """Return the key and value of one configuration option, trimmed.

    Raises:
        InvalidOption: see `check_text`, the key first; or the key has characters that no key has.
    """
    checked = check_text("config_key", key)
    if not _KEY.fullmatch(checked):
        raise _refuse("config_key", "must use letters, numbers, dots, colons, underscores, or dashes")
    return checked, check_text("config_value", value)


def _check_extras(value: object) -> dict[str, str | Unset]:
    if not isinstance(value, Mapping):
        raise _refuse("extras", "must be a key/value object")
    if len(value) > MAX_EXTRAS:
        raise _refuse("extras", f"must include at most {MAX_EXTRAS} entries")
    checked: dict[str, str | Unset] = {}
    for key, wanted in value.items():
        name, text = check_config(key, "-" if wanted is UNSET else wanted)
        checked[name] = UNSET if wanted is UNSET else text
    return checked


_CHECKS: Final[dict[str, Callable[[object], Any]]] = {
    "mode": lambda value: check_text("mode", value),
    "model": lambda value: check_text("model", value),
    "cwd": check_cwd,
    "permission_profile": lambda value: check_text("permission_profile", value),
    "timeout_seconds": check_timeout,
    "extras": _check_extras,
}


def check_changes(changes: Mapping[str, object]) -> dict[str, Any]:
    """Return changes that can be made; `UNSET` stays what it is, None is no value.

    Raises:
        InvalidOption: there is no such option; or else the first in order (mode,
            model, cwd, permission profile, timeout, extras) that has a wrong value.
    """
    for name in changes:
        if name not in _CHECKS:
            raise InvalidOption(f"there is no option {name!r}, only {', '.join(_CHECKS)}", detail="unknown-option")
    return {
        name: UNSET if changes[name] is UNSET else check(changes[name])
        for name, check in _CHECKS.items()
        if name in changes
    }


def changes_of_config(key: str, value: str) -> dict[str, Any]:
    """Return what setting a configuration option changes; both are as `check_config` returned them.

    Keys that mean an option of ours, in whatever case, change that one, by its
    own rules; any other key is an extra, in its own case.

    Raises:
        InvalidOption: the option cannot have that value.
    """
    option = _ALIASES.get(key.lower())
    if option is None:
        return {"extras": {key: value}}
    check = check_timeout_text if option == "timeout_seconds" else _CHECKS[option]
    return {option: check(value)}


# -- changing -----------------------------------------------------------------


def normalise(options: RuntimeOptions) -> RuntimeOptions:
    """Return stored options without what says nothing; never fails, and checks no limit."""
    extras = {name: text for key, value in options.extras.items() if (name := _text(key)) and (text := _text(value))}
    return RuntimeOptions(
        mode=_text(options.mode),
        model=_text(options.model),
        cwd=_text(options.cwd),
        permission_profile=_text(options.permission_profile),
        timeout_seconds=timeout_of(options),
        extras=extras,
    )


def timeout_of(options: RuntimeOptions) -> int | None:
    """Return the timeout of stored options, in seconds, if they say one."""
    seconds = options.timeout_seconds
    return seconds if seconds is not None and seconds > 0 else None


def merge(options: RuntimeOptions, changes: Mapping[str, Any]) -> RuntimeOptions:
    """Return options with changes that were checked; extras change one by one.

    Raises:
        InvalidOption: there would be more than `MAX_EXTRAS` extras.
    """
    values = {name: None if value is UNSET else value for name, value in changes.items() if name != "extras"}
    current = normalise(options)
    extras: dict[str, str] = {}
    if (change := changes.get("extras", {})) is not UNSET:
        extras = {key: value for key, value in {**current.extras, **change}.items() if value is not UNSET}
    if len(extras) > max(MAX_EXTRAS, len(current.extras)):
        raise _refuse("extras", f"must include at most {MAX_EXTRAS} entries")
    return attrs.evolve(current, **values, extras=extras)


def must_reopen(old: RuntimeOptions, new: RuntimeOptions) -> bool:
    """Whether only another backend session can have the new options.

    It cannot be moved to another directory, nor told to have no mode, model
    or other option any more.
    """
    lost = any(
        getattr(old, name) is not None and getattr(new, name) is None
        for name in ("mode", "model", "permission_profile", "timeout_seconds")
    )
    return old.cwd != new.cwd or lost or not old.extras.keys() <= new.extras.keys()


# -- telling the backend ------------------------------------------------------


def signature(options: RuntimeOptions) -> str:
    """Return a text that is equal for options of which the backend would be told the same.

    The working directory is not among them: a session is opened with it.
    """
    o = options
    return json.dumps([o.mode, o.model, o.permission_profile, o.timeout_seconds, sorted(o.extras.items())])


def config_pairs(options: RuntimeOptions, advertised: Collection[str] = ()) -> tuple[ConfigPair, ...]:
    """Return the configuration options to send, in order.

    Args:
        options: Normalised.
        advertised: The keys that the backend has; none means that it did not
            say.  A fixed option goes by the alias that is among them.
    """
    pairs: dict[str, ConfigPair] = {}
    known = {key.lower(): key for key in advertised}
    for option, aliases in _FIXED.items():
        value = getattr(options, option)
        if value is not None:
            key = next((known[alias] for alias in aliases if alias in known), aliases[0])
            # The manager keeps the timeout itself.
            required = option != "timeout_seconds"
            if required or not advertised or key in advertised:
                pairs[key] = ConfigPair(key, str(value), required)
    for key, value in options.extras.items():
        pairs.setdefault(key, ConfigPair(key, value))
    return tuple(pairs.values())
