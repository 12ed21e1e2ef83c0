import json
import os
from pathlib import Path

import numpy as np
import pytest

from bertkit.data.errors import DataError
from bertkit.evaluation.minimal_pairs import Pair, compare_pairs, read_pairs


def by_length(texts):
    return -np.array([len(text) for text in texts], dtype=float)


def test_a_tie_is_half_right_and_counted():
    pairs = [
        Pair("a", "bb", "x"),
        Pair("ccc", "dd", "x"),
        Pair("e", "f", "x"),
        Pair("g", "g", "x"),
        Pair("a", "b", "y"),
    ]
    assert [tuple(result) for result in compare_pairs(pairs, by_length)] == [("x", 4, 2, 0.5), ("y", 1, 1, 0.5)]


def test_equal_sentences_tie_even_where_scores_depend_on_the_company():
    def noisy(texts):
        return np.random.default_rng(0).normal(size=len(texts))

    assert compare_pairs([Pair("same", "same", "x")] * 3, noisy)[0].ties == 3


def test_scores_are_compared_as_float32():
    def nearly_equal(texts):
        return np.array([-100.0 if text == "good" else -100.0 - 1e-9 for text in texts])

    assert compare_pairs([Pair("good", "bad", "x")], nearly_equal)[0].ties == 1


def test_files_and_folders_are_read_with_the_paradigm_of_each_record(tmp_path):
    record = {"sentence_good": "He sleeps.", "sentence_bad": "He sleep."}
    (tmp_path / "agreement.jsonl").write_text(
        json.dumps(record) + "\n\n" + json.dumps({**record, "UID": "verbs"}) + "\n"
    )
    expected = [Pair("He sleeps.", "He sleep.", "agreement"), Pair("He sleeps.", "He sleep.", "verbs")]
    assert read_pairs(tmp_path) == read_pairs(tmp_path / "agreement.jsonl") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no minimal pairs"),
        (b'{"sentence_good": "a", "sentence_bad": "b"}\n{"sentence_good": "a"}\n', "line 2: a record needs the texts"),
        (b"[1]\n", "line 1: JSON, but not an object"),
        (b"good\tbad\n", "line 1: not JSON"),
        (b"\xff\xfe", "is UTF-16 text; convert it"),
        (b"\xff", "line 1: not UTF-8"),
        (b'{"sentence_good": "a\\u0000", "sentence_bad": "b"}\n', "line 1: a NUL character in column 'sentence_good'"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(tmp_path, content, message):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif("BERTKIT_DATA" not in os.environ, reason="needs the text of BERTKIT_DATA")
def test_blimp_is_read_whole_and_its_equal_pairs_are_ties():
    pairs = read_pairs(Path(os.environ["BERTKIT_DATA"]) / "blimp")
    results = compare_pairs(pairs, by_length)
    assert len(results) == 12 and all(result.pairs == 1000 for result in results)
    equal = sum(pair.good == pair.bad for pair in pairs if pair.paradigm == "passive_1")
    assert equal and next(result.ties for result in results if result.name == "passive_1") >= equal
