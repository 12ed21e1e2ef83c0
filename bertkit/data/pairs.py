"""Pairs of texts, a source and its target, as documents of two paragraphs: whatever makes a TokenStore can read them."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bertkit.data.arguments import PairDataArguments
from bertkit.data.documents import Documents, find_readers
from bertkit.data.errors import DataError
from bertkit.data.readers import (
    END_OF_DOCUMENT,
    FileReader,
    JsonLinesReader,
    ParquetReader,
    Reader,
    RecordReader,
    form_of,
    hash_words,
    load_dataset,
    record_paragraphs,
)


def read_pairs(
    source: str | list[str], target: str | list[str] | None, arguments: PairDataArguments
) -> list[tuple[str, str]]:
    """Read all pairs, each with both of its sides; the arguments are those of `load_pairs`.

    Raises:
        DataError: also a pair with an empty side, for then what is made of the pairs would not fit the file line by line.
    """
    documents = load_pairs(source, target, arguments)
    pairs: list[tuple[str, str]] = []
    sides: list[str] = []
    for reader in documents.readers:
        for text in reader.paragraphs():
            if text is not END_OF_DOCUMENT:
                sides.append(text)
                continue
            if len(sides) != 2:
                place = f"{', '.join(documents.sources)}, pair {len(pairs) + 1}"
                raise DataError(f"{place}: a side without text; give it some, or take the pair out")
            pairs.append((sides[0], sides[1]))
            sides = []
    return pairs


def load_pairs(source: str | list[str], target: str | list[str] | None, arguments: PairDataArguments) -> Documents:
    """Find the pairs that `source` names, with `target` if it is given; nothing is read before they are asked for.

    Each pair is a document of two paragraphs, of one where a side is empty. White space in them is made one space.

    Args:
        source: a file, folder, glob or dataset of pairs, or several of them; with `target`, text files of the sources.
        target: text files of the targets, as many.
        arguments: which columns of records hold what.

    Raises:
        DataError: a source that does not exist or has no file of a known form, or not as many targets.
    """
    sources = [source] if isinstance(source, str) else list(source)
    if target is not None:
        targets = [target] if isinstance(target, str) else list(target)
        if len(targets) != len(sources):
            raise DataError(
                f"{len(sources)} files of sources and {len(targets)} of targets; give a target for each source"
            )
        aligned: list[Reader] = [
            _AlignedReader(_text_file(one), _text_file(other)) for one, other in zip(sources, targets, strict=True)
        ]
        return Documents(aligned, [*sources, *targets])
    columns = {arguments.source_column: "data.source_column", arguments.target_column: "data.target_column"}

    def open_file(path: Path) -> Reader:
        form = form_of(path)
        if form == "text":
            return _TabReader(path, "pairs")
        return _PairsOfRecords((JsonLinesReader if form == "json" else ParquetReader)(path, ""), columns)

    def open_dataset(name: str) -> Reader:
        return _PairsOfRecords(load_dataset(name, "", streaming=arguments.streaming), columns)

    return Documents([reader for name in sources for reader in find_readers(name, open_file, open_dataset)], sources)


def _text_file(name: str) -> FileReader:
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file {name}; with targets of their own, sources and targets are text files")
    return _TabReader(path, "side")


def _pair(source: str, target: str) -> Iterator[str | None]:
    """Yield the paragraphs of a pair, and its end."""
    for text in (source, target):
        if words := text.split():
            yield " ".join(words)
    yield END_OF_DOCUMENT


class _TabReader(FileReader):
    """A text file of lines source TAB target."""

    def paragraphs(self) -> Iterator[str | None]:
        for where, line in self.text_lines():
            if not line.strip(" \r\n"):
                continue
            sides = line.rstrip("\r\n").split("\t")
            if len(sides) != 2:
                raise DataError(
                    f"{where}: {len(sides) - 1} tabs; write source TAB target, or give the targets a file of their own "
                    "(data.train_target)"
                )
            yield from _pair(*sides)


class _AlignedReader(Reader):
    """Two text files, line n of one belonging to line n of the other.

    Args:
        source: the file of the sources.
        target: the file of the targets.
    """

    def __init__(self, source: FileReader, target: FileReader) -> None:
        self._source = source
        self._target = target
        assert source.num_bytes is not None and target.num_bytes is not None
        self.num_bytes = source.num_bytes + target.num_bytes

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read + self._target.bytes_read

    def paragraphs(self) -> Iterator[str | None]:
        lines = zip_longest(self._source.text_lines(), self._target.text_lines())
        for number, (source, target) in enumerate(lines, 1):
            if source is None or target is None:
                longer, shorter = self._target.path, self._source.path
                if target is None:
                    longer, shorter = shorter, longer
                raise DataError(
                    f"{longer}, line {number}: {shorter} has {number - 1} lines only; line n of one file belongs to line n of "
                    "the other"
                )
            yield from _pair(source[1], target[1])

    def fingerprint(self) -> str:
        return hash_words([type(self).__name__, self._source.fingerprint(), self._target.fingerprint()])


class _PairsOfRecords(Reader):
    """Records, each a pair.

    Args:
        records: where they come from.
        columns: column of the source and column of the target -> the setting that names it.
    """

    def __init__(self, records: RecordReader, columns: Mapping[str, str]) -> None:
        self._records = records
        self._columns = columns
        self.num_bytes = records.num_bytes

    @property
    def bytes_read(self) -> int:
        return self._records.bytes_read

    def paragraphs(self) -> Iterator[str | None]:
        outer = {column.partition(".")[0]: setting for column, setting in self._columns.items()}
        for where, record in self._records.records(outer):
            texts = []
            for column, setting in self._columns.items():
                lines = record_paragraphs(_inside(record, column), where, column, setting)
                texts.append(" ".join(line for line in lines if line is not END_OF_DOCUMENT))
            yield from _pair(*texts)

    def fingerprint(self) -> str:
        return hash_words([type(self).__name__, *self._columns, self._records.fingerprint()])


def _inside(record: Mapping[str, Any], column: str) -> object:
    """Return what a record holds in a column, or in one inside another.

    >>> _inside({"translation": {"de": "ja", "en": "yes"}}, "translation.en")
    'yes'
    """
    value: Any = record
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
