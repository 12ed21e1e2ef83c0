"""Analogies: is the vector of "king", less "man", and "woman" added, nearest to that of "queen"?

Mikolov et al. 2013, https://arxiv.org/abs/1301.3781; Levy & Goldberg 2014 (3CosAdd), https://aclanthology.org/W14-1618/. The
questions stand in the form of questions-words.txt: a line `: name` begins a section, every other line has four words,
`a b c d`: a is to b as c is to d. The answer is the word whose direction has the largest cosine with b − a + c, each at length
1, with a, b and c left out. A question of which a word has no vector is left out, and counted.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertkit.data.errors import DataError
from bertkit.evaluation.word_similarity import read_lines

_PRODUCTS_AT_ONCE = 1 << 25


class Question(NamedTuple):
    """A question and its answer, by the section it stands in."""

    section: str
    words: tuple[str, str, str, str]


class Section(NamedTuple):
    """How vectors do on the questions of a section."""

    name: str
    right: int
    covered: int
    questions: int

    @property
    def accuracy(self) -> float:
        """Share of the covered questions that are answered rightly; not a number where none is covered."""
        return self.right / self.covered if self.covered else float("nan")


def read_questions(path: str | Path) -> list[Question]:
    """Read questions in the form of questions-words.txt.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, holds no question, or a line is none; named by file and line.
    """
    questions: list[Question] = []
    section = "questions"
    for number, line in enumerate(read_lines(Path(path)), 1):
        words = line.split()
        if not words or (line.startswith("//") or line.startswith("#")):
            continue
        if line.startswith(":"):
            section = line[1:].strip() or section
        elif len(words) == 4:
            questions.append(Question(section, (words[0], words[1], words[2], words[3])))
        else:
            raise DataError(
                f"{path}, line {number}: four words should stand here, or : and a name, not {line.strip()[:60]!r}"
            )
    if not questions:
        raise DataError(f"{path} holds no analogies; give a file of lines of four words, as questions-words.txt")
    return questions


def answer_analogies(
    questions: Sequence[Question], row_of: Callable[[str], int | None], directions: np.ndarray
) -> list[Section]:
    """Answer questions by the nearest direction.

    Args:
        questions: the questions.
        row_of: gives the row of a word, None where it has no vector.
        directions: (words, width) vectors of length 1, or 0.

    Returns:
        The sections, in the order they come in.
    """
    rows = [[row_of(word) for word in question.words] for question in questions]
    covered = [number for number, words in enumerate(rows) if None not in words]
    right = np.zeros(len(questions), dtype=bool)
    at_once = max(_PRODUCTS_AT_ONCE // max(len(directions), 1), 1)
    for start in range(0, len(covered), at_once):
        some = covered[start : start + at_once]
        words = np.array([rows[number] for number in some])  # (some, 4)
        wanted = directions[words[:, 1]] - directions[words[:, 0]] + directions[words[:, 2]]
        cosines = wanted @ directions.T  # (some, words), each row times a length that changes no order
        np.put_along_axis(cosines, words[:, :3], -np.inf, axis=1)
        right[some] = cosines.argmax(axis=1) == words[:, 3]
    by_section: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        by_section.setdefault(question.section, []).append(number)
    known = set(covered)
    return [
        Section(name, int(right[numbers].sum()), sum(number in known for number in numbers), len(numbers))
        for name, numbers in by_section.items()
    ]
