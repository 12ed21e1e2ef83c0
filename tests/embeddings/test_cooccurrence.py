"""Weighted counts equal those of a naive loop, however little memory there is."""

import resource
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.errors import DataError
from bertkit.embeddings import cooccurrence
from bertkit.embeddings.cooccurrence import count_cooccurrences


def naive_counts(texts, window, weighted):
    counts = Counter()
    for text in texts:
        known = [token for token in text if token >= 0]
        for middle, word in enumerate(known):
            for distance in range(1, window + 1):
                for place in (middle - distance, middle + distance):
                    if 0 <= place < len(known):
                        counts[word, known[place]] += 1 / distance if weighted else 1
    return counts


def as_dict(matrix):
    entries = zip(matrix.rows.tolist(), matrix.columns.tolist(), matrix.counts.tolist(), strict=True)
    return {(row, column): count for row, column, count in entries}


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(-1, 6), max_size=30), max_size=8),
    window=st.integers(1, 9),
    max_pairs=st.sampled_from([1, 7, 50, 1 << 20]),
    block=st.sampled_from([1, 3, 1 << 20]),
    at_once=st.sampled_from([1, 1 << 18]),
    seed=st.integers(0, 3),
    weighted=st.booleans(),
)
def test_counts_equal_a_naive_loops(tmp_path_factory, texts, window, max_pairs, block, at_once, seed, weighted):
    expected, folder = naive_counts(texts, window, weighted), tmp_path_factory.mktemp("counts")
    options = {"window": window, "distance_weighting": weighted, "seed": seed, "max_pairs": max_pairs}
    arrays = (np.array(text, dtype=np.int64) for text in texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "_BLOCK", block)
        patch.setattr(cooccurrence, "_TOKENS_AT_ONCE", at_once)
        if not expected:
            with pytest.raises(DataError, match="no two words"):
                count_cooccurrences(arrays, 7, folder, **options)
            return
        matrix = count_cooccurrences(arrays, 7, folder, **options)
    assert len(matrix) == len(expected) and as_dict(matrix) == pytest.approx(expected, rel=1e-6)


def test_no_word_stands_twice_in_a_group_and_the_runs_are_gone(tmp_path):
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 50, 40) for _ in range(30)]
    matrix = count_cooccurrences(iter(texts), 50, tmp_path, window=4, max_pairs=500)
    assert matrix.group_starts[-1] == len(matrix) and matrix.vocab_size == 50
    sizes = []
    for start, end in pairwise(matrix.group_starts):
        for words in (matrix.rows[start:end], matrix.columns[start:end]):
            assert len(set(words.tolist())) == end - start
        sizes.append(end - start)
    assert np.mean(sizes) > 20  # else nothing would be gained by groups
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["columns", "counts", "rows"]


def test_another_seed_groups_the_same_counts_otherwise(tmp_path):
    texts = [np.arange(20) % 7]
    matrices = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(matrices))
        folder.mkdir()
        matrices.append(count_cooccurrences(iter(texts), 7, folder, window=2, seed=seed))
    assert np.array_equal(matrices[0].rows, matrices[1].rows)
    assert not np.array_equal(matrices[0].rows, matrices[2].rows)
    assert as_dict(matrices[0]) == as_dict(matrices[2])


def test_there_may_be_more_runs_than_open_files(tmp_path):
    text = np.arange(2000) % 50
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    expected = as_dict(count_cooccurrences(iter([text]), 50, whole, window=40))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, hard))
    try:
        matrix = count_cooccurrences(iter([text]), 50, parted, window=40, max_pairs=1)  # 40 runs, one a distance
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert as_dict(matrix) == pytest.approx(expected, rel=1e-6)


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    monkeypatch.setattr(cooccurrence, "_TOKENS_AT_ONCE", 1 << 10)
    monkeypatch.setattr(cooccurrence, "_BLOCK", 1 << 14)
    peaks = []
    for number, texts in enumerate((100, 400)):
        folder = tmp_path / str(number)
        folder.mkdir()
        generator = np.random.default_rng(0)
        words = (generator.integers(0, 2000, 100) for _ in range(texts))
        tracemalloc.start()
        matrix = count_cooccurrences(words, 2000, folder, window=10, max_pairs=1 << 15)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(matrix) > 150_000 * (number + 1)
    assert max(peaks) < 100 * 2**15 and peaks[1] < 1.2 * peaks[0]
