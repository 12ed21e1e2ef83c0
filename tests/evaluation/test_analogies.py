"""Analogies: gensim's figures on the same vectors, and by hand."""

import math

import numpy as np
import pytest

from bertkit.data.errors import DataError
from bertkit.embeddings.word_vectors import WordVectors
from bertkit.evaluation import analogies
from bertkit.evaluation.analogies import Question, answer_analogies, read_questions


@pytest.mark.parametrize("at_once", [1, 1 << 25])
def test_the_figures_are_gensims(tmp_path, monkeypatch, at_once):
    from gensim.models import KeyedVectors

    monkeypatch.setattr(analogies, "_PRODUCTS_AT_ONCE", at_once)
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(25)]
    vectors = WordVectors(words, generator.standard_normal((25, 3)))
    lines = []
    for section in ("first", "second"):
        lines.append(f": {section}\n")
        for _ in range(150):
            lines.append(" ".join(f"w{number}" for number in generator.choice(27, 4, replace=False)) + "\n")
    (tmp_path / "questions.txt").write_text("".join(lines))
    sections = answer_analogies(read_questions(tmp_path / "questions.txt"), vectors.row_of, vectors.normalised())
    keyed = KeyedVectors(3)
    keyed.add_vectors(words, vectors.vectors)
    _, expected = keyed.evaluate_word_analogies(str(tmp_path / "questions.txt"), case_insensitive=False)
    expected = {section["section"]: section for section in expected}
    assert [section.name for section in sections] == ["first", "second"]
    for section in sections:
        right, wrong = (len(expected[section.name][kind]) for kind in ("correct", "incorrect"))
        assert (section.right, section.covered, section.questions) == (right, right + wrong, 150)
        assert 0 < section.accuracy < 1 and section.covered < 150


def test_the_words_of_a_question_are_no_answers_and_case_gives_way():
    vectors = WordVectors(
        ["man", "king", "woman", "queen"], np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0.3], [1, 0.9, 0.3]])
    )
    asked = [
        Question("family", ("Man", "King", "Woman", "Queen")),
        Question("family", ("man", "king", "woman", "king")),
    ]
    asked.append(Question("towns", ("Athens", "Greece", "Oslo", "Norway")))
    family, towns = answer_analogies(asked, vectors.row_of, vectors.normalised())
    assert (family.right, family.covered, family.questions, family.accuracy) == (1, 2, 2, 0.5)
    assert (towns.right, towns.covered, towns.questions) == (0, 0, 1) and math.isnan(towns.accuracy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no analogies"),
        (": section\n", "holds no analogies"),
        (": section\na b c d\na b c\n", "line 3: four words should stand here, or : and a name, not 'a b c'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(content, message, tmp_path):
    (tmp_path / "questions").write_text(content)
    with pytest.raises(DataError) as caught:
        read_questions(tmp_path / "questions")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_questions_of_the_paper_are_read():
    from gensim.test.utils import datapath

    questions = read_questions(datapath("questions-words.txt"))
    assert len(questions) == 19544 and len({question.section for question in questions}) == 14
    assert questions[0] == ("capital-common-countries", ("Athens", "Greece", "Baghdad", "Iraq"))
