"""The rules of the one converter: how each class of the protocol is read and written.

Everything is built on hooks that check exact types and, where something is
wrong, raise `Mismatch`, which collects the path on its way out.  Nothing of
cattrs' own structuring of values is used: it coerces.
"""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, Final

import attrs
from cattrs import Converter

from trio_acp import _events as ev
from trio_acp.abc import PermissionOption

from . import leniency, schema
from ._checks import (
    MISSING,
    Hook,
    Mismatch,
    exactly,
    list_of,
    restricted,
    structure_float,
    structure_int,
    structure_marker,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Where the wire does not just write our name in camelCase.  None: a hook of its own fills it.
_WIRE_NAMES: Final[dict[tuple[type, str], str | None]] = {
    (ev.ToolCall, "id"): "toolCallId",
    (schema.ToolCallUpdate, "id"): "toolCallId",
    (ev.ModeChanged, "mode_id"): "currentModeId",
    (ev.Commands, "commands"): "availableCommands",
    (ev.Command, "hint"): None,
    (ev.ConfigChanged, "options"): "configOptions",
    (ev.ConfigOption, "values"): None,
    (PermissionOption, "id"): "optionId",
}

# Which member tells the variants of a union apart, and what it says for each class.
_TAGS: Final[dict[type, tuple[str, str]]] = {
    ev.TextContent: ("type", "text"),
    ev.ImageContent: ("type", "image"),
    ev.AudioContent: ("type", "audio"),
    ev.ResourceLink: ("type", "resource_link"),
    ev.EmbeddedResource: ("type", "resource"),
    ev.ToolContent: ("type", "content"),
    ev.ToolDiff: ("type", "diff"),
    ev.ToolTerminal: ("type", "terminal"),
    schema.PermissionSelected: ("outcome", "selected"),
    schema.PermissionCancelled: ("outcome", "cancelled"),
}


def _without_none(target: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into X and whether None was there."""
    args = typing.get_args(target)
    if typing.get_origin(target) is not types.UnionType or type(None) not in args:
        return target, False
    (rest,) = (arg for arg in args if arg is not type(None))
    return rest, True


def _wire_name(cls: type, name: str) -> str | None:
    head, *tail = name.split("_")
    return _WIRE_NAMES.get((cls, name), head + "".join(word.capitalize() for word in tail))


@attrs.frozen
class _Member:
    name: str
    wire: str
    hook: Hook
    required: bool
    default_on_error: bool
    default_on_null: bool


def _members(cls: type, converter: Converter) -> list[_Member]:
    members = []
    for attribute in attrs.fields(attrs.resolve_types(cls)):
        name = attribute.name
        wire = _wire_name(cls, name)
        if wire is None:
            continue
        target, optional = _without_none(attribute.type)
        if attribute.metadata.get(schema.MARKER):
            hook: Hook = structure_marker
        elif typing.get_origin(target) is tuple:
            item = converter.get_structure_hook(typing.get_args(target)[0])
            hook = list_of(item, skip_invalid=name in leniency.SKIP_INVALID_ITEMS.get(cls, ()))
        else:
            hook = converter.get_structure_hook(target)
        if choices := leniency.CLOSED_SETS.get((cls, name)):
            hook = restricted(hook, choices.__contains__, "one of " + ", ".join(sorted(choices)))
        if (cls, name) in leniency.NOT_NEGATIVE:
            hook = restricted(hook, (0).__le__, "a number of at least 0")
        members.append(
            _Member(
                name=name,
                wire=wire,
                hook=hook,
                required=attribute.default is attrs.NOTHING,
                default_on_error=name in leniency.DEFAULT_ON_ERROR.get(cls, ()),
                default_on_null=optional or name in leniency.DEFAULT_ON_NULL.get(cls, ()),
            )
        )
    return members


def _object_hook(cls: type, converter: Converter) -> Hook:
    """Make the hook that structures an attrs class."""
    members = _members(cls, converter)

    def structure(raw: Any, _: Any) -> Any:
        if type(raw) is not dict:
            raise Mismatch("an object", raw)
        values: dict[str, Any] = {}
        for member in members:
            given = raw.get(member.wire, MISSING)
            if given is MISSING:
                if member.required:
                    raise Mismatch("a value", given).inside(f".{member.wire}")
                continue
            try:
                if given is not None or not member.default_on_null:
                    values[member.name] = member.hook(given, None)
                    continue
            except Mismatch as mismatch:
                if not member.default_on_error:
                    raise mismatch.inside(f".{member.wire}") from None
            if member.required:  # it has no default of its own, and is a list: see `leniency`
                values[member.name] = ()
        return cls(**values)

    return structure


def _union_hook(union: Any, converter: Converter) -> Hook:
    """Make the hook that structures a union of `_TAGS`, and perhaps `UnknownContent`."""
    classes = typing.get_args(union)
    hooks = {_TAGS[cls][1]: converter.get_structure_hook(cls) for cls in classes if cls in _TAGS}
    (key,) = {_TAGS[cls][0] for cls in classes if cls in _TAGS}
    open_ended = ev.UnknownContent in classes

    def structure(raw: Any, _: Any) -> Any:
        if type(raw) is not dict:
            raise Mismatch("an object", raw)
        tag = raw.get(key, MISSING)
        if type(tag) is not str:
            raise Mismatch("a string", tag).inside(f".{key}")
        if tag in hooks:
            return hooks[tag](raw, None)
        if open_ended:
            return ev.UnknownContent(raw)
        raise Mismatch("one of " + ", ".join(sorted(hooks)), tag).inside(f".{key}")

    return structure


def _resource_hook(converter: Converter) -> Hook:
    """Make the hook of a resource: its members are one object further in."""
    plain = _object_hook(ev.EmbeddedResource, converter)

    def structure(raw: Any, _: Any) -> ev.EmbeddedResource:
        if type(raw) is not dict:
            raise Mismatch("an object", raw)
        try:
            resource: ev.EmbeddedResource = plain(raw.get("resource", MISSING), None)
            if resource.text is None and resource.blob is None:
                raise Mismatch("a text or a blob", MISSING)
        except Mismatch as mismatch:
            raise mismatch.inside(".resource") from None
        return resource

    return structure


def _command_hook(converter: Converter) -> Hook:
    """Make the hook of a command: its hint is one object further in."""
    plain = _object_hook(ev.Command, converter)

    def structure(raw: Any, _: Any) -> ev.Command:
        command: ev.Command = plain(raw, None)
        given = raw.get("input")
        hint = given.get("hint") if type(given) is dict else None
        return attrs.evolve(command, hint=hint) if type(hint) is str else command

    return structure


def _config_option_hook(converter: Converter) -> Hook:
    """Make the hook of a configuration option: select or boolean, values flat or in groups."""
    plain = _object_hook(ev.ConfigOption, converter)
    flat = list_of(converter.get_structure_hook(schema.ConfigSelectOption), skip_invalid=False)
    grouped = list_of(converter.get_structure_hook(schema.ConfigSelectGroup), skip_invalid=False)

    def values(raw: Any) -> tuple[str, ...]:
        try:
            options = flat(raw, None)
        except Mismatch as mismatch:
            try:
                options = tuple(option for group in grouped(raw, None) for option in group.options)
            except Mismatch:
                raise mismatch.inside(".options") from None
        return tuple(option.value for option in options)

    def structure(raw: Any, _: Any) -> ev.ConfigOption:
        option: ev.ConfigOption = plain(raw, None)
        if option.type not in ("select", "boolean"):
            raise Mismatch("select or boolean", option.type).inside(".type")
        if isinstance(option.current_value, bool) != (option.type == "boolean"):
            raise Mismatch(f"a value of a {option.type}", option.current_value).inside(".currentValue")
        return option if option.type == "boolean" else attrs.evolve(option, values=values(raw.get("options", MISSING)))

    return structure


def _default_of(attribute: attrs.Attribute[Any]) -> Any:
    factory = getattr(attribute.default, "factory", None)
    return attribute.default if factory is None else factory()


def _dict_hook(cls: type, converter: Converter) -> Callable[[Any], dict[str, Any]]:
    """Make the hook that writes an attrs class, without the members that equal their default."""
    members = [
        (attribute.name, wire, _default_of(attribute), bool(attribute.metadata.get(schema.MARKER)))
        for attribute in attrs.fields(cls)
        if (wire := _wire_name(cls, attribute.name)) is not None
    ]
    tag = dict([_TAGS[cls]]) if cls in _TAGS else {}

    def unstructure(value: Any) -> dict[str, Any]:
        message: dict[str, Any] = dict(tag)
        for name, wire, default, marker in members:
            member = getattr(value, name)
            if member != default:  # nothing equals NOTHING
                message[wire] = {} if marker else converter.unstructure(member)
        return message

    return unstructure


def _unstructure_resource(resource: ev.EmbeddedResource) -> dict[str, Any]:
    members = {"uri": resource.uri, "text": resource.text, "blob": resource.blob, "mimeType": resource.mime_type}
    return {"type": "resource", "resource": {name: value for name, value in members.items() if value is not None}}


def _unstructure_config_value(request: schema.SetConfigOptionRequest) -> dict[str, Any]:
    message = {"sessionId": request.session_id, "configId": request.config_id, "value": request.value}
    return message | {"type": "boolean"} if isinstance(request.value, bool) else message


def _is_tagged_union(target: Any) -> bool:
    return typing.get_origin(target) is types.UnionType and any(arg in _TAGS for arg in typing.get_args(target))


def _is(cls: type) -> Callable[[Any], bool]:
    return lambda target: target is cls


def _is_dict(target: Any) -> bool:
    return typing.get_origin(target) is dict


def make_converter() -> Converter:
    """Build the converter, with every rule of this module.

    The hooks of a class are made when it is first used: building is cheap.
    """
    converter = Converter()
    for kind, hook in (
        (str, exactly("a string", str)),
        (bool, exactly("a boolean", bool)),
        (int, structure_int),
        (float, structure_float),
    ):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(str | bool, exactly("a string or a boolean", str, bool))
    converter.register_structure_hook(int | str, exactly("an integer or a string", int, str))
    converter.register_structure_hook_func(_is_dict, exactly("an object", dict))
    converter.register_structure_hook_factory(_is_tagged_union, lambda union: _union_hook(union, converter))
    # The factories for one class come after the one for all: the last that fits is taken.
    converter.register_structure_hook_factory(attrs.has, lambda cls: _object_hook(cls, converter))
    for cls, factory in (
        (ev.EmbeddedResource, _resource_hook),
        (ev.Command, _command_hook),
        (ev.ConfigOption, _config_option_hook),
    ):
        converter.register_structure_hook_factory(_is(cls), lambda _, factory=factory: factory(converter))

    converter.register_unstructure_hook(dict, lambda raw: raw)  # JSON already
    converter.register_unstructure_hook(tuple, lambda items: [converter.unstructure(item) for item in items])
    converter.register_unstructure_hook_factory(attrs.has, lambda cls: _dict_hook(cls, converter))
    converter.register_unstructure_hook(ev.EmbeddedResource, _unstructure_resource)
    converter.register_unstructure_hook(ev.UnknownContent, lambda content: content.raw)
    converter.register_unstructure_hook(schema.SetConfigOptionRequest, _unstructure_config_value)
    return converter
