"""Text of the agent, which is nearly all that arrives, read by msgspec from a frame to its event in one go.

The reference is what `RpcPeer.receive` and `codec.structure_update` make of a
frame.  `read_chunk` either returns what these would, or None to leave it to
them: for everything else, and wherever msgspec, of the extra ``fast``, is not
installed.  A test holds both against each other for any frame.  (In one thing
it is more lenient: a number of thousands of digits that nobody reads.)

Synchronous: nothing waits, so nothing can be cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from trio_acp._events import TextDelta, Thought, UserText

if TYPE_CHECKING:
    from collections.abc import Callable

Chunk: TypeAlias = TextDelta | Thought | UserText

try:
    import msgspec
except ImportError:

    def read_chunk(text: str) -> tuple[str, Chunk] | None:
        """Return the session's id and the event if a frame is a chunk of text; None for any other."""
        return None

else:
    _EVENTS: Final[dict[str, Callable[[str, str | None], Chunk]]] = {
        "agent_message_chunk": TextDelta,
        "agent_thought_chunk": Thought,
        "user_message_chunk": UserText,
    }

    class _Content(msgspec.Struct, gc=False):
        type: Literal["text"]
        text: str

    class _Update(msgspec.Struct, rename="camel", gc=False):
        session_update: Literal["agent_message_chunk", "agent_thought_chunk", "user_message_chunk"]
        content: _Content
        message_id: str | None = None

    class _Params(msgspec.Struct, rename="camel", gc=False):
        session_id: str
        update: _Update

    class _Frame(msgspec.Struct, gc=False):
        jsonrpc: Literal["2.0"]
        method: Literal["session/update"]
        params: _Params
        # With one of these it is no notification, whatever else it may be.
        id: Any = msgspec.UNSET
        result: Any = None
        error: Any = None

    _MARK: Final = '_chunk"'
    _NEAR: Final = 256
    """Characters, from the beginning of a frame, in which its kind is looked for; agents write it before the text."""

    _decode: Final = msgspec.json.Decoder(_Frame).decode
    _REFUSES: Final = (msgspec.MsgspecError, ValueError, RecursionError)

    def read_chunk(text: str) -> tuple[str, Chunk] | None:
        """Return the session's id and the event if a frame is a chunk of text; None for any other."""
        if text.find(_MARK, 0, _NEAR) < 0:
            return None  # what is refused below costs as much as what is read
        try:
            frame = _decode(text)
        except _REFUSES:
            return None
        if frame.id is not msgspec.UNSET or frame.result is not None or frame.error is not None:
            return None
        update = frame.params.update
        return frame.params.session_id, _EVENTS[update.session_update](update.content.text, update.message_id)
