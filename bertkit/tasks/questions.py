"""Questions about a text whose answers stand in it: SQuAD's json, and records of its columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bertkit.data.errors import DataError
from bertkit.data.records import Record, decode_text, read_records
from bertkit.tasks.sources import TaskDataArguments, is_missing, read_examples


class Answer(NamedTuple):
    """A stretch of the context."""

    text: str
    start: int
    """Where it begins, in characters."""


class Question(NamedTuple):
    """A question, the text to find the answer in, and the answers that people gave."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    """None where the text does not tell."""
    title: str
    """The article that the context is of."""
    place: str
    """Where it was read, for messages."""

    @property
    def group(self) -> str:
        """Its article, or its context where articles have no titles."""
        return self.title or self.context


@dataclass(kw_only=True)
class QuestionDataArguments(TaskDataArguments):
    """Where the questions come from and which columns hold what.

    A .json file is one of SQuAD (articles with paragraphs with questions); what is held out are whole articles.
    """

    other_forms: ClassVar[tuple[str, ...]] = (".json",)
    whole_groups: ClassVar[bool] = True

    question_column: str = "question"
    """Column that holds the question."""
    context_column: str = "context"
    """Column that holds the text."""
    answers_column: str = "answers"
    """Column that holds the answers as SQuAD's datasets do: a mapping of `text` and `answer_start`, a list each."""
    id_column: str = "id"
    """Column that names the question; without it, questions are numbered."""
    title_column: str = "title"
    """Column that names the article, by which a part is held out; without it, by the context."""

    def read(self, source: str | Sequence[str], *, default_split: str = "train") -> list[Question]:
        """Read questions; see `TaskDataArguments.read`."""
        return read_examples(
            source,
            self,
            columns=[self.question_column, self.context_column, self.answers_column],
            example_of=self._example,
            settings={
                self.answers_column: "answers_column",
                self.context_column: "context_column",
                self.question_column: "question_column",
            },
            parsers={".json": self._json},
            default_split=default_split,
        )

    def read_inputs(self, source: str) -> list[Question]:
        """Read questions without answers, those of a SQuAD file with the answers it has."""
        return read_examples(
            source,
            self,
            columns=[self.question_column, self.context_column],
            example_of=self._unanswered,
            settings={self.context_column: "context_column", self.question_column: "question_column"},
            parsers={".json": self._json},
            default_split="test",
        )

    def input_of(self, value: Any, place: str) -> Question:
        """Make an example of a mapping with `question` and `context`."""
        if not isinstance(value, Mapping) or not all(isinstance(value.get(n), str) for n in ("question", "context")):
            raise DataError(f"{place} is {value!r}; give a mapping with the texts `question` and `context`")
        return _question(str(value.get("id", place)), value["question"], value["context"], [], "", place)

    def _unanswered(self, record: Record) -> Question:
        return self._example(Record(record.place, {**record.fields, self.answers_column: None}))

    def _example(self, record: Record) -> Question:
        fields = record.fields
        texts = [fields[name] for name in (self.question_column, self.context_column)]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{record.place}: question or context is no text; name their columns")
        answers = fields[self.answers_column]
        if is_missing(answers):
            answers = {"text": [], "answer_start": []}
        if not isinstance(answers, Mapping) or not {"text", "answer_start"} <= {*answers}:
            raise DataError(
                f"{record.place}: column {self.answers_column!r} holds no `text` and `answer_start`, as SQuAD's datasets do"
            )
        found = [
            {"text": text, "answer_start": start}
            for text, start in zip(answers["text"], answers["answer_start"], strict=True)
        ]
        name = str(fields.get(self.id_column) or record.place.rpartition(" ")[2])
        question, context = texts
        return _question(name, question, context, found, str(fields.get(self.title_column) or ""), record.place)

    def _json(self, path: Path, content: bytes) -> Iterator[Question]:
        try:
            whole = json.loads(decode_text(path, content))
        except json.JSONDecodeError:  # an object a line
            columns = [self.question_column, self.context_column, self.answers_column]
            for record in read_records(path, ".jsonl", content, columns):
                if missing := [column for column in columns if column not in record.fields]:
                    raise DataError(f"{record.place}: no {missing[0]!r}; name the columns by data.*_column") from None
                yield self._example(record)
            return
        try:
            for number, article in enumerate(whole["data"], 1):
                title = str(article.get("title") or f"article {number}")
                for paragraph in article["paragraphs"]:
                    for asked in paragraph["qas"]:
                        place = f"{path}, question {asked['id']}"
                        answers = [] if asked.get("is_impossible") else asked.get("answers", [])
                        yield _question(
                            str(asked["id"]), asked["question"], paragraph["context"], answers, title, place
                        )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is not of SQuAD's form ({type(error).__name__}: {error}); it has data, paragraphs, context, qas, "
                "id, question, answers"
            ) from None


def _question(
    name: str, question: str, context: str, answers: Sequence[Mapping[str, Any]], title: str, place: str
) -> Question:
    for answer in answers:
        text, start = answer["text"], answer["answer_start"]
        if context[start : start + len(text)] != text or not text:
            raise DataError(
                f"{place}: the answer {text!r} does not stand at character {start} of the context, where "
                f"{context[start : start + 20]!r} does; correct answer_start, or leave the question out"
            )
    found = tuple(Answer(answer["text"], answer["answer_start"]) for answer in answers)
    return Question(name, question.strip(), context, found, title, place)
