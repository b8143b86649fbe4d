"""Which attachments an agent takes: those it announced, besides text and resource links, which all take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._attachments import KINDS
from .._errors import UnsupportedContent

if TYPE_CHECKING:
    from .._events import ContentBlock
    from .schema import PromptCapabilities


def check_offered(prompt: tuple[ContentBlock, ...], offers: PromptCapabilities) -> None:
    """Check that a prompt has nothing that the agent did not announce.

    Args:
        prompt: The text, then the attachments.

    Raises:
        UnsupportedContent: it has; the error names the first of these.
    """
    offered = {
        "text": True,
        "resource_link": True,
        "image": offers.image,
        "audio": offers.audio,
        "resource": offers.embedded_context,
    }
    for index, block in enumerate(prompt[1:]):
        kind = KINDS[type(block)]
        if not offered.get(kind, False):
            raise UnsupportedContent(
                f"the agent takes no attachment of kind {kind!r} (attachment {index}); nothing was sent",
                index=index,
                kind=kind,
            )
