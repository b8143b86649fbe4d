"""`Session`, what a user holds of a session: the address of its actor."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ._actor import admit
from ._attachments import check_attachments
from ._close import CloseWish, close_in_lane
from ._errors import InvalidOption, ManagerClosed, SessionClosed, UsageError
from ._events import TextContent
from ._operations import describe, probe_in_lane
from ._outcomes import Stopped
from ._prompt import Turn
from ._requests import Control
from ._service import shielded
from ._session_controls import SessionControls
from ._turn import settle
from ._turn_state import TurnState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ._close import CloseReport
    from ._context import Context
    from ._events import ContentBlock
    from ._operations import SessionStatus
    from ._outcomes import Reply, StoppedBy
    from ._records import Origin, SessionRecord
    from ._requests import Request
    from .abc import PromptMode


class Session(SessionControls):
    """A session's address: cheap, without state of its own, valid as long as its manager.

    Got from `SessionManager.start_session` or `SessionManager.session`.

    Attributes:
        key: The session's canonical key.
        origin: How `start_session` came by the agent's session: ``new``,
            ``resumed``, ``reused`` (it was open), or ``replaced`` (what was
            stored could not be resumed, so the conversation begins anew).
            None if this address was not got from there.
        lost: Why that could not be resumed, if it was ``replaced``; partly in the agent's words.
    """

    def __init__(self, ctx: Context, key: str, *, record: SessionRecord | None = None) -> None:
        self._ctx = ctx
        self._record = record
        self.key = key
        self.origin: Origin | None = None
        self.lost: str | None = None

    def __repr__(self) -> str:
        return f"<Session {self.key!r}>"

    def turn(
        self,
        text: str,
        *,
        attachments: Sequence[ContentBlock] = (),
        timeout: float | None = None,
        mode: PromptMode = "prompt",
    ) -> Turn:
        """Return a turn, to be entered with ``async with``; see `Turn`.

        Args:
            attachments: What goes with the text.  One of a kind that the agent
                did not announce fails the turn with detail
                ``unsupported-content``, before anything is sent.
            timeout: Seconds for the turn instead of the session's option or the manager's setting.
            mode: ``steer`` tells the runtime that this corrects what the agent
                is at.  It waits for its turn like any other prompt: nothing
                is put into a turn that runs.

        Raises:
            InvalidOption: the timeout is not a positive number, or there is no such mode.
            UsageError: the text or an attachment is not what it has to be.
        """
        return Turn(self, self._new_turn(text, attachments, timeout, mode, collect_only=False))

    async def prompt(
        self,
        text: str,
        *,
        attachments: Sequence[ContentBlock] = (),
        timeout: float | None = None,
        mode: PromptMode = "prompt",
    ) -> Reply:
        """Run a turn to its end and return what the agent said.  ACP: ``session/prompt``.

        If cancelled while queued, nothing happened.  Later, the agent is told
        to stop and given `cleanup` seconds for it, and then `trio.Cancelled`
        goes on; the agent may have done a part of the work.

        Args: as for `turn`.

        Returns:
            The text, with the outcome: `Completed` or `Stopped`.

        Raises:
            TurnTimedOut: the deadline passed, and `grace` more seconds.
            TurnFailed: the turn ended with an error, which is its cause: for an
                agent that cannot be reached, a `BackendUnavailable`; for a
                session that does not exist, a `SessionMissing`; for one that
                another manager has open, a `SessionInUse`.
            QueueFull: too many requests wait already.
            ManagerClosed: the manager is closing.
            InvalidOption, UsageError: as `turn` says.
            RuntimeError: this task is inside an unfinished turn of the same session.
        """
        state = self._new_turn(text, attachments, timeout, mode, collect_only=True)
        async with Turn(self, state):
            await state.settled.wait()
        return state.reply()

    async def cancel(self, reason: str = "cancelled by the user") -> int:
        """Stop the running turn and those that wait now; return how many that were.  ACP: ``session/cancel``.

        Returns once they have settled.  If cancelled itself, they are stopped
        all the same.  A session without turns has nothing to do.
        """
        await trio.lowlevel.checkpoint()
        turns = [request for request in self._ctx.queue.requests(self.key) if isinstance(request, TurnState)]
        stopped = sum([self._stop(turn, "user", reason) for turn in turns])
        for turn in turns:
            await turn.settled.wait()
        return stopped

    async def close(
        self,
        reason: str = "closed by the user",
        *,
        forget: bool = False,
        discard: bool = False,
        allow_backend_unavailable: bool = False,
        require_session: bool = True,
    ) -> CloseReport:
        """Stop the session's turns and close its backend session, if one is open.  ACP: ``session/close``.

        Waiting operations raise `SessionClosed`; later ones open the session
        again.  No backend session is opened in order to be closed.  If
        cancelled, the turns are stopped all the same and an open handle is
        closed or left to the next operation.

        Args:
            reason: Told to the runtime.
            forget: Delete the stored metadata too.
            discard: Keep the metadata, but not what the conversation could be
                resumed by: the next turn begins it anew.
            allow_backend_unavailable: Report, instead of raising, that the
                backend is gone or gave no answer in time; with `discard` also
                that it cannot close, or never had, the session.
            require_session: Whether it is an error that there is no such session.

        Raises:
            SessionMissing: there is no such session, as `require_session` demands.
            AcpError: the runtime did not close it, as its error or a
                `TurnFailed` with detail ``close-timeout`` says.  The handle is
                given up all the same, and the metadata is untouched.
            StoreError: the metadata could not be read, deleted or changed.
            SessionInUse: nor may it be: another manager has the session open.
            ManagerClosed: the manager is closing.
        """
        await trio.lowlevel.checkpoint()
        for request in self._ctx.queue.requests(self.key):
            if isinstance(request, TurnState):
                self._stop(request, "closed", reason)
            elif self._ctx.queue.withdraw(self.key, request):
                assert isinstance(request, Control)
                request.settle(error=SessionClosed(f"session {self.key!r} was closed"))
        # No checkpoint since they were listed: nothing gets into the lane between what was stopped and the close.
        wish = CloseWish(
            forget=forget,
            discard=discard,
            allow_backend_unavailable=allow_backend_unavailable,
            require_session=require_session,
        )
        report: CloseReport = await self._carry_out(lambda control: close_in_lane(self._ctx, control, reason, wish))
        return report

    async def status(self) -> SessionStatus:
        """Tell how the session is; asks the runtime too if the session is live and idle, for `probe` seconds.

        If cancelled, nothing happened, but ids that the runtime told may be stored.

        Raises:
            SessionMissing: there is no such session.
            StoreError: its metadata cannot be read within `probe` seconds.
            ManagerClosed: the manager is closing.
        """
        if self._ctx.is_idle(self.key):
            status: SessionStatus = await self._operate(lambda control: probe_in_lane(self._ctx, control))
            return status
        return await describe(self._ctx, self.key)

    # -- helpers ----------------------------------------------------------------

    async def _operate(self, run: Callable[[Control], Awaitable[Any]]) -> Any:
        """Carry out an operation in this session's lane, and return its result.

        If cancelled while it waits, it did not happen; later, it is told to
        stop and waited for, within ``2 * cleanup`` seconds (plus ``2 * join``).
        """
        await trio.lowlevel.checkpoint()
        return await self._carry_out(run)

    async def _carry_out(self, run: Callable[[Control], Awaitable[Any]]) -> Any:
        self._admit(control := Control(self.key, token_hex(16), run))
        try:
            await control.settled.wait()
        except trio.Cancelled:
            if not self._ctx.queue.withdraw(self.key, control):
                control.stop()
                limits = self._ctx.settings.limits
                with shielded(2 * limits.cleanup + 2 * limits.join):
                    await control.settled.wait()
            raise
        if control.error is not None:
            raise control.error
        return control.result

    def _admit(self, request: Request) -> None:
        """Put a request into this session's lane.

        Raises:
            ManagerClosed: the manager is closing.
            QueueFull: too many requests wait already.
        """
        if self._ctx.closing:
            raise ManagerClosed("the session manager is closed")
        admit(self._ctx, request)

    def _new_turn(
        self,
        text: str,
        attachments: Sequence[ContentBlock],
        timeout: float | None,
        mode: PromptMode,
        *,
        collect_only: bool,
    ) -> TurnState:
        if not isinstance(text, str):
            raise UsageError(f"a prompt must be text, not {type(text).__name__}", detail="invalid-prompt")
        if mode not in {"prompt", "steer"}:
            raise InvalidOption(f"the mode of a turn is prompt or steer, not {mode!r}", detail="invalid-turn-mode")
        settings = self._ctx.settings
        limits = settings.limits
        if timeout is not None:
            try:
                limits = attrs.evolve(limits, turn=timeout)
            except InvalidOption as error:
                raise InvalidOption(f"timeout: {error}", detail="invalid-timeout") from error
        return TurnState(
            key=self.key,
            id=token_hex(16),
            prompt=(TextContent(text=text), *check_attachments(attachments)),
            mode=mode,
            limits=limits,
            max_buffered=settings.max_buffered,
            ephemeral_record=self._record,
            collect_only=collect_only,
            own_timeout=timeout is not None,
        )

    @trio.lowlevel.enable_ki_protection
    def _stop(self, turn: TurnState, by: StoppedBy, reason: str | None) -> bool:
        """Stop a turn wherever it is; one that only waits is settled here and now."""
        if self._ctx.queue.withdraw(self.key, turn):
            self._ctx.trace("withdrawn", turn)
            settle(self._ctx, turn, turn.decide("finished") if turn.stopping else Stopped(by=by, reason=reason))
            return True
        return turn.stop(by, trio.current_time(), reason)
