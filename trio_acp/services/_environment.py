"""The environment of a command that an agent runs.

It begins with almost nothing: where programs are, the home directory, the
language, and a terminal that can do nothing.  Secrets of our own environment
are not passed on.  The agent may add variables, but none that makes another
program run than the one that was allowed.  A list of those is never complete;
it keeps honest agents from accidents, and is no wall against a command that
runs whatever it is given.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from .._owner import MARK, current_owner, mark
from ._refused import Refused, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

FORBIDDEN: Final = frozenset(
    {"PATH", "HOME", "IFS", "CDPATH", "SHELL", "SHELLOPTS", "BASHOPTS", "ENV", "ZDOTDIR", "PS4", "PROMPT_COMMAND"}
    | {"EDITOR", "VISUAL", "PAGER", "MANPAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "SSH_ASKPASS", "SUDO_ASKPASS"}
    | {"CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "MAVEN_OPTS", "GRADLE_OPTS"}
    | {"CC", "CXX", "AR", "MAKE", "MAKEFLAGS", "MAKEFILES", "GNUMAKEFLAGS", "RUSTC", "RUSTC_WRAPPER", "GOFLAGS"}
    | {"GCONV_PATH", "LOCPATH", "NLSPATH", "HOSTALIASES", "RESOLV_HOST_CONF", "OPENSSL_CONF", "GLIBC_TUNABLES"}
)
"""Variables that an agent may not set."""

FORBIDDEN_PREFIXES: Final = (
    *("LD_", "DYLD_", "MALLOC_", "BASH_", "GIT_", "PYTHON", "PERL5", "RUBY", "GEM_", "BUNDLE_", "LUA_", "PHP"),
    *("NODE_", "NPM_", "YARN_", "PIP_", "UV_", "CARGO_", "DOTNET_", "CORECLR_", "XDG_", "TRIO_ACP_"),
)
"""How further ones begin, in upper case or in lower."""


def base_environment() -> dict[str, str]:
    """Return what every command gets, made of our own environment as it is now."""
    ours = os.environ
    return {
        "PATH": ours.get("PATH", os.defpath),
        "HOME": ours.get("HOME", "/"),
        "LANG": ours.get("LANG", "C.UTF-8"),
        "TERM": "dumb",
    }


def environment(base: dict[str, str], wanted: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the whole environment of a command.

    Raises:
        Refused: a variable may not be set, or is no variable; nothing is dropped in silence.
    """
    result = dict(base)
    for name, value in wanted:
        if not _NAME.fullmatch(name) or "\0" in value:
            raise Refused("invalid", f"{quoted(name)} is no name of an environment variable, or its value no text")
        if name.upper() in FORBIDDEN or name.upper().startswith(FORBIDDEN_PREFIXES):
            raise Refused("invalid", f"the environment variable {quoted(name)} may not be set by an agent")
        result[name] = value
    # Known as ours, should this process be killed before it can end the command.
    result[MARK] = mark(current_owner(""))
    return result
