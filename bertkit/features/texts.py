"""The texts that features are made of: the lines or rows of a file, in their order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bertkit.data.errors import DataError, listed, read_errors
from bertkit.data.records import file_form, open_file, read_lines, read_records, without_end

INPUT_FORMS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
STANDARD_INPUT = "-"


def stream_texts(
    source: str | Path, *, text_column: str = "text", text_pair_column: str | None = None
) -> Iterator[tuple[str, ...]]:
    """Read the texts of a file one by one, so that the file may be larger than memory.

    Args:
        source: a file: .txt has a text a line; .jsonl, .csv, .tsv (without quoting) and .parquet have columns. Each may
            be gzipped (.gz). "-" is standard input, a text a line.
        text_column: column of the text.
        text_pair_column: column of the second text, for pairs.

    Yields:
        The text of each row, in a tuple, with its second text if asked for. An empty line or field, or a null, is an empty
        text, so that no row is lost. Only a blank line between the records of a .jsonl, a .csv, or a .tsv with several columns
        is no row.

    Raises:
        DataError: a file that is not there, is empty or cannot be read, a column it does not have, or a value that is
            no text, named by its place.
    """
    form = _form(source, text_pair_column)
    columns = [text_column, *([] if text_pair_column is None else [text_pair_column])]
    there_is_one = False
    opened = nullcontext(sys.stdin.buffer) if str(source) == STANDARD_INPUT else open_file(Path(source).expanduser())
    with read_errors(source), opened as file:
        if form == ".txt":
            for line in read_lines(source, file):
                there_is_one = True
                yield (without_end(line),)
        else:
            for place, fields in read_records(source, form, file, columns):
                there_is_one = True
                yield _row(place, fields, columns)
    if not there_is_one:
        raise DataError(f"{source} holds no text; give a file with at least one row")


def read_texts(
    source: str | Path, *, text_column: str = "text", text_pair_column: str | None = None
) -> tuple[list[str], list[str] | None]:
    """Read all texts of a file into memory.

    Args:
        source: see `stream_texts`.
        text_column: column of the text.
        text_pair_column: column of the second text, for pairs.

    Returns:
        The texts, and the second texts if asked for.

    Raises:
        DataError: see `stream_texts`.
    """
    rows = stream_texts(source, text_column=text_column, text_pair_column=text_pair_column)
    texts, *pairs = (list(column) for column in zip(*rows, strict=True))
    return texts, pairs[0] if pairs else None


def _form(source: str | Path, text_pair_column: str | None) -> str:
    form = ".txt" if str(source) == STANDARD_INPUT else file_form(source)[0]
    if form not in INPUT_FORMS:
        raise DataError(
            f"{source}: its ending tells no form; give a file in {', '.join(INPUT_FORMS)}, or these with .gz"
        )
    if form == ".txt" and text_pair_column is not None:
        raise DataError(
            f"{source}: lines have no column {text_pair_column!r}; pairs come from {', '.join(INPUT_FORMS[1:])}"
        )
    return form


def _row(place: str, fields: Mapping[str, Any], columns: list[str]) -> tuple[str, ...]:
    """Return the texts of one record."""
    row = []
    for column in columns:
        if column not in fields:
            raise DataError(f"{place}: no column {column!r}; there are {listed(fields)}")
        value = fields[column]
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: column {column!r} holds {type(value).__name__}; name the column of the text")
        row.append(value or "")
    return tuple(row)
