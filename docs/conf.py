"""How Sphinx builds these pages: ``nox -s docs``, where every warning is an error and nothing is downloaded."""

from __future__ import annotations

import builtins
import re
from typing import TYPE_CHECKING, Any, Final

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "trio_acp"
author = "The trio_acp authors"
html_title = "trio_acp"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
exclude_patterns = ["_build"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "py:obj"
add_module_names = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
autodoc_use_legacy_class_based = True  # what sphinxcontrib-trio extends
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_attr_annotations = False  # the constructor shows them

_OTHERS: Final = (
    "trio",
    "typing",
    "collections",
    "contextlib",
    "logging",
    "math",
    "os",
    "pathlib",
    "ssl",
    "trio_websocket",
    "types",
)
"""Modules of others that docstrings may name; nothing of them is linked, so that nothing is downloaded."""

_PLAIN: Final = {
    "AbstractAsyncContextManager", "Action", "Any", "AsyncIterator", "Awaitable", "Callable", "CleanupState",
    "Collector", "Final", "Iterable", "Iterator", "Literal", "Mapping", "Metric", "Path", "Sequence", "Serves",
    "TracebackType", "Tracer", "Unpack",
}  # fmt: skip
"""Types in signatures that have no place to link to: those of others, and names for what the text explains."""

_MADE_ELSEWHERE: Final = {"Session", "SessionManager", "StdioTransport", "Turn", "WebSocketTransport"}
"""What users get from somewhere and never make: the signature would only show what is private."""


def _prose(docstring: GoogleDocstring, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
    """Read ``Returns:`` and properties as prose: their types are in signatures, so a colon there separates nothing."""
    return [("", "", docstring._dedent(docstring._consume_to_next_section()))]


GoogleDocstring._consume_returns_section = _prose
GoogleDocstring._consume_inline_attribute = lambda docstring: ("", _prose(docstring)[0][2])


def find_public(env: BuildEnvironment, name: str) -> tuple[str, Any] | None:
    """Return where a name is documented: a deadline by its own name, else what ends with it, if that is one thing."""
    objects = env.domains.python_domain.objects
    short = re.sub(r"^trio_acp\.(?:[\w.]*\.)?_\w+\.", "", name)
    for full in (
        short,
        f"trio_acp.{short}",
        f"trio_acp.abc.{short}",
        f"trio_acp.Limits.{short}",
        f"trio_acp.Settings.{short}",
    ):
        if full in objects:
            return full, objects[full]
    if short.isalpha() and short.islower():
        return None  # a parameter, or any word
    found = {entry.node_id: (full, entry) for full, entry in objects.items() if full.endswith(f".{short}")}
    return next(iter(found.values())) if len(found) == 1 else None


def link_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Link `Session.prompt` from wherever it is named; what is not a name at all stays what it is, code."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"]
    if found := find_public(env, name):
        full, entry = found
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, full)
    looks_like_ours = name.startswith("trio_acp") or name[:1].isupper()
    if name.partition(".")[0] in _OTHERS or name in _PLAIN or (node["reftype"] == "obj" and not looks_like_ours):
        return content
    return None


class PlainBuiltins(SphinxPostTransform):
    """Keeps Sphinx from linking a builtin, such as `type`, to an attribute of the same name."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: Any) -> None:
        """Make them text."""
        for reference in list(self.document.findall(pending_xref)):
            if reference["reftype"] == "class" and hasattr(builtins, reference["reftarget"]):
                reference.replace_self(nodes.Text(reference["reftarget"]))


class LinkedCode(SphinxPostTransform):
    """Links code in the running text of a page, if it names something public, with or without the package."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Do so, but for titles and what is a link already."""
        for code in list(self.document.findall(nodes.literal)):
            name = code.astext().removesuffix("()")
            is_taken = isinstance(code.parent, (nodes.reference, nodes.title, pending_xref))
            if is_taken or not re.fullmatch(r"[A-Za-z_.]*[A-Z_.][A-Za-z_.]*", name):
                continue
            if found := find_public(self.env, name):
                full, entry = found
                where = (self.env.docname, entry.docname, entry.node_id)
                code.replace_self(make_refnode(self.app.builder, *where, code.deepcopy(), full))


def tabulate_states(app: Sphinx, page: str, source: list[str]) -> None:
    """Make a table of a state diagram, whose drawing would need a program from elsewhere."""

    def table(found: re.Match[str]) -> str:
        arrows = re.findall(r"^ *(\S+) --> (\S+)(?: : (.*?))?(?: by (.*))?$", found[1], re.MULTILINE)
        rows = [[f"`{start}`", f"`{end}`", why, bound.replace(" and ", ", ")] for start, end, why, bound in arrows]
        return "\n".join(
            ["| from | to | record | by |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
        )

    source[0] = re.sub(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", table, source[0], flags=re.MULTILINE | re.DOTALL)


def tidy_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Show no arguments of what users do not construct, and what ``async with`` gives rather than a generator."""
    if signature is None:
        return None
    if what == "class" and name.rpartition(".")[2] in _MADE_ELSEWHERE:
        return "", None
    signature = re.sub(r"<built-in function (\w+)>", r"\1", signature).replace("= NOTHING", "= ...")
    given = re.fullmatch(r"AsyncIterator\[(.*)\]", returns or "")
    return signature, returns if given is None else given[1]


def setup(app: Sphinx) -> None:
    """Connect it all."""
    app.connect("source-read", tabulate_states)
    app.connect("missing-reference", link_short_name)
    app.connect("autodoc-process-signature", tidy_signature)
    app.add_post_transform(PlainBuiltins)
    app.add_post_transform(LinkedCode)
