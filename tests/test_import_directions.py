"""The walls between the rooms of bertkit: imports point one way, and the ground floor's rooms do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bertkit"
GROUND_FLOOR = {"models", "training", "data", "config", "tokenization"}
FIRST_FLOOR = {"objectives", "tasks", "embeddings", "features", "evaluation", "hub"}
MAY_IMPORT = {
    "__init__": GROUND_FLOOR | FIRST_FLOOR,
    "cli": {"config", "stages"},
    "stages": GROUND_FLOOR | FIRST_FLOOR,
    "objectives": {"data", "config", "tokenization"},
    "tasks": {"data", "config", "tokenization"},
    "embeddings": {"data", "config", "tokenization"},
    "features": {"models", "data", "config", "tokenization", "hub"},
    "evaluation": {"data", "config"},
    "hub": {"models", "training", "data", "config"},
    "training": {"data.keyed_random"},
    "models": set(),
    "data": set(),
    "config": set(),
    "tokenization": set(),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Return the modules of bertkit that a file imports by their full names, "bertkit." left out."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module.removeprefix("bertkit.") for module in modules if module.startswith("bertkit.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_file_imports_only_from_rooms_that_its_own_may_see(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT[room] | {room}
    for module in imported_modules(path):
        assert any(f"{module}.".startswith(f"{name}.") or f"{name}.".startswith(f"{module}.") for name in allowed), (
            f"{path} imports bertkit.{module}; {room} may see {', '.join(sorted(allowed))} (CONTRIBUTING.md)"
        )


def test_every_room_has_its_place_in_the_table():
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} == set(MAY_IMPORT)
