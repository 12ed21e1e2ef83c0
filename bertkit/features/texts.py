"""The texts that features are made of: the lines or rows of a file, in their order."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertkit.data.errors import DataError, listed, read_errors
from bertkit.data.records import decode_text, file_form, read_file, read_records, split_lines

INPUT_FORMS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")


def read_texts(
    source: str | Path, *, text_column: str = "text", text_pair_column: str | None = None
) -> tuple[list[str], list[str] | None]:
    """Read the texts of a file, one a row; the n-th text is that of the n-th row.

    Args:
        source: a file: .txt has a text a line; .jsonl, .csv, .tsv (without quoting) and .parquet have columns. Each may
            be gzipped (.gz). "-" is standard input, a text a line.
        text_column: column of the text.
        text_pair_column: column of the second text, for pairs.

    Returns:
        The texts, and the second texts if asked for. An empty line or field, or a null, is an empty text, so that no
        row is lost. Only a blank line between the records of a .jsonl, a .csv, or a .tsv with several columns is no row.

    Raises:
        DataError: a file that is not there, is empty or cannot be read, a column it does not have, or a value that is
            no text, named by its place.
    """
    path = Path(source).expanduser()
    standard_input = str(source) == "-"
    form = ".txt" if standard_input else file_form(path)[0]
    if form not in INPUT_FORMS:
        raise DataError(
            f"{source}: its ending tells no form; give a file in {', '.join(INPUT_FORMS)}, or these with .gz"
        )
    if form == ".txt" and text_pair_column is not None:
        raise DataError(
            f"{source}: lines have no column {text_pair_column!r}; pairs come from {', '.join(INPUT_FORMS[1:])}"
        )
    columns = [text_column, *([] if text_pair_column is None else [text_pair_column])]
    if standard_input:
        with read_errors(source):
            content = sys.stdin.buffer.read()
    else:
        content = read_file(path)
    if form == ".txt":
        rows: list[tuple[str, ...]] = [(line,) for line in split_lines(decode_text(source, content))]
    else:
        rows = [_row(place, fields, columns) for place, fields in read_records(source, form, content, columns)]
    if not rows:
        raise DataError(f"{source} holds no text; give a file with at least one row")
    texts, *pairs = (list(column) for column in zip(*rows, strict=True))
    return texts, pairs[0] if pairs else None


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
