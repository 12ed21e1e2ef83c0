"""Vectors of a file larger than memory, written shard by shard into a folder; an interrupted run goes on where it was.

A shard is what one window of texts makes, and which texts a window has depends on the texts and the settings alone. So
processes share the work by taking windows in turn, without a word to each other, and the shards are the same however many
there are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from bertkit.features.encode import FeatureExtractor, Vectors
from bertkit.features.folder import INDEX_FILE, STARTED_FILE, array_file, read_array, words_file

FORMAT_VERSION = 1
_SHARD_BYTES = 32 << 20
_MOST_ROWS = 1 << 16
_MOST_CHARACTERS = 32 << 20  # of the texts of a window
_BLOCK = 1 << 20
_ONLY_NAMES = ("checkpoint", "input")  # whose content is compared, wherever it lies
_IN_WORDS = {
    "texts": "other texts",
    "texts_sha256": "other texts",
    "checkpoint_sha256": "another checkpoint, or before this one was trained on",
}


class Source(NamedTuple):
    """What the texts of an input are, found by reading it once."""

    num_texts: int
    sha256: str
    """Of the texts, each with what ends it."""


def examine(texts: Iterable[tuple[str, ...]]) -> Source:
    """Read all texts once, so that whatever is wrong with one is said before any is computed.

    Args:
        texts: as `stream_texts` yields them.
    """
    digest, count = hashlib.sha256(), 0
    for count, row in enumerate(texts, 1):  # noqa: B007
        digest.update("\0".join(row).encode() + b"\0\0")
    return Source(count, digest.hexdigest())


def checkpoint_digest(folder: Path) -> str:
    """Return a hash of what decides on a checkpoint's vectors: its configuration, weights and tokenizer.

    Args:
        folder: a checkpoint folder.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".txt")):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """How shards are written.

    Raises:
        ValueError: no room for a vector.
    """

    dtype: str = "float32"
    """Precision of the numbers, float32 or float16."""
    shard_rows: int | None = None
    """Vectors of a shard, of texts; of words and tokens it has as many characters of text at most, or one text. By default as
    many as fill 32 MiB, but not over 65,536. A window of over 32 Mi characters ends its shard earlier."""

    def __post_init__(self) -> None:
        if self.shard_rows is not None and self.shard_rows < 1:
            raise ValueError(f"shard_rows is {self.shard_rows}; give 1 or more")

    def rows(self, width: int) -> int:
        """Return the vectors of a shard.

        Args:
            width: numbers of a vector.
        """
        return self.shard_rows or max(1, min(_MOST_ROWS, _SHARD_BYTES // (width * np.dtype(self.dtype).itemsize)))


def cut_windows(texts: Iterable[tuple[str, ...]], rows: int, characters: int) -> Iterator[list[tuple[str, ...]]]:
    """Put the texts that make a shard together.

    Args:
        texts: as `stream_texts` yields them.
        rows: texts of a window, at most.
        characters: characters of all its texts, at most; a longer text is a window of its own.

    >>> [len(window) for window in cut_windows([("ab",), ("c",), ("d",), ("efghi",), ("j",)], rows=2, characters=4)]
    [2, 1, 1, 1]
    """
    window: list[tuple[str, ...]] = []
    size = 0
    for row in texts:
        longer = size + sum(map(len, row))
        if window and (len(window) == rows or longer > characters):
            yield window
            window, longer = [], sum(map(len, row))
        window.append(row)
        size = longer
    if window:
        yield window


class ShardWriter:
    """Writes the vectors of a stream of texts into a folder.

    Args:
        folder: where; new, empty, or begun by the same settings.
        extractor: what computes them.
        source: what `examine` found.
        made_by: name and digest of the checkpoint, and name of the input, for the index.
        settings: how shards are written.
    """

    def __init__(
        self,
        folder: Path,
        extractor: FeatureExtractor,
        source: Source,
        made_by: dict[str, str],
        settings: ShardSettings,
    ) -> None:
        self.folder = folder
        self._extractor = extractor
        self._dtype = np.dtype(settings.dtype)
        self._rows = settings.rows(extractor.width)
        of_texts = extractor.settings.level == "text"
        self._characters = _MOST_CHARACTERS if of_texts else min(_MOST_CHARACTERS, self._rows)
        self.started = {
            "format": FORMAT_VERSION,
            **made_by,
            "texts": source.num_texts,
            "texts_sha256": source.sha256,
            "features": extractor.width,
            "dtype": settings.dtype,
            "shard_rows": self._rows,
            **asdict(extractor.settings),
        }
        """What decides on the shards, as the folder keeps it."""

    def begin(self) -> None:
        """Make the folder, or make sure that it was begun by the same settings; to be called before `write`.

        Raises:
            ValueError: it was begun otherwise, or holds something else.
        """
        path = self.folder / STARTED_FILE
        if not path.is_file():
            if self.folder.is_file():
                raise ValueError(f"{self.folder} is a file; give another --output")
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ValueError(f"{self.folder} is not empty and holds no vectors; give another --output")
            with _writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                _write_json(path, self.started)
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"{path} is damaged; delete the folder, or give another --output") from None
        now = json.loads(json.dumps(self.started))
        changed = [name for name in now if name not in _ONLY_NAMES and before.get(name) != now[name]]
        if changed:
            name = changed[0]
            given = _IN_WORDS.get(name, f"{name} {before.get(name)!r}, not {now[name]!r}")
            raise ValueError(
                f"{self.folder} was begun with {given}; give the same, or another --output, or delete the folder"
            )

    def clear_away(self) -> None:
        """Remove what a run that was killed has left half written; to be called by one process."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def write(
        self,
        texts: Iterable[tuple[str, ...]],
        *,
        process_index: int = 0,
        num_processes: int = 1,
        advance: Callable[[int], Any] = lambda num_texts: None,
    ) -> None:
        """Write the shards that are missing, of those that fall to this process.

        Args:
            texts: as `stream_texts` yields them, from the first on.
            process_index: which of the processes this is.
            num_processes: how many share the work.
            advance: called with the number of texts that are done, shard by shard.

        Raises:
            ValueError: a text without any token, or a folder that cannot be written to.
        """
        first = 0
        for number, window in enumerate(cut_windows(texts, self._rows, self._characters)):
            numbers = range(first, first + len(window))
            first = numbers.stop
            if number % num_processes == process_index and not array_file(self.folder, "features", number).is_file():
                columns = [list(column) for column in zip(*window, strict=True)]
                vectors = self._extractor(*columns, numbers=numbers, quiet=True)
                with _writing(self.folder):
                    self._write_shard(number, vectors)
            advance(len(window))

    def finish(self) -> tuple[int, int]:
        """Write the index of all shards; to be called when every process is done.

        Returns:
            Vectors, and numbers of each.
        """
        rows: list[int] = []
        texts: list[int] = []
        while (path := array_file(self.folder, "features", len(rows))).is_file():
            offsets = array_file(self.folder, "offsets", len(rows))
            rows.append(len(read_array(path)))
            texts.append(len(read_array(offsets)) - 1 if offsets.is_file() else rows[-1])
        assert sum(texts) == self.started["texts"], (texts, self.started)
        shape = [sum(rows), self._extractor.width]
        with _writing(self.folder):
            _write_json(
                self.folder / INDEX_FILE,
                {"shape": shape, "dtype": self._dtype.name, "rows": rows, "texts": texts, "made_from": self.started},
            )
        return shape[0], shape[1]

    def _write_shard(self, number: int, vectors: Vectors) -> None:
        if vectors.words is not None:
            lines = [json.dumps(words, ensure_ascii=False) + "\n" for words in vectors.words]
            _write(words_file(self.folder, number), lambda file: file.writelines(line.encode() for line in lines))
            offsets = vectors.offsets
            _write(array_file(self.folder, "offsets", number), lambda file: np.save(file, offsets))
        # Last: a shard whose vectors are there is whole.
        array = vectors.vectors.astype(self._dtype)
        _write(array_file(self.folder, "features", number), lambda file: np.save(file, array))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    _write(path, lambda file: file.write(text.encode()))


def _write(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file that is whole or not there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what goes wrong while the folder is written to into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"cannot write to {folder}: {reason}; give an --output that can be written to") from error
