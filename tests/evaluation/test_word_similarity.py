"""Word similarity: gensim's figure on the same vectors, and by hand."""

import math

import numpy as np
import pytest

from bertkit.data.errors import DataError
from bertkit.embeddings.word_vectors import WordVectors
from bertkit.evaluation.word_similarity import ScoredPair, read_scored_pairs, word_similarity


@pytest.fixture
def vectors():
    words = [f"w{number}" for number in range(40)]
    return WordVectors(words, np.random.default_rng(0).standard_normal((40, 6)))


def test_the_figure_is_gensims(vectors, tmp_path):
    from gensim.models import KeyedVectors

    generator = np.random.default_rng(1)
    chosen = generator.integers(0, 50, (60, 2))  # some have no vector
    lines = [
        f"w{first}\tw{second}\t{score:.2f}\n"
        for (first, second), score in zip(chosen, generator.random(60), strict=True)
    ]
    (tmp_path / "pairs.tsv").write_text("".join(lines))
    found = word_similarity(read_scored_pairs(tmp_path / "pairs.tsv"), vectors.row_of, vectors.normalised())
    keyed = KeyedVectors(6)
    keyed.add_vectors(vectors.words, vectors.vectors)
    _, spearman, unknown = keyed.evaluate_word_pairs(str(tmp_path / "pairs.tsv"), case_insensitive=False)
    assert found.spearman == pytest.approx(spearman.statistic)
    assert found.pairs == 60 and 100 * (1 - found.covered / found.pairs) == pytest.approx(unknown)
    assert 0 < found.covered < 60


def test_vectors_that_agree_correlate_and_unknown_words_are_left_out():
    vectors = WordVectors(["cat", "dog", "car"], np.array([[1, 0.1], [1, 0], [0, 1]]))
    pairs = [
        ScoredPair("Cat", "dog", 9),
        ScoredPair("cat", "car", 2),
        ScoredPair("dog", "car", 1),
        ScoredPair("cat", "sun", 10),
    ]
    found = word_similarity(pairs, vectors.row_of, vectors.normalised())
    assert found.spearman == pytest.approx(1) and (found.covered, found.pairs) == (3, 4)


@pytest.mark.parametrize(
    "pairs", [[("sun", "moon", 1.0)], [("cat", "dog", 1.0)], [("cat", "dog", 1.0), ("cat", "car", 1.0)]]
)
def test_too_few_pairs_have_no_figure(pairs):
    vectors = WordVectors(["cat", "dog", "car"], np.eye(3) + 0.1)
    assert math.isnan(
        word_similarity([ScoredPair(*pair) for pair in pairs], vectors.row_of, vectors.normalised()).spearman
    )


@pytest.mark.parametrize(
    "content",
    [
        "tiger cat 7.35\nlove\tsex\t6.77\n",
        "# comment\nWord 1\tWord 2\tHuman (mean)\ntiger\tcat\t7.35\nlove\tsex\t6.77\n",
        "word1,word2,score\n\ntiger, cat, 7.35\nlove,sex,6.77\n",
        "word1\tword2\tPOS\tSimLex999\n".replace("POS", "score") + "tiger\tcat\t7.35\tA\nlove\tsex\t6.77\tN\n",
        "\ufefftiger\tcat\t7.35\r\nlove\tsex\t6.77\r\n",
    ],
)
def test_lines_are_read_with_or_without_a_header(content, tmp_path):
    (tmp_path / "pairs").write_text(content, encoding="utf-8", newline="")
    assert read_scored_pairs(tmp_path / "pairs") == [("tiger", "cat", 7.35), ("love", "sex", 6.77)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no pairs"),
        (b"word1 word2 score\n", "holds no pairs"),
        (
            b"tiger cat 7.35\nlove sex much\n",
            "line 2: a word, a word and a score should stand here, not 'love sex much'",
        ),
        (b"tiger cat\n", "line 1: a word, a word and a score should stand here"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(content, message, tmp_path):
    (tmp_path / "pairs").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_scored_pairs(tmp_path / "pairs")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_real_test_sets_are_read(data_folder):
    sizes = {path.name: len(read_scored_pairs(path)) for path in (data_folder / "wordsim").glob("*.txt")}
    assert sizes == {"EN-WS-353-ALL.txt": 353, "EN-SIMLEX-999.txt": 999}
