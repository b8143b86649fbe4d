"""The part of `Session` that changes its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ._controls import reset_in_lane, set_in_lane, update_in_lane
from ._options import ConfigPair, OptionChanges, changes_of_config, check_changes, check_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Unpack

    from ._context import Context
    from ._records import RuntimeOptions
    from ._requests import Control


class SessionControls(ABC):
    """Changes the options of a session, each change an operation in its lane.

    Options are stored with the session.  Every turn runs with them: the
    backend is told before the turn, whenever it may not have them.
    """

    _ctx: Context

    @abstractmethod
    async def _operate(self, run: Callable[[Control], Awaitable[Any]]) -> Any:
        """Carry out an operation in this session's lane, and return its result."""

    async def set_mode(self, mode: str) -> RuntimeOptions:
        """Have the agent go into a mode, now, and keep it there for later turns; opens the session if need be.

        ACP: ``session/set_mode``, or ``session/set_config_option`` where the agent's mode is an option.
        If cancelled before the options were stored, nothing changed; later,
        the change stands, and the agent is told again before the next turn.
        The same holds after `setup` (opening), or `controls` seconds, and for
        a connection that is lost meanwhile.  If the agent refuses, nothing changed.

        Returns:
            All options of the session.

        Raises:
            InvalidOption: no agent can have such a mode.
            UnsupportedControl: the agent has no modes.
            RequestFailed: the agent refused.
            SessionInUse: another manager has the session open.
            TurnFailed: with detail ``setup-timeout`` or ``controls-timeout``.
            SessionMissing: there is no such session.
            StoreError: the options cannot be stored; nothing changed.
            BackendError: the session cannot be opened.
            ManagerClosed: the manager is closing.
        """
        changes = check_changes({"mode": mode})
        options: RuntimeOptions = await self._operate(
            lambda control: set_in_lane(self._ctx, control, changes["mode"], changes)
        )
        return options

    async def set_config_option(self, key: str, value: str) -> RuntimeOptions:
        """Set one of the agent's configuration options, now and for later turns; opens the session if need be.

        ACP: ``session/set_config_option``.
        ``model``, ``mode``, ``approval_policy`` (or ``permissions``), ``timeout``
        and ``cwd``, in any case, are options of the session by these names; the
        last two are the manager's, and the agent is told before the next turn.
        If cancelled, or if something fails, the law is that of `set_mode`.

        Returns:
            All options of the session.

        Raises:
            InvalidOption: the key or the value cannot be.
            UnsupportedControl: the agent does not offer it.
            RequestFailed: the agent refused.
            AcpError: as `set_mode`.
        """
        key, value = check_config(key, value)
        changes = changes_of_config(key, value)
        options: RuntimeOptions
        if changes.keys() & {"cwd", "timeout_seconds"}:
            options = await self._operate(lambda control: update_in_lane(self._ctx, control, changes))
        else:
            pair = ConfigPair(key, value)
            options = await self._operate(lambda control: set_in_lane(self._ctx, control, pair, changes))
        return options

    async def update_options(self, **changes: Unpack[OptionChanges]) -> RuntimeOptions:
        """Change stored options; the agent is told before the next turn, and the session is not opened.

        An option that is not named stays, and `UNSET` unsets it; extras change
        one by one.  Another working directory, or an option that is unset,
        needs another backend session: an open one is closed, within `cleanup`
        seconds, and the next operation resumes.  If cancelled, the change
        happened or did not, as a whole.

        Returns:
            All options of the session.

        Raises:
            InvalidOption: there is no such option, or it cannot have that value.
            SessionMissing: there is no such session.
            SessionInUse: another manager has the session open.
            StoreError: the options cannot be read or stored within `controls` seconds.
            ManagerClosed: the manager is closing.
        """
        checked = check_changes(changes)
        options: RuntimeOptions = await self._operate(lambda control: update_in_lane(self._ctx, control, checked))
        return options

    async def reset_options(self) -> RuntimeOptions:
        """Unset all options; an open backend session is closed, and the next operation resumes it.

        The working directory is then the one that the session was started
        with.  If cancelled, it happened or did not, as a whole.

        Returns:
            The options: none is set.

        Raises:
            SessionMissing: there is no such session.
            SessionInUse: another manager has the session open.
            StoreError: the options cannot be stored within `controls` seconds.
            ManagerClosed: the manager is closing.
        """
        options: RuntimeOptions = await self._operate(lambda control: reset_in_lane(self._ctx, control))
        return options
