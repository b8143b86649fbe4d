"""Which agent a name means: one of the configuration file, else a built-in one, else one of the imported registry."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from .._errors import InvalidOption
from ._known import KNOWN
from ._registry import load_registry

if TYPE_CHECKING:
    from ._config import Config
    from ._spec import AgentSpec


def named_agents(config: Config) -> dict[str, AgentSpec]:
    """Return all agents that have a name; the first place to know a name decides.

    Raises:
        InvalidOption: the imported registry is broken.
    """
    return {**load_registry(), **KNOWN, **config.agents}


def find_agent(name: str, config: Config, *, option: str) -> AgentSpec:
    """Return the agent of that name.

    Args:
        name: As it was given.
        config: The configuration file.
        option: Where it was given, for messages.

    Raises:
        InvalidOption: there is none, or it would have to be downloaded first.
    """
    # The registry is read only if it is needed: a broken one is nobody's trouble who does not use it.
    spec = config.agents.get(name) or KNOWN.get(name) or load_registry().get(name)
    if spec is None:
        near = difflib.get_close_matches(name, named_agents(config), n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise InvalidOption(
            f'{option}: no agent has the name {name!r}{meant}; "trio-acp agents" lists them', detail="unknown-agent"
        )
    if spec.archive is not None:
        raise InvalidOption(
            f"{option}: {name} is only an archive to download, which is left to you: {spec.archive}; "
            "install it and name its command with --stdio",
            detail="not-installed",
        )
    return spec
