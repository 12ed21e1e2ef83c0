"""Write docs/api.md from the docstrings of bertkit; `--check` writes nothing and says whether the page is up to date.

The sources are read, not imported, so this takes seconds and needs no torch.
"""

import argparse
import re
import sys
from pathlib import Path

import griffe
from griffe2md import ConfigDict, render_object_docs

DOCS = Path(__file__).parent
PAGE = DOCS / "api.md"

PUBLIC = (
    "config",
    "tokenization",
    "data",
    "objectives",
    "models",
    "training",
    "tasks",
    "embeddings",
    "features",
    "evaluation",
    "hub",
)
"""Modules and rooms of the library in the order of the road; what stages and the command line do, `bertkit --help` says."""

INTRODUCTION = """\
# The library

Every public name by its module, generated from the docstrings by `make docs`. The names most people need are also in
`bertkit` itself: `from bertkit import load_tokenizer, load_model`.
"""

_APPEARANCE: ConfigDict = {
    "heading_level": 2,
    "line_length": 100,
    "members_order": "source",
    "show_if_no_docstring": False,
    "show_object_full_path": False,
    "show_root_members_full_path": False,
    "show_signature_annotations": True,
    "show_submodules": False,
    "summary": False,
}
# Markdown viewers make other anchors of headings than griffe2md expects, and take the prompt of an example for a quotation.
_LINK_TO_ANCHOR = re.compile(r"\[([^]]+)\]\(#[^)]+\)")
_EXAMPLE = re.compile(r"^(>>> .*(?:\n.+)*)", re.MULTILINE)


def public_modules(package: griffe.Module) -> list[griffe.Module]:
    """Return the modules that the page shows, in its order.

    Args:
        package: bertkit.
    """
    modules = []
    for name in PUBLIC:
        room = package.modules[name]
        modules += [room, *(room.modules[inner] for inner in sorted(room.modules))]
    return modules


def render() -> str:
    """Return the page."""
    package = griffe.load(
        "bertkit",
        search_paths=[DOCS.parent],
        allow_inspection=False,
        docstring_parser="google",
        docstring_options={
            "ignore_init_summary": True,
            "returns_multiple_items": False,
            "returns_named_value": False,
            "warnings": False,
        },
    )
    assert isinstance(package, griffe.Module)
    page = "\n".join([INTRODUCTION, *(render_object_docs(module, _APPEARANCE) for module in public_modules(package))])
    page = _LINK_TO_ANCHOR.sub(r"\1", page)
    page = _EXAMPLE.sub(r"```pycon\n\1\n```", page)
    return re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"


def main() -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if the page is not up to date.")
    page = render()
    if not parser.parse_args().check:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page:
        print(f"{PAGE.relative_to(DOCS.parent)} is not what the docstrings say; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
