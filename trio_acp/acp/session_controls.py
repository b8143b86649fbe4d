"""Telling an agent's session its mode and its configuration options.

ACP v1 has two ways to a mode: ``session/set_mode``, and a configuration
option, which supersedes it.  Where an agent has both, the option is used.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from typing import TYPE_CHECKING

import attrs
import trio

from .._errors import InvalidMessage, InvalidOption, RequestFailed, UnsupportedControl
from ..abc import Capabilities, Runtime
from .schema import EmptyResponse, ErrorCode, SetConfigOptionRequest, SetConfigOptionResponse, SetModeRequest

if TYPE_CHECKING:
    from .._events import ConfigOption
    from ..abc import ControlName, Handle
    from .pending import PendingReply
    from .session import AgentSession


class RuntimeControls(Runtime):
    """The part of `AcpRuntime` that changes a session's options."""

    @abstractmethod
    def _session(self, handle: Handle) -> AgentSession:
        """Return the agent's session that a handle stands for."""

    async def capabilities(self, handle: Handle) -> Capabilities:
        """Tell what the agent advertised; asks it nothing, for it keeps us informed.

        If cancelled, nothing happened.
        """
        await trio.lowlevel.checkpoint()
        session = self._session(handle)
        options = session.config or ()
        controls: set[ControlName] = set()
        if options:
            controls.add("session/set_config_option")
        if session.modes is not None or _mode_option(session) is not None:
            controls.add("session/set_mode")
        return Capabilities(controls=frozenset(controls), config_keys=tuple(option.id for option in options))

    async def set_mode(self, handle: Handle, mode_id: str) -> None:
        """Set the mode, by the configuration option for it if there is one.  If cancelled, it may have happened.

        Raises:
            UnsupportedControl: the agent has no modes.
            RequestFailed: it refused.
        """
        session = self._session(handle)
        option = _mode_option(session)
        if option is not None:
            await _set(session, option, mode_id)
            return
        if session.modes is None:
            raise UnsupportedControl("the agent has no modes")
        request = SetModeRequest(session_id=session.id, mode_id=mode_id)
        try:
            await session.connection.call("session/set_mode", request, EmptyResponse)
        except RequestFailed as error:
            raise _meaning(error) from error
        if session.modes is not None:
            session.modes = attrs.evolve(session.modes, current_mode_id=mode_id)

    async def set_config_option(self, handle: Handle, key: str, value: str) -> None:
        """Set a configuration option that the agent advertised.  If cancelled, it may have happened.

        Raises:
            UnsupportedControl: the agent has no such option.
            InvalidOption: the option is a boolean, and the value neither ``true`` nor ``false``.
            RequestFailed: it refused.
        """
        session = self._session(handle)
        option = next((option for option in session.config or () if option.id == key), None)
        if option is None:
            raise UnsupportedControl(f"the agent has no configuration option {key!r}")
        await _set(session, option, value)


def current_mode(session: AgentSession) -> str | None:
    """Return the mode that the session is in, as far as the agent told."""
    option = _mode_option(session)
    if option is not None:
        return str(option.current_value)
    return None if session.modes is None else session.modes.current_mode_id


def _mode_option(session: AgentSession) -> ConfigOption | None:
    selects = [option for option in session.config or () if option.type == "select"]
    by_category = (option for option in selects if option.category == "mode")
    return next(by_category, None) or next((option for option in selects if option.id == "mode"), None)


async def _set(session: AgentSession, option: ConfigOption, value: str) -> None:
    typed: str | bool = value
    if option.type == "boolean":
        if value.lower() not in {"true", "false"}:
            raise InvalidOption(f"{option.id} is true or false, not {value!r}", detail="invalid-config_value")
        typed = value.lower() == "true"
    request = SetConfigOptionRequest(session_id=session.id, config_id=option.id, value=typed)

    def keep(answer: PendingReply) -> None:
        # Now, and not when we wake: an update right behind the answer is the agent's later word.
        if answer.error is None:
            with contextlib.suppress(InvalidMessage):  # told to whoever waits
                session.config = answer.read(SetConfigOptionResponse).config_options

    try:
        await session.connection.call("session/set_config_option", request, SetConfigOptionResponse, on_answer=keep)
    except RequestFailed as error:
        raise _meaning(error) from error


def _meaning(error: RequestFailed) -> RequestFailed | UnsupportedControl:
    if error.rpc_code == ErrorCode.METHOD_NOT_FOUND:
        return UnsupportedControl(f"the agent does not have {error.method}, although it advertises what it is for")
    return error
