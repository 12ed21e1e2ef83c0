"""Labelled texts from wherever they lie: tables, JSON lines, `label text` lines and datasets, read whole into memory.

A text that is empty or missing (null, NaN) is kept as an empty one: the examples stay aligned with the rows of the file.
A label that is missing is an error.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bertkit.data.errors import DataError, listed, one_line
from bertkit.data.keyed_random import keyed_permutation
from bertkit.data.records import RECORD_FORMS, Record, decode_text, file_form, read_file, read_records, split_lines

HOLD_OUT_SEED = 0  # not the run's seed: runs that differ in it alone are evaluated on the same examples
_FORMATS = (*RECORD_FORMS, ".txt")


@dataclass(kw_only=True)
class LabelledDataArguments:
    """Where the labelled texts come from and which columns hold what.

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    train: str | list[str]
    """Texts to train on, one source or several: a file (.csv, .tsv, .jsonl, .parquet, or .txt with a label, a space and a
    text on each line; also .gz), or a dataset written hub:name, hub:name:config or hub:name:config@split."""
    eval: str | list[str] | None = None
    """Texts to choose the best checkpoint on, in the same forms; without it, a share of each label's is held out."""
    test: str | list[str] | None = None
    """Texts to evaluate the best checkpoint on, in the same forms."""
    eval_fraction: float = 0.1
    """Share of each label's training texts that is held out for evaluation when `eval` is not given."""
    text_column: str = "text"
    """Column that holds the text."""
    text_pair_column: str | None = None
    """Column that holds the second text, where the label is about a pair."""
    label_column: str = "label"
    """Column that holds the label."""
    language: str = "en"
    """Language of the texts as an ISO 639 code (en, ko, de, ...), for the model card."""

    def __post_init__(self) -> None:
        if not 0 < self.eval_fraction < 1:
            raise ValueError(f"data.eval_fraction must lie between 0 and 1, not be {self.eval_fraction}")

    @property
    def columns(self) -> "Columns":
        """The columns' names."""
        return Columns(self.text_column, self.text_pair_column, self.label_column)


class Columns(NamedTuple):
    """Names of the columns to read."""

    text: str
    text_pair: str | None
    label: str


class LabelledText(NamedTuple):
    """A text, or a pair of texts, that people gave a label."""

    text: str
    text_pair: str | None
    """The second text of a pair."""
    label: str
    place: str
    """Where it was read, for messages."""


def load_parts(arguments: LabelledDataArguments) -> dict[str, list[LabelledText]]:
    """Read all parts of the data.

    Args:
        arguments: the recipe's section `data`.

    Returns:
        "train", "eval" and, where it is given, "test", each in the order of its rows.

    Raises:
        DataError: a source that cannot be read, or a training part too small to hold anything out.
    """
    columns = arguments.columns
    train = read_labelled_texts(arguments.train, columns, default_split="train")
    if arguments.eval is None:
        train, evaluation = hold_out(train, arguments.eval_fraction)
    else:
        evaluation = read_labelled_texts(arguments.eval, columns, default_split="validation")
    parts = {"train": train, "eval": evaluation}
    if arguments.test is not None:
        parts["test"] = read_labelled_texts(arguments.test, columns, default_split="test")
    return parts


def hold_out(examples: Sequence[LabelledText], fraction: float) -> tuple[list[LabelledText], list[LabelledText]]:
    """Split examples so that both parts have the labels in the same proportions, always in the same way.

    Args:
        examples: what to split.
        fraction: share of each label's examples to hold out, at least one where the label has two.

    Returns:
        The examples that stay and those that are held out, both in their order.

    Raises:
        DataError: there is no label with two examples.
    """
    of_label: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        of_label.setdefault(example.label, []).append(number)
    held_out: set[int] = set()
    for label, numbers in of_label.items():
        count = min(max(round(fraction * len(numbers)), 1), len(numbers) - 1)
        order = keyed_permutation(len(numbers), HOLD_OUT_SEED, "hold out", label)
        held_out.update(numbers[place] for place in order[:count])
    if not held_out:
        raise DataError("data.train has no two examples of one label, so none can be held out; give data.eval")
    stays = [example for number, example in enumerate(examples) if number not in held_out]
    return stays, [examples[number] for number in sorted(held_out)]


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
    examples: list[LabelledText] = []
    for name in [source] if isinstance(source, str) else source:
        before = len(examples)
        examples += _read_source(name, columns, default_split)
        if len(examples) == before:
            raise DataError(f"{name} holds no labelled text; give a source with at least one row")
    if not examples:
        raise DataError("no labelled text is named; give data.train a file or a dataset")
    return examples


def _read_source(name: str, columns: Columns, default_split: str) -> Iterable[LabelledText]:
    if name.startswith("hub:"):
        return _labelled(_dataset_records(name.removeprefix("hub:"), default_split), columns)
    path = Path(name).expanduser()
    if not path.is_file():
        what = (
            "is a folder; name its files" if path.is_dir() else "does not exist; name a file, or a dataset as hub:name"
        )
        raise DataError(f"{name} {what}")
    form, _ = file_form(path)
    if form not in _FORMATS:
        raise DataError(f"{name}: the form of {path.name} is not known by its ending; use {', '.join(_FORMATS)} or .gz")
    content = read_file(path)
    if form == ".txt":
        if columns.text_pair is not None:
            raise DataError(
                f"{path}: lines of label and text hold no pairs; use .tsv, .csv or .jsonl with named columns"
            )
        return _label_lines(path, decode_text(path, content))
    asked_for = [column for column in columns if column is not None]
    records = read_records(path, form, content, asked_for)
    return _labelled(records, columns, has_header=form in (".csv", ".tsv"))


def _dataset_records(name: str, default_split: str) -> Iterator[Record]:
    """Read a dataset of the Hub, or a local folder of the library `datasets`; numbered classes come by their names."""
    import datasets

    path, _, split = name.partition("@")
    path, _, config = path.partition(":")
    try:
        # A folder is streamed: a copy in the library's cache could outlive a change of the files.
        dataset = datasets.load_dataset(
            path, config or None, split=split or default_split, streaming=Path(path).expanduser().is_dir()
        )
        classes = {
            column: feature.names
            for column, feature in (dataset.features or {}).items()
            if isinstance(feature, datasets.ClassLabel)
        }
        for number, record in enumerate(dataset, 1):
            for column, names in classes.items():
                value = record[column]
                record[column] = names[value] if value is not None and value >= 0 else None  # −1 marks hidden labels
            yield Record(f"hub:{name}, row {number}", record)
    except DataError:
        raise
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"the dataset {name} cannot be read: {one_line(error)}") from error


def _label_lines(path: Path, text: str) -> Iterator[LabelledText]:
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip(" \r"):
            continue
        if line[0].isspace():
            raise DataError(f"{path}, line {number}: begins with a space; write a label, a space or tab, and the text")
        label, *rest = line.split(maxsplit=1)
        yield LabelledText("".join(rest).strip(), None, label, f"{path}, line {number}")


def _labelled(records: Iterable[Record], columns: Columns, *, has_header: bool = False) -> Iterator[LabelledText]:
    settings = [("text_column", columns.text), ("label_column", columns.label)]
    if columns.text_pair is not None:
        settings.append(("text_pair_column", columns.text_pair))
    for place, record in records:
        for setting, column in settings:
            if column not in record:
                there = listed(_shortened(str(name)) for name in record)
                remedy = f"set data.{setting} to one of {there}"
                if has_header:
                    remedy += "; if these are no names, the header is missing: put one above them, as text TAB label"
                raise DataError(f"{place}: no column {column!r}; {remedy}")
        yield LabelledText(
            text=_text(record[columns.text], place, columns.text),
            text_pair=None if columns.text_pair is None else _text(record[columns.text_pair], place, columns.text_pair),
            label=_label(record[columns.label], place, columns.label),
            place=place,
        )


def _shortened(name: str) -> str:
    """Return the name of a column, or the beginning of what stands where a name should.

    >>> _shortened("label"), _shortened("a text, and no name at all, of forty letters and more")
    ('label', 'a text, and no name at all, of forty...')
    """
    return name if len(name) <= 40 else f"{name[:37].rstrip()}..."


def _text(value: Any, place: str, column: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{place}: column {column!r} holds {type(value).__name__}, not text; name the column of the text"
        )
    return value.strip()


def _label(value: Any, place: str, column: str) -> str:
    """Return a label as a name: 1, 1.0 and "1" are one label."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, str) or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{place}: no label in column {column!r}; give it one, or leave the row out")
    raise DataError(f"{place}: column {column!r} holds {value!r}, which is no class; name the column of the classes")
