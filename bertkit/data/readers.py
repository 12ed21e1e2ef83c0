"""One file or dataset -> a stream of paragraphs and ends of documents, in constant memory: a reader for each form."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import json
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Literal, cast

from bertkit.data.errors import DataError, listed, one_line, read_errors
from bertkit.data.hub_datasets import open_dataset
from bertkit.data.plain_text import NOT_UTF_8, NUL_BYTE, refuse_broken_characters, refuse_foreign_byte_order_mark
from bertkit.data.zstd_file import ZstdFile

if TYPE_CHECKING:
    import datasets

END_OF_DOCUMENT: Final = None
"""What a reader yields after the last paragraph of each document."""

_TEXT_SUFFIXES = (".txt", ".text")
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_PARQUET_SUFFIXES = (".parquet",)
KNOWN_SUFFIXES = _TEXT_SUFFIXES + _JSON_SUFFIXES + _PARQUET_SUFFIXES
COMPRESSED_SUFFIXES = (".gz", ".zst")

DATASET_NAME = re.compile(r"(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>.+))?")


def split_suffixes(path: Path) -> tuple[str, str]:
    """Return the ending that tells the form of a file and the one that tells its compression, lower-case.

    >>> split_suffixes(Path("a.jsonl.gz")), split_suffixes(Path("b.TXT"))
    (('.jsonl', '.gz'), ('.txt', ''))
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES else ""
    return (suffixes[-1] if suffixes else ""), compression


def form_of(path: Path) -> Literal["text", "json", "parquet"]:
    """Return the form of a file, by its ending.

    >>> form_of(Path("a.jsonl.gz")), form_of(Path("b"))
    ('json', 'text')
    """
    suffix, _ = split_suffixes(path)
    return "json" if suffix in _JSON_SUFFIXES else "parquet" if suffix in _PARQUET_SUFFIXES else "text"


class Reader(ABC):
    """One file or dataset as a stream of paragraphs and ends of documents; documents may come out empty."""

    num_bytes: int | None = None
    """Size in bytes where known."""

    @property
    def bytes_read(self) -> int:
        """How many of them the running iteration has read."""
        return 0

    @abstractmethod
    def paragraphs(self) -> Iterator[str | None]:
        """Yield stripped paragraphs, and END_OF_DOCUMENT after each document."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of what `paragraphs` depends on."""


class RecordReader(Reader):
    """A source of records, each a document: the text of one column."""

    column: str

    @abstractmethod
    def records(self, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each record with its place, for messages.

        Args:
            columns: column that is needed -> the setting that names it.

        Raises:
            DataError: a record without one of them.
        """

    def paragraphs(self) -> Iterator[str | None]:
        """Yield the stripped lines of each text, and END_OF_DOCUMENT after it."""
        for where, record in self.records({self.column: "data.text_column"}):
            yield from record_paragraphs(record[self.column], where, self.column)


class FileReader(Reader):
    """A file on disk.

    Args:
        path: the file; its ending tells the compression.
        setting: the setting that, beside the bytes, decides what comes out.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self.path = path
        self.num_bytes: int = path.stat().st_size
        self._setting = setting
        self._raw: BinaryIO | None = None

    @property
    def bytes_read(self) -> int:
        """How many bytes the running iteration has read, as they lie on disk."""
        if self._raw is None:
            return 0
        return self.num_bytes if self._raw.closed else self._raw.tell()

    def fingerprint(self) -> str:
        """Return a hash of the file's bytes and of what decides how they are read."""
        return hash_words([type(self).__name__, split_suffixes(self.path)[1], self._setting, _hash_file(self.path)])

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Open the file, decompressed; what goes wrong while it is read is told with its name."""
        with read_errors(self.path), self.path.open("rb", buffering=1 << 17) as self._raw:
            compression = split_suffixes(self.path)[1]
            if compression == ".gz":
                yield io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=self._raw)), 1 << 17)
            elif compression == ".zst":
                yield io.BufferedReader(ZstdFile(self._raw), 1 << 17)
            else:
                yield self._raw

    def text_lines(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of a file of UTF-8 text, each with its place for messages."""
        for where, line in self.lines():
            if "\0" in line:
                raise DataError(f"{where}: {NUL_BYTE}")
            yield where, line

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of a UTF-8 file, each with its place for messages."""
        with self._open() as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    refuse_foreign_byte_order_mark(self.path, line)
                    line = line.removeprefix(codecs.BOM_UTF8)
                where = f"{self.path}, line {number}"
                try:
                    yield where, line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"{where}: byte {error.start + 1} is {NOT_UTF_8}") from None


class TextReader(FileReader):
    """A text file: a paragraph a line, documents as `documents` says."""

    def paragraphs(self) -> Iterator[str | None]:
        """Yield the lines that are not blank, and END_OF_DOCUMENT after each document."""
        by_line, by_blank_line = self._setting == "line", self._setting == "blank_line"
        for _, line in self.text_lines():
            paragraph = line.strip()
            if paragraph:
                yield paragraph
                if by_line:
                    yield END_OF_DOCUMENT
            elif by_blank_line:
                yield END_OF_DOCUMENT
        yield END_OF_DOCUMENT


class RecordFileReader(FileReader, RecordReader):
    """A file of records, each a document.

    Args:
        path: the file.
        column: where the text is.
    """

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(path, column)
        self.column = column


class JsonLinesReader(RecordFileReader):
    """A JSON object a line, each a document."""

    def records(self, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each record with its place."""
        for where, line in self.lines():
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where}, column {error.colno}: not JSON ({error.msg}); write one JSON object a line"
                ) from None
            if not isinstance(record, dict):
                raise DataError(f"{where}: JSON, but not an object; write one object a line")
            _require(columns, record, where)
            yield where, record


class ParquetReader(RecordFileReader):
    """A parquet file, each row a document."""

    def records(self, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each row with its place, and of it the columns that are needed."""
        with self._open() as stream:
            if stream is not self._raw:  # parquet is read from its end, so it cannot be read while decompressing
                with stream, tempfile.TemporaryFile() as spooled:
                    shutil.copyfileobj(stream, spooled)
                    yield from self._rows(spooled, columns)
            else:
                yield from self._rows(stream, columns)

    def _rows(self, file: IO[bytes], columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import pyarrow
        import pyarrow.parquet

        try:
            parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
            _require(columns, parquet.schema_arrow.names, str(self.path))
            row = 0
            for batch in parquet.iter_batches(batch_size=256, columns=[*columns], use_threads=False):
                for values in zip(*(batch.column(name) for name in columns), strict=True):
                    row += 1
                    where = f"{self.path}, row {row}"
                    try:
                        record = {name: value.as_py() for name, value in zip(columns, values, strict=True)}
                    except UnicodeDecodeError:
                        raise DataError(
                            f"{where}: column {' or '.join(map(repr, columns))} is not UTF-8; write the file anew"
                        ) from None
                    yield where, record
        except pyarrow.ArrowException as error:
            raise DataError(
                f"{self.path} cannot be read as parquet: {one_line(error)}; check the file, or write it anew"
            ) from None


class _DatasetReader(RecordReader):
    """A dataset of the library `datasets`, each row a document.

    Args:
        name: what the user wrote, for messages.
        dataset: map-style or iterable.
        fingerprint: hash of what the rows depend on.
        column: where the text is.
    """

    def __init__(
        self, name: str, dataset: datasets.Dataset | datasets.IterableDataset, fingerprint: str, column: str
    ) -> None:
        self._name = name
        self._dataset = dataset
        self._fingerprint = fingerprint
        self.column = column

    def records(self, columns: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each row with its place."""
        row = 0
        with _dataset_errors(self._name):
            for batch in self._dataset.iter(batch_size=256):
                _require(columns, batch, self._name)
                for values in zip(*batch.values(), strict=True):
                    row += 1
                    yield f"{self._name}, row {row}", dict(zip(batch, values, strict=True))

    def fingerprint(self) -> str:
        return hash_words([type(self).__name__, self.column, self._fingerprint])


def load_dataset(name: str, column: str, *, streaming: bool) -> RecordReader:
    """Open a dataset of the library `datasets`.

    Args:
        name: as `load_documents` takes it.
        column: where the text is.
        streaming: read it as it arrives.

    Its fingerprint is the name, configuration, split and revision (the Hub's commit); for a local folder it is the
    contents of the folder, since the library goes by the time its files were changed.
    """
    match = DATASET_NAME.fullmatch(name.removeprefix("hub:"))
    if match is None:
        raise DataError(f"{name} does not name a dataset; write hub:name, hub:name:config or hub:name:config@split")
    import datasets

    path, config, split = match["name"], match["config"], match["split"] or "train"
    folder = Path(path).expanduser()
    with _dataset_errors(name):
        if folder.is_dir():
            # Streamed always: a copy in the library's cache could outlive a change of the files.
            dataset = open_dataset(datasets.load_dataset_builder, str(folder), config).as_streaming_dataset(split)
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            made_from = [word for file in files for word in (str(file.relative_to(folder)), _hash_file(file))]
        else:
            builder = open_dataset(datasets.load_dataset_builder, path, config)
            made_from = [path, str(builder.hash)]
            if streaming:
                dataset = builder.as_streaming_dataset(split)
            else:
                builder.download_and_prepare()
                dataset = builder.as_dataset(split)
    return _DatasetReader(name, dataset, hash_words([config or "", split, *made_from]), column)


def record_paragraphs(text: object, where: str, column: str, setting: str = "data.text_column") -> Iterator[str | None]:
    """Yield the lines of a record's text and END_OF_DOCUMENT; a record without text (null) is an empty document.

    Args:
        text: what the column holds.
        where: the record's place, for messages.
        column: the column.
        setting: the setting that names it.

    Raises:
        DataError: it is no text.
    """
    if text is not None:
        if not isinstance(text, str):
            raise DataError(
                f"{where}: column {column!r} holds {type(text).__name__}, not text; name the text by {setting}"
            )
        refuse_broken_characters(text, where, column)
        yield from (paragraph for line in text.split("\n") if (paragraph := line.strip()))
    yield END_OF_DOCUMENT


def _require(columns: Mapping[str, str], present: Collection[str], where: str) -> None:
    """Make sure that all columns are there; they are given with the settings that name them."""
    for column, setting in columns.items():
        if column not in present:
            raise DataError(f"{where}: no column {column!r}; set {setting} to one of {listed(present)}")


@contextmanager
def _dataset_errors(name: str) -> Iterator[None]:
    import datasets

    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        no_path = "" if name.startswith("hub:") else f"there is no file or folder {name}, and "
        raise DataError(f"{no_path}the dataset {name} cannot be read: {one_line(error)}") from error


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with read_errors(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_words(words: list[str]) -> str:
    """Hash a list of words; no two lists look alike to it, wherever their words end."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
