"""Pairs are read from whatever holds them, and come out of the store as they went in."""

import gzip
import json

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.arguments import PairDataArguments
from bertkit.data.errors import DataError
from bertkit.data.pairs import load_pairs
from bertkit.data.splits import build_stores
from bertkit.data.token_store import TokenStore
from bertkit.tokenization import load_tokenizer

PAIRS = [("Ein Haus.  Es ist groß.", "A house. It is big."), ("Zwei", "Two"), ("drei \t", "three")]
CLEAN = [["Ein Haus. Es ist groß.", "A house. It is big."], ["Zwei", "Two"], ["drei", "three"]]


def write(path, text):
    path.write_bytes((gzip.compress if path.suffix == ".gz" else bytes)(text.encode()))
    return str(path)


def lines(texts):
    return "".join(f"{' '.join(text.split())}\n" for text in texts)


def tab_file(folder, name="pairs.tsv"):
    return write(folder / name, "\n".join("\t".join(" ".join(side.split()) for side in pair) for pair in PAIRS))


def records():
    return [{"source": source, "target": target, "number": 1} for source, target in PAIRS]


def parquet(folder):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records()), folder / "pairs.parquet")
    return {"train": str(folder / "pairs.parquet")}


def nested(folder):
    rows = [{"translation": {"de": source, "en": target}} for source, target in PAIRS]
    path = write(folder / "pairs.jsonl.gz", "\n".join(map(json.dumps, rows)))
    return {"train": path, "source_column": "translation.de", "target_column": "translation.en"}


def dataset(folder):
    datasets.Dataset.from_list(records()).to_json(folder / "train.jsonl")
    return {"train": f"hub:{folder}"}


def aligned(folder):
    sides = [
        write(folder / f"text.{name}", lines(side))
        for name, side in zip(("de", "en"), zip(*PAIRS, strict=True), strict=True)
    ]
    return {"train": sides[0], "train_target": sides[1]}


FORMS = {
    "tab": lambda folder: {"train": tab_file(folder)},
    "tab, packed": lambda folder: {"train": tab_file(folder, "pairs.txt.gz")},
    "tab, a folder": lambda folder: tab_file(folder, "pairs.txt") and {"train": str(folder)},
    "jsonl": lambda folder: {"train": write(folder / "pairs.jsonl", "\n".join(map(json.dumps, records())))},
    "jsonl, nested": nested,
    "parquet": parquet,
    "dataset": dataset,
    "aligned": aligned,
}


def load(**settings):
    arguments = PairDataArguments(**settings)
    return load_pairs(arguments.train, arguments.train_target, arguments)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pairs(tmp_path, form):
    documents = load(**FORMS[form](tmp_path))
    assert list(documents) == CLEAN == list(documents)
    if documents.num_bytes is not None:
        assert documents.bytes_read == documents.num_bytes


@settings(max_examples=40, deadline=None)
@given(
    sides=st.lists(
        st.tuples(*[st.lists(st.sampled_from(["ba", "do", "ki"]), max_size=4).map(" ".join)] * 2), min_size=1
    )
)
def test_line_n_of_one_file_belongs_to_line_n_of_the_other_also_where_one_is_empty(tmp_path_factory, sides):
    folder = tmp_path_factory.mktemp("aligned")
    source, target = (
        write(folder / name, lines(side)) for name, side in zip("st", zip(*sides, strict=True), strict=True)
    )
    expected = [[side for side in pair if side] for pair in sides if any(pair)]
    if expected:
        assert list(load(train=source, train_target=target)) == expected


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a\nb\nc\n", "a\nb\n", r"s, line 3: .*t has 2 lines only"),
        ("a\n", "a\nb\n", r"t, line 2: .*s has 1 lines only"),
        ("a\0\n", "a\n", r"s, line 1: a NUL byte"),
    ],
)
def test_files_that_are_not_aligned_are_named_with_the_line(tmp_path, source, target, message):
    with pytest.raises(DataError, match=message):
        list(load(train=write(tmp_path / "s", source), train_target=write(tmp_path / "t", target)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.tsv", "a\tb\n\nc\n", "x.tsv, line 3: 0 tabs"),
        ("x.txt", "a\tb\tc\n", "x.txt, line 1: 2 tabs"),
        (
            "x.jsonl",
            '{"source": "a", "ziel": "b"}',
            "no column 'target'; set data.target_column to one of source, ziel",
        ),
        ("x.jsonl", '{"source": "a", "target": 3}', "holds int, not text; name the text by data.target_column"),
    ],
)
def test_what_is_no_pair_is_named_by_its_place(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        list(load(train=write(tmp_path / name, text)))


def test_sources_without_as_many_targets_are_refused(tmp_path):
    with pytest.raises(DataError, match="2 files of sources and 1 of targets"):
        load(train=["a", "b"], train_target="c")
    with pytest.raises(DataError, match="there is no file nowhere"):
        load(train="nowhere", train_target="nowhere")
    with pytest.raises(ValueError, match=r"data\.eval_target is given and data\.eval is not"):
        PairDataArguments(train="a", eval_target="b")


def test_a_store_has_a_document_of_two_sentences_for_each_pair_and_none_is_in_both_parts(tmp_path, tokenizer_folder):
    pairs = [(f"badok {number}. Lume!", f"lume {number}") for number in range(60)]
    source, target = (
        write(tmp_path / name, lines(side)) for name, side in zip("st", zip(*pairs, strict=True), strict=True)
    )
    tokenizer = load_tokenizer(str(tokenizer_folder))
    settings = {"train": source, "train_target": target, "eval_fraction": 0.2, "cache_dir": str(tmp_path)}
    stores = build_stores(PairDataArguments(**settings), tokenizer, quiet=True)
    assert sum(store.metadata.num_documents for store in stores) == 60
    for store in stores:
        assert 5 < store.metadata.num_documents < 55
        assert (store.document_starts == store.sentence_starts[::2]).all()
        for number in range(store.metadata.num_documents):
            start, middle, end = store.sentence_starts[2 * number : 2 * number + 3]
            texts = [
                tokenizer.decode(np.asarray(store.token_ids[slice(*of)])) for of in ((start, middle), (middle, end))
            ]
            assert texts[0].split(".")[0].split()[-1] == texts[1].split()[-1]
    again = PairDataArguments(**settings | {"train": f"store:{stores[0].path}", "train_target": None, "eval": source,
                                            "eval_target": target})  # fmt: skip
    opened, evaluation = build_stores(again, tokenizer, quiet=True)
    assert isinstance(opened, TokenStore) and opened.path == stores[0].path
    assert evaluation.metadata.num_documents == 60
