"""Records: the rows of a table or of JSON lines by their columns, one after the other, each with its place for messages."""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from bertkit.data.errors import DataError, listed, one_line, read_errors
from bertkit.data.plain_text import NOT_UTF_8, NUL_BYTE, refuse_broken_characters, refuse_foreign_byte_order_mark

RECORD_FORMS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
"""Endings of the files that hold records; those in JSON have one object a line."""

_ROWS_AT_ONCE = 1024
_LONGEST_FIELD = 2**31 - 1  # characters; what the csv module takes everywhere


class Record(NamedTuple):
    """One row."""

    place: str
    """Where it was read, for messages."""
    fields: Mapping[str, Any]
    """Values by column."""


def file_form(path: str | Path) -> tuple[str, bool]:
    """Return the ending that tells the form of a file, lower-case, and whether `.gz` stands behind it.

    Args:
        path: a file's path; the file need not be there.

    >>> file_form("a.CSV.gz"), file_form("b.2.txt"), file_form("c")
    (('.csv', True), ('.txt', False), ('', False))
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    compressed = suffixes[-1:] == [".gz"]
    return "".join((suffixes[:-1] if compressed else suffixes)[-1:]), compressed


def read_file(path: str | Path) -> bytes:
    """Read a whole file, decompressed where its name ends in `.gz`.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read.
    """
    with read_errors(path):
        content = Path(path).read_bytes()
        return gzip.decompress(content) if file_form(path)[1] else content


@contextmanager
def open_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file to be read from its beginning to its end, decompressed where its name ends in `.gz`.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read.
    """
    with read_errors(path), Path(path).open("rb") as file:
        if file_form(path)[1]:
            yield io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=file)), 1 << 17)
        else:
            yield file


def read_lines(source: str | Path, file: IO[bytes]) -> Iterator[str]:
    """Read UTF-8, with or without a byte order mark, line by line.

    Args:
        source: where the bytes come from, for messages.
        file: the bytes.

    Yields:
        The lines, each with the line feed that ends it; nothing else that `splitlines` takes for the end of a line is one.

    Raises:
        DataError: a line is not UTF-8, or a NUL is in it.
    """
    for number, line in enumerate(file, 1):
        if number == 1:
            refuse_foreign_byte_order_mark(source, line)
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{source}, line {number}: {NOT_UTF_8}") from None
        if "\0" in text:
            raise DataError(f"{source}, line {number}: {NUL_BYTE}")
        yield text


def without_end(line: str) -> str:
    """Return a line without what ends it.

    >>> without_end("one\\r\\n"), without_end("\\n"), without_end("two")
    ('one', '', 'two')
    """
    return line.removesuffix("\n").removesuffix("\r")


def decode_text(source: str | Path, content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Args:
        source: where the bytes come from, for messages.
        content: the bytes.

    Raises:
        DataError: the bytes are not UTF-8, or a NUL is among them, named by their line.
    """
    return "".join(read_lines(source, io.BytesIO(content)))


def split_lines(text: str) -> list[str]:
    """Split at line feeds, and at nothing else that `splitlines` takes for the end of a line.

    Args:
        text: the text of a file; a line feed at its end ends the last line and begins no other.

    >>> split_lines("one\\r\\n\\ntwo\\n")
    ['one', '', 'two']
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def read_records(
    source: str | Path, form: str, content: bytes | IO[bytes], columns: Sequence[str], *, header: bool = True
) -> Iterator[Record]:
    """Read the records of a file, in their order and no further than they are asked for.

    A blank line is no record, but a line of nothing but tabs is one of empty fields; and in a `.tsv` of one column, where
    an empty field cannot be written otherwise, an empty line is one, too.

    Args:
        source: where the bytes come from, for messages.
        form: one of `RECORD_FORMS`. A `.csv` has quotes, a `.tsv` has none: a quotation mark is text.
        content: the bytes of the file, or the open file: then of a table or JSON lines one line is in memory, of parquet what
            a batch of rows needs.
        columns: what will be asked for, and must be sound; a parquet file that has all of these is not read further.
        header: whether the first row of a table names the columns; else they are named 1, 2, 3, ... from the left.

    Yields:
        The records. A column that the file does not have is missing in them.

    Raises:
        DataError: bytes of another form, a row with more or fewer fields than the header, or a text with a NUL or half a
            surrogate pair, named by file and line.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    for record in _read(source, form, file, columns, header=header):
        for column in columns:
            value = record.fields.get(column)
            if isinstance(value, str):
                refuse_broken_characters(value, record.place, column)
        yield record


def _read(source: str | Path, form: str, file: IO[bytes], columns: Sequence[str], *, header: bool) -> Iterator[Record]:
    if form == ".parquet":
        return _parquet_records(source, file, columns)
    lines = read_lines(source, file)
    if form in (".csv", ".tsv"):
        rows = (_csv_rows if form == ".csv" else _tsv_rows)(source, lines)
        return _table_records(rows, columns, header=header)
    return _json_records(source, lines)


def _csv_rows(source: str | Path, lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    # A carriage return alone ends a line of a table, too.
    reader = csv.reader((part for line in lines for part in io.StringIO(line, newline="")), strict=True)
    while True:
        place = f"{source}, line {reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{place}: not CSV: {error}; check its quotes") from None
        if fields is None:
            return
        if fields:  # else a blank line
            yield place, fields


def _tsv_rows(source: str | Path, lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
    width = 0
    for number, line in enumerate(map(without_end, lines), 1):
        if not line.strip(" \r") and width != 1:
            continue
        fields = line.split("\t")
        width = width or len(fields)
        yield f"{source}, line {number}", fields


def _table_records(rows: Iterator[tuple[str, list[str]]], columns: Sequence[str], *, header: bool) -> Iterator[Record]:
    names: list[str] | None = None
    for place, fields in rows:
        if not header:  # rows may be of unlike length, if those that are asked for are there
            yield Record(place, {str(number): field for number, field in enumerate(fields, 1)})
        elif names is None:
            names = _header(place, fields, columns)
        else:
            yield _by_column(place, names, fields)


def _header(place: str, fields: list[str], columns: Sequence[str]) -> list[str]:
    for column in columns:
        if fields.count(column) > 1:
            raise DataError(
                f"{place}: the header names {column!r} {fields.count(column)} times; give each column its own"
            )
    return fields


def _by_column(place: str, header: list[str], fields: list[str]) -> Record:
    if len(fields) != len(header):
        raise DataError(
            f"{place}: {len(fields)} fields, but the header has {len(header)}: {listed(header)}; mend the row (in a .csv a "
            "comma that is text stands in quotes)"
        )
    return Record(place, dict(zip(header, fields, strict=True)))


def _json_records(source: str | Path, lines: Iterator[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{source}, line {number}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place}: not JSON ({error.msg}); write one JSON object a line") from None
        if not isinstance(fields, dict):
            raise DataError(f"{place}: JSON, but not an object; write one object a line")
        yield Record(place, fields)


def _parquet_records(source: str | Path, file: IO[bytes], columns: Sequence[str]) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    row = 0
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        # All columns where one is missing, so that who asks for it can say which there are.
        chosen = list(dict.fromkeys(columns)) if set(columns) <= set(parquet.schema_arrow.names) else None
        for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=chosen):
            for fields in batch.to_pylist():
                row += 1
                yield Record(f"{source}, row {row}", fields)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{source} cannot be read as parquet: {one_line(error)}; check the file, or write it anew"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{source}: text that is not UTF-8 after row {row}; write the file anew") from None
