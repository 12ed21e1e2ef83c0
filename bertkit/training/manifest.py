"""What files a checkpoint consists of, so that a damaged one is known from a whole one before a run goes on from it."""

import hashlib
import json
from pathlib import Path

FILE_NAME = "state/manifest.json"


def write_manifest(folder: Path) -> None:
    """Write the size and the SHA-256 of every file in a folder, of a manifest that was there before not."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE_NAME)
    entries = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)} for path in files
    }
    (folder / FILE_NAME).parent.mkdir(exist_ok=True)
    (folder / FILE_NAME).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def find_damage(folder: Path, *, ending: str = "") -> str | None:
    """Say what is wrong with a checkpoint, if anything: the file, and how it differs from what was written.

    Args:
        folder: a checkpoint with a manifest; files beside those it names do no harm.
        ending: look only at files whose names end so.
    """
    try:
        entries = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in entries.items()}
    except OSError:
        return f"{FILE_NAME} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{FILE_NAME} is damaged"
    for name, (size, sha256) in expected.items():
        if not name.endswith(ending):
            continue
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes where {size:,} were written"
        try:
            is_same = _sha256(path) == sha256
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if not is_same:
            return f"{name} is not what was written: its checksum differs"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
