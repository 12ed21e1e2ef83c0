"""The table of docs/ecosystem.md, between markers; `python -m examples.consumers.ecosystem_page --check` compares it.

`examples/every_consumer.py --markdown` writes it, and only when nothing failed. The check runs no
consumer and takes seconds: it tells whether families, consumers and reasons are still
those of the page.
"""

import argparse
import re
import string
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "ecosystem.md"
LIBRARIES = (
    *("transformers", "torch", "peft", "accelerate", "safetensors", "huggingface_hub", "onnxruntime"),
    "sentence-transformers",
)
_TABLE = re.compile(r"(?<=<!-- consumers: made by every_consumer.py -->\n).*?(?=<!-- consumers end -->)", re.DOTALL)
_VERSIONS = re.compile(r"Checked with .*?\n\n", re.DOTALL)


class Cell(NamedTuple):
    """What the table says of a consumer and a kind of model."""

    word: str
    note: str | None = None


def with_letters(table: Mapping[str, Mapping[str, Cell]]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Return the cells with a letter for each note behind them, and the notes by letter, each once."""
    notes = dict.fromkeys(cell.note for cells in table.values() for cell in cells.values() if cell.note)
    letters = dict(zip(notes, [*string.ascii_lowercase, *string.ascii_uppercase], strict=False))
    marked = {
        consumer: {
            kind: f"{cell.word} {letters[cell.note]}" if cell.note else cell.word for kind, cell in cells.items()
        }
        for consumer, cells in table.items()
    }
    return marked, {letter: note for note, letter in letters.items()}


def render(table: Mapping[str, Mapping[str, Cell]]) -> str:
    """Return the table, its notes, what each line claims, and the versions of the libraries."""
    from examples.consumers.table import CONSUMERS

    marked, notes = with_letters(table)
    kinds = list(next(iter(marked.values())))
    lines = ["", f"| | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    lines += [f"| {name} | {' | '.join(cells.values())} |" for name, cells in marked.items()]
    lines += ["", *(f"- **{letter}**: {note}" for letter, note in notes.items())]
    lines += ["", "What `ok` claims:", "", *(f"- **{name}**: {CONSUMERS[name].claim}." for name in table)]
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES)
    return "\n".join([*lines, "", f"Checked with {versions}.", "", ""])


def expected() -> dict[str, dict[str, Cell]]:
    """Return the table as it is when nothing fails."""
    from examples.consumers.table import CONSUMERS
    from examples.consumers.workbench import KINDS

    table: dict[str, dict[str, Cell]] = {}
    for consumer_name, consumer in CONSUMERS.items():
        table[consumer_name] = {}
        for name, kind in KINDS.items():
            reason = consumer.left_out(name, kind)
            table[consumer_name][name] = Cell("–", reason) if reason else Cell("ok", consumer.remark(name, kind))
    return table


def update(page: Path, table: Mapping[str, Mapping[str, Cell]]) -> None:
    """Write the table into a page, between its markers.

    Raises:
        ValueError: the page has no place for it, or several.
    """
    text, count = _TABLE.subn(lambda match: render(table), page.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{page} has no place for the table of consumers, or several")
    page.write_text(text, encoding="utf-8")


def is_up_to_date() -> bool:
    """Tell whether the page has the families, consumers and reasons of today, whatever versions it was checked with."""
    found = _TABLE.search(PAGE.read_text(encoding="utf-8"))
    return found is not None and _VERSIONS.sub("", found[0]) == _VERSIONS.sub("", render(expected()))


def main() -> int:
    """Compare the page with the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", required=True, help="Fail if the page is not up to date.")
    parser.parse_args()
    if not is_up_to_date():
        command = "python -m examples.every_consumer --markdown docs/ecosystem.md"
        print(f"the table of {PAGE.name} is not that of the consumers; run `{command}`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
