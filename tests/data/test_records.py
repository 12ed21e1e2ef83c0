"""Records come row by row with their places, and no form loses a row that another form keeps."""

import csv
import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.errors import DataError
from bertkit.data.records import read_records

COLUMNS = ("a", "b")
field = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"))
without_deadline = settings(deadline=None)  # the first parquet file is read after imports
rows_of_fields = st.lists(st.tuples(field, field), max_size=8)


def written(form, rows, columns=COLUMNS):
    """The bytes of a file of these rows."""
    if form == ".parquet":
        buffer = io.BytesIO()
        table = pyarrow.table({name: [row[place] for row in rows] for place, name in enumerate(columns)})
        pyarrow.parquet.write_table(table, buffer)
        return buffer.getvalue()
    if form == ".csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([columns, *rows])
        return text.getvalue().encode()
    if form == ".tsv":
        return "".join("\t".join(row) + "\n" for row in [columns, *rows]).encode()
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()


def values(form, content, columns=COLUMNS):
    return [tuple(record.fields[name] for name in columns) for record in read_records("file", form, content, columns)]


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
@without_deadline
@given(rows=rows_of_fields)
def test_every_form_gives_back_the_rows_that_were_written(form, rows):
    assert values(form, written(form, rows)) == rows


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
@without_deadline
@given(rows=st.lists(st.tuples(field), max_size=8))
def test_one_column_keeps_its_empty_fields(form, rows):
    assert values(form, written(form, rows, columns=("a",)), columns=("a",)) == rows


@pytest.mark.parametrize(("form", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_blank_lines_of_a_table_are_no_rows_but_empty_fields_are_one(form, separator):
    lines = ["", "a|b", "", "1|2", "|", "", "3|", ""]
    content = "\r\n".join(lines).replace("|", separator).encode()
    records = list(read_records("file", form, content, COLUMNS))
    assert [tuple(record.fields.values()) for record in records] == [("1", "2"), ("", ""), ("3", "")]
    assert [record.place for record in records] == ["file, line 4", "file, line 5", "file, line 7"]


def test_a_parquet_file_is_read_in_the_columns_asked_for_and_wholly_where_one_is_missing():
    content = written(".parquet", [("1", "2")] * 3000)
    records = list(read_records("file", ".parquet", content, ["b"]))
    assert len(records) == 3000 and records[-1] == ("file, row 3000", {"b": "2"})
    assert next(read_records("file", ".parquet", content, ["b", "c"])).fields == {"a": "1", "b": "2"}


def test_text_of_a_parquet_file_that_is_not_utf_8_is_one_line():
    buffer = io.BytesIO()
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff"]).buffers())
    pyarrow.parquet.write_table(pyarrow.table({"a": broken}), buffer)
    with pytest.raises(DataError, match="file: text that is not UTF-8 after row 0"):
        list(read_records("file", ".parquet", buffer.getvalue(), ["a"]))


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl"])
def test_of_an_open_file_no_more_is_read_than_the_records_asked_for(form):
    content = written(form, [("one", "two")] * 1000)
    file = io.BytesIO(content)
    records = read_records("file", form, file, COLUMNS)
    for asked_for in (1, 2, 3):
        assert next(records).fields == {"a": "one", "b": "two"}
        lines = asked_for + (form != ".jsonl")  # a table has a header
        assert file.tell() == len(b"".join(content.splitlines(keepends=True)[:lines]))
    assert len(list(records)) == 997
