"""Texts and pairs of texts with a label each: tables, JSON lines, `label text` lines and datasets."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bertkit.data.errors import DataError
from bertkit.data.records import Record, decode_text, split_lines
from bertkit.tasks.sources import TaskDataArguments, hold_out, is_missing, load_parts, read_examples, text_of

__all__ = ["Columns", "LabelledDataArguments", "LabelledText", "hold_out", "load_parts", "read_labelled_texts"]

_FORM_OF_PAIRS = (
    "give .tsv, .csv or .jsonl with named columns, and say by data.form which it is where no ending tells it"
)


class Columns(NamedTuple):
    """Names of the columns to read."""

    text: str
    text_pair: str | None
    label: str


@dataclass(kw_only=True)
class LabelledDataArguments(TaskDataArguments):
    """Where the labelled texts come from and which columns hold what.

    A .txt file has a label, a space and a text on each line.
    """

    other_forms: ClassVar[tuple[str, ...]] = (".txt",)

    text_column: str = "text"
    """Column that holds the text."""
    text_pair_column: str | None = None
    """Column that holds the second text, where the label is about a pair."""
    label_column: str = "label"
    """Column that holds the label."""

    @property
    def columns(self) -> Columns:
        """The columns' names."""
        return Columns(self.text_column, self.text_pair_column, self.label_column)

    def make(self, text: str, text_pair: str | None, value: Any, place: str) -> "LabelledText":
        """Make an example of what a row holds.

        Args:
            text: the text.
            text_pair: the second text of a pair.
            value: what stands where the label should.
            place: where the row was read, for messages.

        Raises:
            DataError: that is no label.
        """
        return LabelledText(text, text_pair, label_of(value, place, self.label_column), place)

    def read(self, source: str | Sequence[str], *, default_split: str = "train") -> list["LabelledText"]:
        """Read labelled texts; see `TaskDataArguments.read`."""
        columns = self.columns
        pair = {} if columns.text_pair is None else {columns.text_pair: "text_pair_column"}
        return read_examples(
            source,
            self,
            columns=[column for column in columns if column is not None],
            example_of=self._example,
            settings={**pair, columns.label: "label_column", columns.text: "text_column"},
            parsers={".txt": self._lines},
            default_split=default_split,
        )

    def unlabelled(self, text: str, text_pair: str | None, place: str) -> "LabelledText":
        """Make an example whose label is not known, ""."""
        return LabelledText(text, text_pair, "", place)

    def read_inputs(self, source: str) -> list["LabelledText"]:
        """Read texts without labels; see `TaskDataArguments.read_inputs`."""
        pair = self.text_pair_column
        return read_examples(
            source,
            self,
            columns=[self.text_column, *([] if pair is None else [pair])],
            example_of=lambda record: self.unlabelled(
                text_of(record, self.text_column), None if pair is None else text_of(record, pair), record.place
            ),
            settings={**({} if pair is None else {pair: "text_pair_column"}), self.text_column: "text_column"},
            parsers={".txt": self._texts},
            default_split="test",
        )

    def input_of(self, value: Any, place: str) -> "LabelledText":
        """Make an example of a text or a pair of texts; see `TaskDataArguments.input_of`."""
        texts = [value] if isinstance(value, str) else list(value) if isinstance(value, tuple | list) else []
        wanted = 1 if self.text_pair_column is None else 2
        if len(texts) != wanted or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{place} is {value!r}; give {'a text' if wanted == 1 else 'a pair of texts'}")
        return self.unlabelled(texts[0], texts[1] if wanted == 2 else None, place)

    def _texts(self, path: Path, content: bytes) -> "Iterator[LabelledText]":
        if self.text_pair_column is not None:
            raise DataError(f"{path}: lines of text hold no pairs; {_FORM_OF_PAIRS}")
        for number, line in enumerate(split_lines(decode_text(path, content)), 1):
            yield self.unlabelled(line.strip(), None, f"{path}, line {number}")

    def _example(self, record: Record) -> "LabelledText":
        columns = self.columns
        return self.make(
            text_of(record, columns.text),
            None if columns.text_pair is None else text_of(record, columns.text_pair),
            record.fields[columns.label],
            record.place,
        )

    def _lines(self, path: Path, content: bytes) -> "Iterator[LabelledText]":
        if self.text_pair_column is not None:
            raise DataError(f"{path}: lines of label and text hold no pairs; {_FORM_OF_PAIRS}")
        for number, line in enumerate(split_lines(decode_text(path, content)), 1):
            if not line.strip(" \r"):
                continue
            if line[0].isspace():
                raise DataError(
                    f"{path}, line {number}: begins with a space; write a label, a space or tab, and the text"
                )
            label, *rest = line.split(maxsplit=1)
            yield self.make("".join(rest).strip(), None, label, f"{path}, line {number}")


class LabelledText(NamedTuple):
    """A text, or a pair of texts, that people gave a label."""

    text: str
    text_pair: str | None
    """The second text of a pair."""
    label: str
    place: str
    """Where it was read, for messages."""

    @property
    def group(self) -> str:
        """Its label: each part of the data gets its share of every label."""
        return self.label


def read_labelled_texts(
    source: str | Sequence[str], columns: Columns, *, default_split: str = "train"
) -> list[LabelledText]:
    """Read labelled texts of one or several sources.

    Args:
        source: files or datasets, as `LabelledDataArguments.train` describes them.
        columns: which columns to read; `.txt` files have none.
        default_split: split of a dataset that is named without one.

    Returns:
        The examples in the order of the rows.

    Raises:
        DataError: a source that is not there, is empty or cannot be read, a column it does not have, or a row without a
            label, named by file and line.
    """
    arguments = LabelledDataArguments(
        train=[], text_column=columns.text, text_pair_column=columns.text_pair, label_column=columns.label
    )
    return arguments.read(source, default_split=default_split)


def most_frequent(labels: Sequence[str]) -> str:
    """Return the most frequent label, the first in the alphabet of equally frequent ones.

    >>> most_frequent(["b", "a", "b", "a"])
    'a'
    """
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def label_of(value: Any, place: str, column: str) -> str:
    """Return a label as a name: 1, 1.0 and "1" are one label.

    Args:
        value: what stands in the record.
        place: where that was read, for messages.
        column: where in the record.

    Raises:
        DataError: there is no label, or something that is no class.
    """
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if is_missing(value) or isinstance(value, str):
        raise DataError(f"{place}: no label in column {column!r}; give it one, or leave the row out")
    raise DataError(f"{place}: column {column!r} holds {value!r}, which is no class; name the column of the classes")
