"""What people labelled, from wherever it lies: files of records and datasets, read whole into memory, in parts.

A text that is empty or missing (null, NaN) is kept as an empty one: the examples stay aligned with the rows of the file.
A label that is missing is an error.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from bertkit.data.errors import DataError, listed, one_line
from bertkit.data.hub_datasets import open_dataset
from bertkit.data.keyed_random import keyed_permutation
from bertkit.data.records import RECORD_FORMS, Record, file_form, read_file, read_records

STANDARD_INPUT = "-"
HOLD_OUT_SEED = 0  # not the run's seed: runs that differ in it alone are evaluated on the same examples


class Example(Protocol):
    """A text, or several that belong together, and what people said of it."""

    @property
    def place(self) -> str:
        """Where it was read, for messages."""

    @property
    def group(self) -> str:
        """What examples are alike in: a part that is held out has its share of each group, or whole groups."""


AnyExample = TypeVar("AnyExample", bound=Example)
Parser = Callable[[Path, bytes], Iterable[Any]]
"""Reads the examples of a file that is no table and no JSON lines."""


@dataclass(kw_only=True)
class TaskDataArguments:
    """Where the labelled examples come from.

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    other_forms: ClassVar[tuple[str, ...]] = ()
    """Endings of files that are read otherwise than as records."""
    whole_groups: ClassVar[bool] = False
    """Whether a part that is held out has whole groups of examples, as articles; else a share of each, as of a label."""

    train: str | list[str]
    """Examples to train on, one source or several: a file (.csv, .tsv, .jsonl, .parquet or what the task has of its own; also
    .gz), or a dataset written hub:name, hub:name:config or hub:name:config@split."""
    eval: str | list[str] | None = None
    """Examples to choose the best checkpoint on, in the same forms; without it, a share of the training ones is held out."""
    test: str | list[str] | None = None
    """Examples to evaluate the best checkpoint on, in the same forms."""
    eval_fraction: float = 0.1
    """Share of the training examples that is held out for evaluation when `eval` is not given."""
    test_fraction: float = 0.0
    """Share of the training examples that is held out as the test part when `test` is not given; 0: there is none."""
    header: bool = True
    """Whether the first line of a .csv or .tsv names its columns; else they are named 1, 2, 3, ... from the left."""
    form: str | None = None
    """Form of the files where their endings do not tell it, as .tsv or .conll."""
    language: str | None = None
    """Language of the texts as an ISO 639 code (en, ko, de, ...), for the model card; it names none if not given."""

    def __post_init__(self) -> None:
        if not 0 < self.eval_fraction < 1:
            raise ValueError(f"data.eval_fraction must lie between 0 and 1, not be {self.eval_fraction}")
        if not 0 <= self.test_fraction < 1 - self.eval_fraction:
            raise ValueError(
                f"data.test_fraction must lie between 0 and what data.eval_fraction leaves, not be {self.test_fraction}"
            )
        if self.form is not None and self.form not in self.forms:
            raise ValueError(f"data.form is {self.form!r}; give one of {', '.join(self.forms)}")

    @property
    def forms(self) -> tuple[str, ...]:
        """Endings of the files that are read."""
        return (*RECORD_FORMS, *(form for form in self.other_forms if form not in RECORD_FORMS))

    def read(self, source: str | Sequence[str], *, default_split: str = "train") -> list[Any]:
        """Read the examples of one or several sources, in their order.

        Args:
            source: files or datasets, as `train` takes them.
            default_split: split of a dataset that is named without one.

        Raises:
            DataError: a source that is not there, is empty or cannot be read, or a row that is no example, named by file and
                line.
        """
        raise NotImplementedError

    def read_inputs(self, source: str) -> list[Any]:
        """Read examples without labels: what a model is asked about; in a .txt file each line is one.

        Args:
            source: a file, a dataset, or - for standard input.

        Raises:
            DataError: as `read`.
        """
        raise NotImplementedError

    def input_of(self, value: Any, place: str) -> Any:
        """Make an example without label of what a program has.

        Args:
            value: a text, a list, a mapping: what the task takes.
            place: which one it is, for messages.

        Raises:
            DataError: it is something else.
        """
        raise NotImplementedError


def load_parts(arguments: TaskDataArguments) -> dict[str, list[Any]]:
    """Read all parts of the data.

    Args:
        arguments: the recipe's section `data`.

    Returns:
        "train", "eval" and, where it is given or held out, "test", each in the order of its rows.

    Raises:
        DataError: a source that cannot be read, or a training part too small to hold anything out.
    """
    parts = {"train": arguments.read(arguments.train, default_split="train")}
    held_out = {"eval": arguments.eval_fraction, "test": arguments.test_fraction}
    for part, split in (("test", "test"), ("eval", "validation")):
        source = getattr(arguments, part)
        if source is not None:
            parts[part] = arguments.read(source, default_split=split)
        elif held_out[part]:
            # The share is of the whole: what was held out before is gone by now.
            left = 1 - (held_out["test"] if part == "eval" and arguments.test is None else 0)
            choose = hold_out_groups if arguments.whole_groups else hold_out
            parts["train"], parts[part] = choose(parts["train"], held_out[part] / left, key=part)
    return {part: parts[part] for part in ("train", "eval", "test") if part in parts}


def hold_out(
    examples: Sequence[AnyExample], fraction: float, *, key: str = "eval"
) -> tuple[list[AnyExample], list[AnyExample]]:
    """Split examples so that both parts have their groups in the same proportions, always in the same way.

    Args:
        examples: what to split.
        fraction: share of each group's examples to hold out, at least one where the group has two.
        key: name of the part, by which the choice is keyed.

    Returns:
        The examples that stay and those that are held out, both in their order.

    Raises:
        DataError: there is no group with two examples.
    """
    held_out: set[int] = set()
    for group, numbers in by_group(examples).items():
        count = min(max(round(fraction * len(numbers)), 1), len(numbers) - 1)
        order = keyed_permutation(len(numbers), HOLD_OUT_SEED, *_keys(key), group)
        held_out.update(numbers[place] for place in order[:count])
    if not held_out:
        raise DataError(f"data.train has no two examples of one label, so none can be held out; give data.{key}")
    return _divided(examples, held_out)


def hold_out_groups(
    examples: Sequence[AnyExample], fraction: float, *, key: str = "eval"
) -> tuple[list[AnyExample], list[AnyExample]]:
    """Split examples so that no group has some in each part, always in the same way; else as `hold_out`.

    Raises:
        DataError: there is one group only.
    """
    groups = by_group(examples)
    if len(groups) < 2:
        raise DataError(f"data.train has one text only, so none can be held out; give data.{key}")
    order = keyed_permutation(len(groups), HOLD_OUT_SEED, *_keys(key), "groups")
    count = min(max(round(fraction * len(groups)), 1), len(groups) - 1)
    numbers = list(groups.values())
    return _divided(examples, {number for place in order[:count] for number in numbers[place]})


def fold_of(
    examples: Sequence[AnyExample], number: int, count: int, *, whole_groups: bool = False
) -> tuple[list[AnyExample], list[AnyExample]]:
    """Divide examples for cross-validation, each group in proportion or as a whole, always in the same way.

    Args:
        examples: what to divide.
        number: which fold is held out, from 0.
        count: folds there are.
        whole_groups: no group has some in two folds.

    Returns:
        The examples that stay and those of the fold, both in their order.

    Raises:
        DataError: fewer examples, or groups, than folds.
    """
    groups = by_group(examples)
    units = len(groups) if whole_groups else len(examples)
    if units < count:
        raise DataError(f"{units} {'texts' if whole_groups else 'examples'} make no {count} folds; lower --folds")
    held_out: set[int] = set()
    if whole_groups:
        numbers_of = list(groups.values())
        order = keyed_permutation(len(groups), HOLD_OUT_SEED, "fold", "groups")
        return _divided(examples, {number for place in order[number::count] for number in numbers_of[place]})
    passed = 0  # where one group's last fold ends, the next one's first begins: folds differ by one example at most
    for group, numbers in groups.items():
        order = keyed_permutation(len(numbers), HOLD_OUT_SEED, "fold", group)
        held_out.update(numbers[place] for turn, place in enumerate(order, passed) if turn % count == number)
        passed += len(numbers)
    return _divided(examples, held_out)


def by_group(examples: Sequence[AnyExample]) -> dict[str, list[int]]:
    """Return the numbers of each group's examples, the groups in the order of their first ones.

    Args:
        examples: the examples.
    """
    of_group: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        of_group.setdefault(example.group, []).append(number)
    return of_group


def _keys(part: str) -> tuple[str, ...]:
    return ("hold out",) if part == "eval" else ("hold out", part)


def _divided(examples: Sequence[AnyExample], held_out: set[int]) -> tuple[list[AnyExample], list[AnyExample]]:
    stays = [example for number, example in enumerate(examples) if number not in held_out]
    return stays, [examples[number] for number in sorted(held_out)]


def read_examples(
    source: str | Sequence[str],
    arguments: TaskDataArguments,
    *,
    columns: Sequence[str],
    example_of: Callable[[Record], AnyExample],
    settings: Mapping[str, str],
    parsers: Mapping[str, Parser] | None = None,
    default_split: str,
) -> list[AnyExample]:
    """Read the examples of one or several sources.

    Args:
        source: files or datasets.
        arguments: how they are read.
        columns: columns that an example is made of.
        example_of: makes an example of a record that has them all.
        settings: column -> the setting that names it, for messages.
        parsers: ending -> how such a file is read that holds no records.
        default_split: split of a dataset that is named without one.

    Raises:
        DataError: a source that is not there, is empty or cannot be read, or a column it does not have.
    """
    parsers = parsers or {}
    examples: list[AnyExample] = []
    for name in [source] if isinstance(source, str) else source:
        before = len(examples)
        if name.startswith("hub:"):
            records = dataset_records(name.removeprefix("hub:"), default_split)
            examples += [example_of(record) for record in _with_columns(records, columns, settings, has_header=False)]
        else:
            path, form, content = _content(name, arguments)
            if form in parsers:
                examples += parsers[form](path, content)
            else:
                records = read_records(path, form, content, columns, header=arguments.header)
                in_table = form in (".csv", ".tsv")
                has_header = in_table and arguments.header
                examples += [
                    example_of(record) for record in _with_columns(records, columns, settings, has_header=has_header)
                ]
        if len(examples) == before:
            raise DataError(f"{name} holds no labelled text; give a source with at least one row")
    if not examples:
        raise DataError("no labelled text is named; give data.train a file or a dataset")
    return examples


def _content(name: str, arguments: TaskDataArguments) -> tuple[Path, str, bytes]:
    """Return a file's path, form and bytes; - is standard input, of lines of text unless data.form says otherwise."""
    if name == STANDARD_INPUT:
        return Path("standard input"), arguments.form or ".txt", sys.stdin.buffer.read()
    path = Path(name).expanduser()
    if not path.is_file():
        what = (
            "is a folder; name its files" if path.is_dir() else "does not exist; name a file, or a dataset as hub:name"
        )
        raise DataError(f"{name} {what}")
    form = arguments.form or file_form(path)[0]
    if form not in arguments.forms:
        raise DataError(
            f"{name}: the form of {path.name} is not known by its ending; use {', '.join(arguments.forms)} or .gz, or say "
            "it by data.form"
        )
    return path, form, read_file(path)


def dataset_records(name: str, default_split: str) -> Iterator[Record]:
    """Read a dataset of the Hub, or a local folder of the library `datasets`; numbered classes come by their names.

    Args:
        name: the dataset, with :config and @split behind it where they are wanted.
        default_split: split that is read where none is named.

    Raises:
        DataError: it cannot be read.
    """
    import datasets

    path, _, split = name.partition("@")
    path, _, config = path.partition(":")
    folder = Path(path).expanduser()
    try:
        # A folder is streamed: a copy in the library's cache could outlive a change of the files.
        dataset = open_dataset(
            datasets.load_dataset,
            str(folder) if folder.is_dir() else path,
            config or None,
            split=split or default_split,
            streaming=folder.is_dir(),
        )
        features = (dataset.features or {}).items()
        names = {column: found for column, feature in features if (found := _class_names(feature))}
        for number, record in enumerate(dataset, 1):
            fields = {
                column: _named(value, names[column]) if column in names else value for column, value in record.items()
            }
            yield Record(f"hub:{name}, row {number}", fields)
    except DataError:
        raise
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"the dataset {name} cannot be read: {one_line(error)}") from error


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of numbered classes, or of those in a list of them; None for any other feature."""
    inner = getattr(feature, "feature", feature)  # of a list
    return getattr(inner, "names", None)


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if value is not None and value >= 0 else None  # −1 marks hidden labels


def _with_columns(
    records: Iterable[Record], columns: Sequence[str], settings: Mapping[str, str], *, has_header: bool
) -> Iterator[Record]:
    for record in records:
        for column in columns:
            if column not in record.fields:
                there = listed(_shortened(str(name)) for name in record.fields)
                remedy = f"set data.{settings[column]} to one of {there}"
                if has_header:
                    remedy += (
                        "; if these are no names, the header is missing: put one above them, as text TAB label, or "
                    )
                    remedy += "give --data.header false and name columns by their numbers"
                raise DataError(f"{record.place}: no column {column!r}; {remedy}")
        yield record


def _shortened(name: str) -> str:
    """Return the name of a column, or the beginning of what stands where a name should.

    >>> _shortened("label"), _shortened("a text, and no name at all, of forty letters and more")
    ('label', 'a text, and no name at all, of forty...')
    """
    return name if len(name) <= 40 else f"{name[:37].rstrip()}..."


def is_missing(value: Any) -> bool:
    """Return whether a field of a record holds nothing: null, or NaN as pandas writes it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text_of(record: Record, column: str) -> str:
    """Return a record's text, an empty one where it is missing.

    Args:
        record: the record, which has the column.
        column: where the text is.

    Raises:
        DataError: the column holds something else.
    """
    value = record.fields[column]
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{record.place}: column {column!r} holds {type(value).__name__}, not text; name the column of the text"
        )
    return value.strip()


def list_of(record: Record, column: str, *, what: str) -> list[Any]:
    """Return a record's list.

    Args:
        record: the record, which has the column.
        column: where the list is.
        what: what it is a list of, for messages.

    Raises:
        DataError: the column holds something else.
    """
    value = record.fields[column]
    if isinstance(value, list | tuple):
        return list(value)
    found = type(value).__name__
    raise DataError(f"{record.place}: column {column!r} holds {found}, not a list of {what}; name the column that does")
