"""From JSON text to typed messages, and back.

* Members are camelCase on the wire; unknown ones, ``_meta`` included, are ignored.
* Types are exact: nothing is coerced, ``"3"`` is no number and true is not 1.
* What `leniency` lists is forgiven: a wrong value becomes the default, a wrong
  item of a list is dropped.
* Anything else that is wrong is one `InvalidMessage` that names the place.
* Members that equal their default are not written.

Everything here is synchronous: nothing waits, so nothing can be cancelled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar

import attrs

from trio_acp import _events as ev
from trio_acp._errors import InvalidMessage

from . import schema
from ._checks import Mismatch
from ._hooks import make_converter

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound=attrs.AttrsInstance)

Update: TypeAlias = ev.Event | schema.ToolCallUpdate
"""What a ``session/update`` becomes; tool call updates are still to be merged into their call."""

_converter: Final = make_converter()
_structure_content: Final = _converter.get_structure_hook(ev.ContentBlock)

# -- text ---------------------------------------------------------------------


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Made once: json.loads() and json.dumps() would make one for each message.
_decoder: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_encoder: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

try:
    import msgspec
except ImportError:
    _quick: Callable[[str], object] | None = None
    _QUICK_REFUSES: tuple[type[Exception], ...] = ()
else:  # of the extra `fast`: what it takes it reads as json does, integers of any length included
    _quick = msgspec.json.Decoder().decode
    _QUICK_REFUSES = (msgspec.MsgspecError, ValueError, RecursionError)


def encode(message: dict[str, Any]) -> str:
    """Write a message as compact JSON: one line, and always encodable as UTF-8.

    Raises:
        InvalidMessage: it holds something that JSON cannot say, such as NaN.
    """
    try:
        text = _encoder.encode(message)
        try:
            if not text.isascii():
                text.encode()
        except UnicodeEncodeError:  # half a surrogate pair: JSON has an escape for it, UTF-8 has nothing
            text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"the message cannot be written as JSON: {error}", detail="not-json") from None
    return text


def decode(text: str) -> object:
    """Read one JSON text.

    Raises:
        InvalidMessage: it is none, or nested too deep, or has a number with thousands of digits.
    """
    if _quick is not None:
        try:
            return _quick(text)
        except _QUICK_REFUSES:
            pass  # the other says what it is: it takes some texts that this one refuses
    try:
        value: object = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"not readable as JSON: {error}", detail="not-json") from None
    return value


# -- messages -----------------------------------------------------------------


def structure(cls: type[T], raw: object, *, at: str = "$") -> T:
    """Make a `cls` of decoded JSON.

    A null is taken for ``{}`` where every member is optional: some agents, and
    the protocol's own documentation, answer null where its schema says object.

    Args:
        cls: The class of the message.
        raw: The decoded JSON.
        at: The path of `raw` in its message, for errors.

    Raises:
        InvalidMessage: a required member is missing, or something that is not
            forgiven is wrong; `path` says where.
    """
    if raw is None and all(attribute.default is not attrs.NOTHING for attribute in attrs.fields(cls)):
        raw = {}
    try:
        return _converter.structure(raw, cls)
    except Mismatch as mismatch:
        raise mismatch.as_error(at) from None


def unstructure(value: attrs.AttrsInstance) -> dict[str, Any]:
    """Make the JSON object of a message of `schema`, or of a content block.

    Not for events: their kind is said outside of them, and some hold less than
    what they were made of.
    """
    message: dict[str, Any] = _converter.unstructure(value)
    return message


def written(params: attrs.AttrsInstance) -> str:
    """Write the params of a request as `encode` would write what `unstructure` makes of them.

    Raises:
        InvalidMessage: they hold something that JSON cannot say.
    """
    if type(params) is schema.PromptRequest and len(params.prompt) == 1 and type(params.prompt[0]) is ev.TextContent:
        session_id, text = params.session_id, params.prompt[0].text
        if type(session_id) is type(text) is str and session_id.isascii() and text.isascii():
            # Nearly every turn's: by hand, at a quarter of the price.
            prompt = f'[{{"type":"text","text":{_encoder.encode(text)}}}]'
            return f'{{"sessionId":{_encoder.encode(session_id)},"prompt":{prompt}}}'
    return encode(unstructure(params))


# -- updates ------------------------------------------------------------------


def _chunk(role: str, of_text: Callable[[str, str | None], ev.Event]) -> Callable[[dict[str, Any]], ev.Event]:
    def build(raw: dict[str, Any]) -> ev.Event:
        try:
            content: ev.ContentBlock = _structure_content(raw.get("content"), None)
        except Mismatch as mismatch:
            raise mismatch.inside(".content") from None
        given = raw.get("messageId")
        message_id = given if isinstance(given, str) else None
        if isinstance(content, ev.TextContent):
            return of_text(content.text, message_id)
        return ev.ContentDelta(role=role, content=content, message_id=message_id)

    return build


def _plain(cls: type[Update]) -> Callable[[dict[str, Any]], Update]:
    return lambda raw: _converter.structure(raw, cls)


_UPDATES: Final[dict[str, Callable[[dict[str, Any]], Update]]] = {
    "agent_message_chunk": _chunk("agent", ev.TextDelta),
    "agent_thought_chunk": _chunk("thought", ev.Thought),
    "user_message_chunk": _chunk("user", ev.UserText),
    "tool_call": _plain(ev.ToolCall),
    "tool_call_update": _plain(schema.ToolCallUpdate),
    "plan": _plain(ev.Plan),
    "available_commands_update": _plain(ev.Commands),
    "current_mode_update": _plain(ev.ModeChanged),
    "config_option_update": _plain(ev.ConfigChanged),
    "session_info_update": _plain(ev.SessionInfo),
    "usage_update": _plain(ev.Usage),
}


def structure_update(
    raw: object, *, at: str = "$.params.update", on_invalid: Callable[[InvalidMessage], None] | None = None
) -> Update:
    """Make an event of the ``update`` of a ``session/update``.  Never fails.

    A kind that this version does not know is an `UnknownUpdate`.  So is a known
    kind with something required missing or wrong; if `raw` is not even an
    object, the `UnknownUpdate` is empty.

    Args:
        raw: The decoded JSON.
        at: The path of `raw` in its message, for errors.
        on_invalid: Told what is wrong with a malformed update, to log and count
            it; not called for one that is merely unknown.
    """
    try:
        if not isinstance(raw, dict):
            raise Mismatch("an object", raw)
        kind = raw.get("sessionUpdate")
        if not isinstance(kind, str):
            raise Mismatch("a string", kind).inside(".sessionUpdate")
        build = _UPDATES.get(kind)
        return ev.UnknownUpdate(raw) if build is None else build(raw)
    except Mismatch as mismatch:
        if on_invalid is not None:
            on_invalid(mismatch.as_error(at))
        return ev.UnknownUpdate(raw if isinstance(raw, dict) else {})
