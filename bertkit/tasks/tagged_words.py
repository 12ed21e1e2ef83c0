"""Sentences with a tag on every word: CoNLL columns, CoNLL-U, and records whose words and tags are lists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bertkit.data.errors import DataError
from bertkit.data.records import Record, decode_text, split_lines
from bertkit.tasks.labelled_data import label_of
from bertkit.tasks.sources import TaskDataArguments, list_of, read_examples

CONLLU_COLUMNS = {"form": 2, "lemma": 3, "upos": 4, "xpos": 5, "feats": 6, "deprel": 8}
"""Names of CoNLL-U's columns (https://universaldependencies.org/format.html), counted from 1."""


class TaggedSentence(NamedTuple):
    """A sentence in words, each with its tag."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    place: str
    """Where it was read, for messages."""

    @property
    def group(self) -> str:
        """All sentences are of one group."""
        return ""


@dataclass(kw_only=True)
class TaggedDataArguments(TaskDataArguments):
    """Where the tagged sentences come from and which columns hold what.

    A .conll file has a word and its tags on each line, between tabs or spaces, and a blank line behind each sentence; a .conllu
    file is one of Universal Dependencies.
    """

    other_forms: ClassVar[tuple[str, ...]] = (".conll", ".bio", ".iob", ".txt", ".conllu")

    words_column: str = "tokens"
    """Column that holds the words of a sentence as a list; in .conll files a number, counted from 1 (default 1)."""
    tags_column: str = "tags"
    """Column that holds their tags as a list; in .conll files a number, counted from 1 (default: the last); in .conllu files
    one of form, lemma, upos, xpos, feats, deprel (default: upos)."""

    def read(self, source: str | Sequence[str], *, default_split: str = "train") -> list[TaggedSentence]:
        """Read sentences; see `TaskDataArguments.read`."""
        forms = {form: self._columns for form in self.other_forms if form != ".conllu"}
        return read_examples(
            source,
            self,
            columns=[self.words_column, self.tags_column],
            example_of=self._example,
            settings={self.tags_column: "tags_column", self.words_column: "words_column"},
            parsers={**forms, ".conllu": self._conllu},
            default_split=default_split,
        )

    def read_inputs(self, source: str) -> list[TaggedSentence]:
        """Read sentences without tags; in a .txt file each line is one, its words between spaces."""
        forms = {form: self._columns for form in self.other_forms if form not in (".conllu", ".txt")}
        return read_examples(
            source,
            self,
            columns=[self.words_column],
            example_of=self._untagged,
            settings={self.words_column: "words_column"},
            parsers={**forms, ".conllu": self._conllu, ".txt": self._lines},
            default_split="test",
        )

    def input_of(self, value: Any, place: str) -> TaggedSentence:
        """Make an example of a text, its words between spaces, or of a list of words."""
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) for word in words):
            raise DataError(f"{place} is {value!r}; give a text, or a list of words")
        return TaggedSentence(tuple(words), ("",) * len(words), place)

    def _untagged(self, record: Record) -> TaggedSentence:
        value = record.fields[self.words_column]
        words = value.split() if isinstance(value, str) else list_of(record, self.words_column, what="words")
        return TaggedSentence(tuple(words), ("",) * len(words), record.place)

    def _lines(self, path: Path, content: bytes) -> Iterator[TaggedSentence]:
        for number, line in enumerate(split_lines(decode_text(path, content)), 1):
            if words := line.split():
                yield TaggedSentence(tuple(words), ("",) * len(words), f"{path}, line {number}")

    def _example(self, record: Record) -> TaggedSentence:
        words = list_of(record, self.words_column, what="words")
        tags = list_of(record, self.tags_column, what="tags")
        if len(words) != len(tags):
            raise DataError(f"{record.place}: {len(words)} words and {len(tags)} tags; give each word one")
        if not all(isinstance(word, str) for word in words):
            raise DataError(
                f"{record.place}: column {self.words_column!r} holds more than words; name the words' column"
            )
        return TaggedSentence(
            tuple(words), tuple(label_of(tag, record.place, self.tags_column) for tag in tags), record.place
        )

    def _columns(self, path: Path, content: bytes) -> Iterator[TaggedSentence]:
        word_column = self._number(self.words_column, default="tokens", otherwise=1)
        tag_column = self._number(self.tags_column, default="tags", otherwise=-1)
        separator = "\t" if b"\t" in content else None
        for place, lines in _sentences(path, content):
            words, tags = [], []
            for number, line in lines:
                fields = line.split(separator)
                if fields[0] == "-DOCSTART-":
                    continue
                if len(fields) < max(word_column, tag_column, 2):
                    what = "a field" if len(fields) == 1 else f"{len(fields)} fields"
                    raise DataError(
                        f"{path}, line {number}: {what} only; write a word, a tab or space, and its tag, and a blank line "
                        "behind each sentence"
                    )
                words.append(fields[word_column - 1].strip())
                tags.append(fields[tag_column - 1 if tag_column > 0 else -1].strip())
                if not words[-1] or not tags[-1]:
                    raise DataError(f"{path}, line {number}: a word or its tag is empty; write both")
            if words:
                yield TaggedSentence(tuple(words), tuple(tags), place)

    def _number(self, column: str, *, default: str, otherwise: int) -> int:
        if column == default:
            return otherwise
        if not column.isdecimal() or column == "0":
            raise DataError(f"the columns of a .conll file have numbers from 1, and {column!r} is none")
        return int(column)

    def _conllu(self, path: Path, content: bytes) -> Iterator[TaggedSentence]:
        name = "upos" if self.tags_column == "tags" else self.tags_column
        if name not in CONLLU_COLUMNS:
            raise DataError(f"data.tags_column is {name!r}; a .conllu file has {', '.join(CONLLU_COLUMNS)}")
        for place, lines in _sentences(path, content):
            words, tags = [], []
            for number, line in lines:
                if line.startswith("#"):
                    continue
                fields = line.split("\t")
                if len(fields) != 10:
                    raise DataError(
                        f"{path}, line {number}: {len(fields)} fields; a word of CoNLL-U has 10, between tabs"
                    )
                if not fields[0].isdecimal():  # a token of several words, or one that is left out
                    continue
                words.append(fields[CONLLU_COLUMNS["form"] - 1])
                tags.append(fields[CONLLU_COLUMNS[name] - 1])
            if words:
                yield TaggedSentence(tuple(words), tuple(tags), place)


def _sentences(path: Path, content: bytes) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Yield the lines of each sentence with their numbers, and the place where it begins."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate([*split_lines(decode_text(path, content)), ""], 1):
        if line.strip():
            lines.append((number, line))
        elif lines:
            yield f"{path}, line {lines[0][0]}", lines
            lines = []
