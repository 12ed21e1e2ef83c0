"""Documents from wherever text lies: files, folders, globs and datasets, read as one stream in constant memory.

A document is a list of paragraphs, a paragraph a stripped line of text with something in it. Every source is read by a
small reader that yields paragraphs, and `END_OF_DOCUMENT` after the last one of each document.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias, cast, get_args

import numpy as np
import zstandard

from bertkit.data.arguments import DataArguments
from bertkit.data.keyed_random import keyed_uniform

if TYPE_CHECKING:
    import datasets

Document: TypeAlias = list[str]
Part: TypeAlias = Literal["train", "eval"]

END_OF_DOCUMENT: Final = None
"""What `Documents.paragraphs` yields after the last paragraph of each document."""

_TEXT_SUFFIXES = (".txt", ".text")
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_PARQUET_SUFFIXES = (".parquet",)
_KNOWN_SUFFIXES = _TEXT_SUFFIXES + _JSON_SUFFIXES + _PARQUET_SUFFIXES
_COMPRESSED_SUFFIXES = (".gz", ".zst")

# The UTF-32 marks come first: the little-endian one begins with that of UTF-16.
_FOREIGN_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
NOT_UTF_8 = (
    "not UTF-8; convert the file from its encoding (for example: iconv -f WINDOWS-1252 -t UTF-8), or leave it out if it is no "
    "text"
)
NUL_BYTE = "a NUL byte, so this is not UTF-8 text; convert the file if it is UTF-16, or leave it out if it is no text"

_DATASET_NAME = re.compile(r"(?P<name>[^:@]+)(:(?P<config>[^:@]+))?(@(?P<split>.+))?")
_BARE_DATASET_NAME = re.compile(r"[A-Za-z0-9][\w-]*(/[\w-]+)?")  # no dot: a misspelt file is no dataset


class DataError(ValueError):
    """Something about the text that its owner can put right: the message says where and how, in one line."""


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
                    "give data.eval, or part the documents by blank lines (data.documents)"
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
            return _TextReader(path, arguments.documents)
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
                f"the folder {source} has no file of a known form ({', '.join(_KNOWN_SUFFIXES)}; "
                f"each also {' or '.join(_COMPRESSED_SUFFIXES)}); name the files, or their glob"
            )
        return [open_file(file) for file in paths]
    if glob.has_magic(source):
        paths = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
        if not paths:
            raise DataError(f"no file matches {source}; check the pattern (folders below are matched by **)")
        return [open_file(file) for file in paths]
    match = _DATASET_NAME.fullmatch(source)
    if match and _BARE_DATASET_NAME.fullmatch(match["name"]) and not (path.parts[1:] and path.parent.is_dir()):
        return [open_dataset(source)]
    raise DataError(f"no file, folder or glob {source}; check the path, or write a dataset of the Hub as hub:name")


def _is_text_of_folder(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and _form(file)[0] in _KNOWN_SUFFIXES and file.is_file()


def _form(path: Path) -> tuple[str, str]:
    """Return the ending that tells the form of a file and the one that tells its compression, lower-case.

    >>> _form(Path("a.jsonl.gz")), _form(Path("b.TXT"))
    (('.jsonl', '.gz'), ('.txt', ''))
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES else ""
    return (suffixes[-1] if suffixes else ""), compression


def form_of(path: Path) -> Literal["text", "json", "parquet"]:
    """Return the form of a file, by its ending.

    >>> form_of(Path("a.jsonl.gz")), form_of(Path("b"))
    ('json', 'text')
    """
    suffix, _ = _form(path)
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
        return hash_words([type(self).__name__, _form(self.path)[1], self._setting, _hash_file(self.path)])

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Open the file, decompressed; what goes wrong while it is read is told with its name."""
        with read_errors(self.path), self.path.open("rb", buffering=1 << 17) as self._raw:
            compression = _form(self.path)[1]
            if compression == ".gz":
                yield io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=self._raw)), 1 << 17)
            elif compression == ".zst":
                yield io.BufferedReader(_ZstdFile(self._raw), 1 << 17)
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


class _TextReader(FileReader):
    """A text file: a paragraph a line, documents as `documents` says."""

    def paragraphs(self) -> Iterator[str | None]:
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


class JsonLinesReader(FileReader, RecordReader):
    """A JSON object a line, each a document.

    Args:
        path: the file.
        column: where the text is.
    """

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(path, column)
        self.column = column

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


class ParquetReader(FileReader, RecordReader):
    """A parquet file, each row a document.

    Args:
        path: the file.
        column: where the text is.
    """

    def __init__(self, path: Path, column: str) -> None:
        super().__init__(path, column)
        self.column = column

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
    match = _DATASET_NAME.fullmatch(name.removeprefix("hub:"))
    if match is None:
        raise DataError(f"{name} does not name a dataset; write hub:name, hub:name:config or hub:name:config@split")
    import datasets

    path, config, split = match["name"], match["config"], match["split"] or "train"
    folder = Path(path).expanduser()
    with _dataset_errors(name):
        if folder.is_dir():
            # Streamed always: a copy in the library's cache could outlive a change of the files.
            dataset = datasets.load_dataset_builder(str(folder), config).as_streaming_dataset(split)
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            made_from = [word for file in files for word in (str(file.relative_to(folder)), _hash_file(file))]
        else:
            builder = datasets.load_dataset_builder(path, config)
            made_from = [path, str(builder.hash)]
            if streaming:
                dataset = builder.as_streaming_dataset(split)
            else:
                builder.download_and_prepare()
                dataset = builder.as_dataset(split)
    return _DatasetReader(name, dataset, hash_words([config or "", split, *made_from]), column)


class _ZstdFile(io.RawIOBase):
    """The decompressed bytes of a zstd file, frame after frame.

    The library's own `stream_reader` takes a file that is cut short for one that has ended.

    Args:
        raw: the compressed file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame: Any = None  # the frame that is being decompressed
        self._compressed = b""
        self._pending = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            if not self._compressed:
                self._compressed = self._raw.read(
                    1 << 11
                )  # little: text that repeats itself comes out very much longer
                if not self._compressed:
                    if self._frame is not None:
                        raise EOFError("the file ended before its last frame")
                    return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._pending = memoryview(self._frame.decompress(self._compressed))
            self._compressed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        length = min(len(buffer), len(self._pending))
        buffer[:length] = self._pending[:length]
        self._pending = self._pending[length:]
        return length


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


def refuse_broken_characters(text: str, where: str, column: str) -> None:
    """Make sure that a record's text holds no NUL, and can be written as UTF-8.

    Raises:
        DataError: it does, or it cannot.
    """
    if "\0" in text:
        raise DataError(f"{where}: a NUL character in column {column!r}; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{where}: half a surrogate pair in column {column!r}; remove it") from None


def refuse_foreign_byte_order_mark(path: str | Path, content: bytes) -> None:
    """Make sure that a file does not begin as UTF-16 or UTF-32 does.

    Raises:
        DataError: it does.
    """
    for mark, encoding in _FOREIGN_BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise DataError(f"{path} is {encoding} text; convert it: iconv -f {encoding} -t UTF-8")


def _require(columns: Mapping[str, str], present: Collection[str], where: str) -> None:
    """Make sure that all columns are there; they are given with the settings that name them."""
    for column, setting in columns.items():
        if column not in present:
            raise DataError(f"{where}: no column {column!r}; set {setting} to one of {', '.join(present)}")


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read or decompressed into a DataError of one line.

    Args:
        path: the file, for the message.

    Raises:
        DataError: the file is not there, is damaged, or is cut short.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}; check the file, or write it anew") from error


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


def one_line(error: BaseException) -> str:
    """Return what an error says as one line, or else its name.

    Args:
        error: of any library.

    >>> one_line(OSError("no\\n  such file")), one_line(EOFError())
    ('no such file', 'EOFError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def _document_keys(seed: int) -> Iterator[float]:
    """Yield for each document, by its place, the number in [0, 1) that decides where it goes."""
    for start in count(0, 1024):
        yield from keyed_uniform(seed, "held_out", np.arange(start, start + 1024)).tolist()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with read_errors(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_words(words: list[str]) -> str:
    """Hash a list of words; no two lists look alike to it, wherever their words end."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
