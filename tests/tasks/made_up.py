"""A made-up data set for every task, as files in a form of its own, that a tiny model can learn."""

import json
import random
from pathlib import Path

PRAISE = ["good", "great", "fine", "lovely", "brave"]
BLAME = ["bad", "awful", "poor", "dreadful", "dull"]
NEUTRAL = ["film", "actor", "story", "scene", "the", "a", "was", "is", "and", "very"]
WORDS = PRAISE + BLAME + NEUTRAL
TAGS = {**dict.fromkeys(PRAISE, "B-praise"), **dict.fromkeys(BLAME, "B-blame")}
ENDINGS = {
    "sequence_classification": ".txt",
    "multi_label_classification": ".jsonl",
    "regression": ".tsv",
    "token_classification": ".conll",
    "question_answering": ".json",
    "multiple_choice": ".csv",
}
DATA_OPTIONS = {
    "regression": ["--data.label_column", "score"],
    "multiple_choice": ["--data.choices_columns", "[first,second]"],
}
"""What of the command line says how the files are read."""


def write(task: str, folder: Path, part: str, count: int) -> Path:
    """Write a part of a task's data.

    Args:
        task: one of `TASKS`.
        folder: where.
        part: what the choice is keyed by, and the file's name.
        count: examples.
    """
    generator = random.Random(f"{task} {part}")
    path = folder / f"{task}-{part}{ENDINGS[task]}"
    path.write_text("".join(_WRITERS[task](generator, count)), encoding="utf-8")
    return path


def _sentence(generator: random.Random, kind: list[str], *, words: int = 8) -> list[str]:
    chosen = generator.choices(kind, k=2) + generator.choices(NEUTRAL, k=words - 2)
    generator.shuffle(chosen)
    return chosen[: generator.randint(words - 1, words)]


def _classes(generator, count):
    for number in range(count):
        label = ["pos", "neg"][number % 2]
        yield f"{label} {' '.join(_sentence(generator, PRAISE if label == 'pos' else BLAME))}\n"


def _labels(generator, count):
    for number in range(count):
        words = generator.choices(NEUTRAL, k=4) + [generator.choice(PRAISE)] * (number % 2)
        words += [generator.choice(BLAME)] * (number // 2 % 2)
        generator.shuffle(words)
        labels = ["praise"] * (number % 2) + ["blame"] * (number // 2 % 2)
        yield json.dumps({"text": " ".join(words), "labels": labels}) + "\n"


def _numbers(generator, count):
    yield "text\tscore\n"
    for number in range(count):
        praise = number % 4
        words = (
            generator.choices(PRAISE, k=praise)
            + generator.choices(BLAME, k=3 - praise)
            + generator.choices(NEUTRAL, k=3)
        )
        generator.shuffle(words)
        yield f"{' '.join(words)}\t{praise / 2}\n"


def _tags(generator, count):
    for number in range(count):
        for word in _sentence(generator, [PRAISE, BLAME][number % 2]):
            yield f"{word}\t{TAGS.get(word, 'O')}\n"
        yield "\n"


def _questions(generator, count):
    articles = []
    for number in range(count):
        words = generator.choices(NEUTRAL, k=9)
        words[generator.randrange(9)] = answer = generator.choice(PRAISE)
        context = " ".join(words)
        asked = {
            "id": f"q{number}",
            "question": "very good",
            "answers": [{"text": answer, "answer_start": context.index(answer)}],
        }
        articles.append({"title": f"article {number}", "paragraphs": [{"context": context, "qas": [asked]}]})
    yield json.dumps({"version": "1.1", "data": articles})


def _choices(generator, count):
    yield "text,first,second,label\n"
    for number in range(count):
        right, wrong = (" ".join(_sentence(generator, kind, words=4)) for kind in (PRAISE, BLAME))
        first, second = (right, wrong) if number % 2 == 0 else (wrong, right)
        yield f"the film,{first},{second},{number % 2}\n"


_WRITERS = {
    "sequence_classification": _classes,
    "multi_label_classification": _labels,
    "regression": _numbers,
    "token_classification": _tags,
    "question_answering": _questions,
    "multiple_choice": _choices,
}
