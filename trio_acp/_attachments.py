"""What a prompt can have besides its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._errors import UsageError
from ._events import (
    AudioContent,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    UnknownContent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS: Final[dict[type, str]] = {
    TextContent: "text",
    ImageContent: "image",
    AudioContent: "audio",
    ResourceLink: "resource_link",
    EmbeddedResource: "resource",
    UnknownContent: "unknown",
}
"""The kinds of content blocks, as ACP names them."""


def check_attachments(attachments: Iterable[ContentBlock]) -> tuple[ContentBlock, ...]:
    """Return attachments that can be said at all; whether an agent takes them, its runtime knows.

    Raises:
        UsageError: one is no content block, or an embedded resource without its contents.
    """
    blocks = tuple(attachments)
    for index, block in enumerate(blocks):
        if type(block) not in KINDS:
            raise UsageError(
                f"attachment {index} is no content block but {type(block).__name__}", detail="invalid-attachment"
            )
        if isinstance(block, EmbeddedResource) and (block.text is None) == (block.blob is None):
            raise UsageError(f"attachment {index} must have either a text or a blob", detail="invalid-attachment")
    return blocks
