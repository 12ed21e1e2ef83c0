"""Documents from wherever text lies: files, folders, globs and datasets, read as one stream in constant memory.

A document is a list of paragraphs, a paragraph a stripped line of text with something in it.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

import numpy as np

from bertkit.data.arguments import DataArguments
from bertkit.data.errors import DataError
from bertkit.data.keyed_random import keyed_uniform
from bertkit.data.readers import (
    COMPRESSED_SUFFIXES,
    DATASET_NAME,
    END_OF_DOCUMENT,
    KNOWN_SUFFIXES,
    JsonLinesReader,
    ParquetReader,
    Reader,
    TextReader,
    form_of,
    hash_words,
    load_dataset,
    split_suffixes,
)

Document: TypeAlias = list[str]
Part: TypeAlias = Literal["train", "eval"]

_BARE_DATASET_NAME = re.compile(r"[A-Za-z0-9][\w-]*(/[\w-]+)?")  # no dot: a misspelt file is no dataset


class Documents:
    """The documents of one or several sources: an iterable of lists of paragraphs that can be iterated again.

    Args:
        readers: the files and datasets, in the order they are read.
        sources: what the user named, for messages and records.

    Raises:
        DataError: while reading, if a source is damaged, is no text, or if there is no text at all.
    """

    def __init__(self, readers: list[Reader], sources: list[str]) -> None:
        self.sources = sources
        self.readers = readers
        self._num_finished = 0

    def paragraphs(self) -> Iterator[str | None]:
        """Yield every paragraph in order, and `END_OF_DOCUMENT` (None) after the last one of each document.

        This is how to read a document that is larger than memory. No document is empty.
        """
        empty = True
        self._num_finished = 0
        for reader in self.readers:
            pending = False  # whether the current document has a paragraph yet
            for paragraph in reader.paragraphs():
                if paragraph is not END_OF_DOCUMENT:
                    pending = True
                    empty = False
                elif not pending:
                    continue
                else:
                    pending = False
                yield paragraph
            self._num_finished += 1
        if empty:
            raise DataError(f"there is no text in {', '.join(self.sources)}; give a source with at least one line")

    def __iter__(self) -> Iterator[Document]:
        document: Document = []
        for paragraph in self.paragraphs():
            if paragraph is END_OF_DOCUMENT:
                yield document
                document = []
            else:
                document.append(paragraph)

    @property
    def num_bytes(self) -> int | None:
        """Size of all sources in bytes, as they lie on disk; None where a source does not tell."""
        sizes = [reader.num_bytes for reader in self.readers]
        return None if None in sizes else sum(cast("list[int]", sizes))

    @property
    def bytes_read(self) -> int:
        """Bytes of `num_bytes` that the running iteration has read; 0 for sources that do not tell."""
        finished = self.readers[: self._num_finished]
        running = self.readers[self._num_finished : self._num_finished + 1]
        return sum(reader.num_bytes or 0 for reader in finished) + sum(reader.bytes_read for reader in running)

    def fingerprint(self) -> str:
        """Return a hash of the contents and of the settings that change what comes out of them (64 hex digits)."""
        return hash_words([reader.fingerprint() for reader in self.readers])

    def held_out(self, fraction: float, seed: int, part: Part) -> Documents:
        """Return the documents of one part of a split, in their order.

        Each document goes to exactly one part by a number keyed with the seed and its place, so both parts can be
        streamed. Of at least two documents neither part is empty, and of at least four each part has two: sentence pairs
        come from different documents.

        Args:
            fraction: share of the documents that goes to the "eval" part, between 0 and 1.
            seed: another seed holds out other documents.
            part: "train" or "eval".

        Raises:
            DataError: if there is one document only, or if `fraction` or `part` is none of those.
        """
        if not 0 < fraction < 1:
            raise DataError(f"the held-out fraction must lie between 0 and 1, not be {fraction}")
        if part not in get_args(Part):
            raise DataError(f"unknown part {part!r}; choose from {', '.join(get_args(Part))}")
        keys: list[float] = []
        held_out = 0
        boundary = fraction
        ends = (paragraph for paragraph in self.paragraphs() if paragraph is END_OF_DOCUMENT)
        for _, key in zip(ends, _document_keys(seed), strict=False):
            keys.append(key)
            held_out += key < fraction
            if held_out >= 2 and len(keys) - held_out >= 2:
                break  # both parts have documents enough
        else:
            if len(keys) == 1:
                raise DataError(
                    f"{', '.join(self.sources)} holds one document, so none can be held out for evaluation; "
                    "give data.eval, or part the documents by blank lines; if each line is one, say --data.documents line"
                )
            num_held_out = min(max(round(fraction * len(keys)), min(len(keys) // 2, 2)), max(len(keys) - 2, 1))
            boundary = sorted(keys)[num_held_out]
        return _HeldOutDocuments(self, seed, boundary, part)


class _HeldOutDocuments(Documents):
    """One part of a split of `whole`: "eval" has the documents whose key is below `boundary`, "train" the others."""

    def __init__(self, whole: Documents, seed: int, boundary: float, part: Part) -> None:
        self.sources = whole.sources
        self._whole = whole
        self._seed = seed
        self._boundary = boundary
        self._part = part

    def paragraphs(self) -> Iterator[str | None]:
        keys = _document_keys(self._seed)
        keep = self._keeps(next(keys))
        for paragraph in self._whole.paragraphs():
            if keep:
                yield paragraph
            if paragraph is END_OF_DOCUMENT:
                keep = self._keeps(next(keys))

    def _keeps(self, key: float) -> bool:
        return (key < self._boundary) == (self._part == "eval")

    @property
    def num_bytes(self) -> int | None:
        return self._whole.num_bytes

    @property
    def bytes_read(self) -> int:
        return self._whole.bytes_read

    def fingerprint(self) -> str:
        return hash_words([self._whole.fingerprint(), str(self._seed), self._boundary.hex(), self._part])


def load_documents(source: str | list[str], arguments: DataArguments) -> Documents:
    """Find the text that `source` names; nothing is read before the first document is asked for.

    Args:
        source: a file, folder, glob or dataset, or several of them. Files ending in .jsonl, .ndjson, .json or .parquet
            have a document a record; every other file is taken for text; each may end in .gz or .zst too. A folder
            stands for all files below it with an ending that is known, sorted. A dataset is written hub:name,
            hub:name:config or hub:name:config@split (split "train" where none is given), `name` being one of the Hub or
            a local folder of `datasets`; "hub:" may be left out where no such path exists.
        arguments: how to cut text files into documents, which column of a record holds the text, and whether
            datasets are streamed.

    Raises:
        DataError: if a source does not exist or has no file of a known form.
    """
    sources = [source] if isinstance(source, str) else list(source)
    if not sources:
        raise DataError("no text is named; give data.train a file, a folder, a glob or a dataset")
    column = arguments.text_column

    def open_file(path: Path) -> Reader:
        form = form_of(path)
        if form == "text":
            return TextReader(path, arguments.documents)
        return JsonLinesReader(path, column) if form == "json" else ParquetReader(path, column)

    def open_dataset(name: str) -> Reader:
        return load_dataset(name, column, streaming=arguments.streaming)

    return Documents([reader for name in sources for reader in find_readers(name, open_file, open_dataset)], sources)


def find_readers(
    source: str, open_file: Callable[[Path], Reader], open_dataset: Callable[[str], Reader]
) -> list[Reader]:
    """Return the readers of one source, in the order they are read.

    Args:
        source: a file, folder, glob or dataset, as `load_documents` takes it.
        open_file: makes the reader of a file.
        open_dataset: makes the reader of a dataset, given its name as the user wrote it.

    Raises:
        DataError: it does not exist or has no file of a known form.
    """
    if source.startswith("hub:"):
        return [open_dataset(source)]
    path = Path(source).expanduser()
    if path.is_file():
        return [open_file(path)]
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*") if _is_text_of_folder(file, path))
        if not paths:
            raise DataError(
                f"the folder {source} has no file of a known form ({', '.join(KNOWN_SUFFIXES)}; "
                f"each also {' or '.join(COMPRESSED_SUFFIXES)}); name the files, or their glob"
            )
        return [open_file(file) for file in paths]
    if glob.has_magic(source):
        paths = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
        if not paths:
            raise DataError(f"no file matches {source}; check the pattern (folders below are matched by **)")
        return [open_file(file) for file in paths]
    match = DATASET_NAME.fullmatch(source)
    if match and _BARE_DATASET_NAME.fullmatch(match["name"]) and not (path.parts[1:] and path.parent.is_dir()):
        return [open_dataset(source)]
    raise DataError(f"no file, folder or glob {source}; check the path, or write a dataset of the Hub as hub:name")


def _is_text_of_folder(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and split_suffixes(file)[0] in KNOWN_SUFFIXES and file.is_file()


def _document_keys(seed: int) -> Iterator[float]:
    """Yield for each document, by its place, the number in [0, 1) that decides where it goes."""
    for start in count(0, 1024):
        yield from keyed_uniform(seed, "held_out", np.arange(start, start + 1024)).tolist()
