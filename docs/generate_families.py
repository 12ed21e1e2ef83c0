"""Write the table of families, objectives and heads into README.md from the library's own tables; `--check` only compares."""

import argparse
import re
import sys
from pathlib import Path

from bertkit.models import FAMILIES, Family
from bertkit.objectives import OBJECTIVES

PAGE = Path(__file__).parent.parent / "README.md"
_TABLE = re.compile(r"(?<=<!-- families: made by `make docs` -->\n).*?(?=<!-- families end -->)", re.DOTALL)


def render_row(name: str, family: Family) -> str:
    """Return the row of a family: what it is, how it is pretrained, under which Auto classes it loads, its sizes.

    Args:
        name: its name in `FAMILIES`.
        family: its entry.
    """
    module = sys.modules[family.config_class.__module__]
    what = (module.__doc__ or "").partition("\n")[0].rstrip(".")
    objectives = ", ".join(f"`{objective}`" for objective, members in OBJECTIVES.items() if name in members.families)
    objectives = objectives or f"none; made by `bertkit {family.made_by}`"
    heads = ", ".join(f"`{auto_class}`" for auto_class in family.auto_classes)
    return f"| `{name}` | {what} | {objectives} | {heads} | {', '.join(family.presets)} |"


def render() -> str:
    """Return the table."""
    head = ["| family | what it is | objective | loads as | presets |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(render_row(name, family) for name, family in FAMILIES.items())]) + "\n"


def main() -> int:
    """Write or check the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail if the table is not up to date.")
    page = PAGE.read_text(encoding="utf-8")
    updated, count = _TABLE.subn(lambda match: render(), page)
    if count != 1:
        raise SystemExit(f"{PAGE.name} has no place for the table of families, or several")
    if not parser.parse_args().check:
        PAGE.write_text(updated, encoding="utf-8")
    elif updated != page:
        print(f"the families of {PAGE.name} are not those of the library; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
