"""GloVe's steps equal a scalar loop, its loss falls, and no number ever fails to be finite."""

import math
from itertools import pairwise

import numpy as np
import pytest

from bertkit.embeddings.cooccurrence import count_cooccurrences
from bertkit.embeddings.glove import Glove, GloveArguments, train_glove


class Scalar:
    """The same, a number at a time, in the order of the authors' program."""

    def __init__(self, glove):
        self.arguments = glove.arguments
        parts = (glove.words, glove.contexts, glove.word_squares, glove.context_squares)
        self.words, self.contexts, self.word_squares, self.context_squares = (
            part.astype(float).tolist() for part in parts
        )

    def step(self, row, column, count):
        arguments, width = self.arguments, self.arguments.vector_size
        word, context = self.words[row], self.contexts[column]
        error = sum(word[n] * context[n] for n in range(width)) + word[width] + context[width] - math.log(count)
        weighted = error * (1 if count > arguments.x_max else (count / arguments.x_max) ** arguments.alpha)
        for_word = [max(min(weighted * context[n], 100), -100) * arguments.learning_rate for n in range(width)]
        for_context = [max(min(weighted * word[n], 100), -100) * arguments.learning_rate for n in range(width)]
        for numbers, squares, gradients in (
            (word, self.word_squares[row], [*for_word, weighted]),
            (context, self.context_squares[column], [*for_context, weighted]),
        ):
            for n, gradient in enumerate(gradients):
                numbers[n] -= gradient / math.sqrt(squares[n])
                squares[n] += gradient**2
        return 0.5 * weighted * error


@pytest.fixture
def matrix(tmp_path):
    """Counts of a text in which each of 60 words is followed by one of three."""
    generator = np.random.default_rng(0)
    successors = generator.integers(0, 60, (60, 3))
    texts = []
    for _ in range(40):
        words = [int(generator.integers(60))]
        for _ in range(50):
            words.append(int(generator.choice(successors[words[-1]])))
        texts.append(np.array(words))
    return count_cooccurrences(iter(texts), 60, tmp_path, window=5)


def test_the_steps_of_groups_equal_those_of_single_pairs_one_after_the_other(matrix):
    arguments = GloveArguments(vector_size=8, x_max=5, learning_rate=0.3)
    glove = Glove(60, arguments)
    scalar = Scalar(glove)
    for start, end in pairwise(matrix.group_starts):
        pairs = [part[start:end] for part in (matrix.rows, matrix.columns, matrix.counts)]
        loss = glove.step(*pairs)
        expected = sum(scalar.step(*pair) for pair in zip(*(part.tolist() for part in pairs), strict=True))
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for actual, expected in (
        (glove.words, scalar.words),
        (glove.contexts, scalar.contexts),
        (glove.word_squares, scalar.word_squares),
        (glove.context_squares, scalar.context_squares),
    ):
        np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(glove.vectors(), glove.words[:, :8] + glove.contexts[:, :8])


def test_gradients_are_cut_where_they_are_too_steep():
    glove = Glove(2, GloveArguments(vector_size=2, x_max=1, learning_rate=1.0))
    glove.words[:], glove.contexts[:] = 30, 30
    scalar = Scalar(glove)
    loss = glove.step(np.array([0]), np.array([1]), np.array([1], dtype=np.float32))
    assert loss == pytest.approx(scalar.step(0, 1, 1.0))
    np.testing.assert_allclose(glove.words, scalar.words, rtol=1e-6)
    assert glove.words[0, 0] == pytest.approx(30 - 100)


def test_it_starts_evenly_within_half_a_width():
    glove = Glove(3000, GloveArguments(vector_size=20))
    for numbers in (glove.words, glove.contexts):
        assert numbers.dtype == np.float32 and np.abs(numbers).max() <= 0.5 / 20
        assert numbers.std() == pytest.approx(1 / 20 / math.sqrt(12), rel=0.02)
    assert (glove.word_squares == 1).all() and (glove.context_squares == 1).all()


def test_the_loss_falls_and_equal_seeds_give_equal_bits(matrix):
    losses = []
    arguments = GloveArguments(vector_size=10, x_max=10, epochs=12)
    vectors = train_glove(matrix, arguments, after_epoch=lambda epoch, loss: losses.append(loss))
    assert len(losses) == 12 and all(after < before for before, after in pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]
    assert vectors.shape == (60, 10) and vectors.dtype == np.float32
    assert np.array_equal(vectors, train_glove(matrix, arguments))
    other = GloveArguments(vector_size=10, x_max=10, epochs=12, seed=1)
    assert not np.array_equal(vectors, train_glove(matrix, other))


@pytest.mark.parametrize("learning_rate", [0.05, 1.0])
def test_a_thousand_random_words_give_no_nan(tmp_path, learning_rate):
    generator = np.random.default_rng(0)
    matrix = count_cooccurrences(iter([generator.integers(0, 300, 1000)]), 300, tmp_path)
    vectors = train_glove(matrix, GloveArguments(vector_size=50, epochs=30, learning_rate=learning_rate))
    assert np.isfinite(vectors).all() and vectors.std() > 0


def test_one_word_and_enormous_counts_give_no_nan(tmp_path):
    matrix = count_cooccurrences(iter([np.zeros(200_000, dtype=np.int64)]), 1, tmp_path, max_pairs=1 << 18)
    assert len(matrix) == 1 and matrix.counts[0] == pytest.approx(2 * sum(200_000 / d for d in range(1, 16)), rel=1e-3)
    assert np.isfinite(train_glove(matrix, GloveArguments(epochs=200, learning_rate=1.0))).all()


@pytest.mark.parametrize(
    ("name", "value"), [("window", 0), ("epochs", -1), ("x_max", 0.0), ("learning_rate", math.inf)]
)
def test_a_setting_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"glove.{name} is {value}; it must be"):
        GloveArguments(**{name: value})
