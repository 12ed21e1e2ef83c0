"""Stores built apart and merged are the store built at once."""

import json
import shutil

import pytest

from bertkit.cli import main
from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.errors import DataError
from bertkit.data.merging import merge_stores
from bertkit.data.token_store import TokenStore
from bertkit.tokenization import load_tokenizer

FILES = ("token_ids.bin", "sentence_starts.bin", "document_starts.bin", "sentence_bytes.bin", "token_counts.bin")


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    """Return a function: files of text -> their store."""

    def build(*paths, tokenizer=None, **settings):
        sources = [str(path) for path in paths]
        arguments = DataArguments(train=sources, cache_dir=str(tmp_path / "cache"), num_workers=1, **settings)
        tokenizer = tokenizer or load_tokenizer(tokenizer_folder)
        return TokenStore.build(load_documents(sources, arguments), tokenizer, arguments, quiet=True)

    return build


@pytest.fixture
def parts(corpus_file, tmp_path):
    """Cut the corpus into three files."""
    documents = corpus_file.read_text().strip().split("\n\n")
    paths = []
    for number, bounds in enumerate(((0, 10), (10, 11), (11, None))):
        paths.append(tmp_path / f"part-{number}.txt")
        paths[-1].write_text("\n\n".join(documents[slice(*bounds)]) + "\n")
    return paths


def test_stores_of_the_parts_make_the_store_of_the_whole_to_the_byte(build, parts, tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.data.merging._AT_ONCE", 100)
    whole = build(*parts)
    merged = merge_stores([build(part).path for part in parts], tmp_path / "merged", quiet=True)
    for name in FILES:
        assert (merged.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    sizes = [
        {name: value for name, value in vars(store.metadata).items() if name != "made_from"}
        for store in (merged, whole)
    ]
    assert sizes[0] == sizes[1]


def test_stores_made_otherwise_are_not_merged_and_leave_nothing_behind(build, parts, tmp_path):
    one, other = build(parts[0]), build(parts[1], sentences="line")
    with pytest.raises(DataError, match=r"differs from .* in its sentences"):
        merge_stores([one.path, other.path], tmp_path / "merged")
    with pytest.raises(DataError, match="no stores to merge"):
        merge_stores([], tmp_path / "merged")
    with pytest.raises(DataError, match="is no token store"):
        merge_stores([one.path, tmp_path], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    (tmp_path / "merged").mkdir()
    with pytest.raises(DataError, match="exists already"):
        merge_stores([one.path], tmp_path / "merged")


def test_a_merge_that_fails_leaves_nothing_that_looks_whole(build, parts, tmp_path, monkeypatch):
    def fail(path):
        raise OSError(28, "No space left on device")

    stores = [build(part).path for part in parts]
    monkeypatch.setattr("bertkit.data.merging.sync", fail)
    with pytest.raises(OSError, match="No space"):
        merge_stores(stores, tmp_path / "merged", quiet=True)
    assert not list(tmp_path.glob("*merg*"))


def test_a_merged_store_trains_the_model_that_the_text_trains(build, parts, pretrain_options, tmp_path):
    folders = [shutil.copytree(build(part).path, tmp_path / f"store-{number}") for number, part in enumerate(parts)]
    merged = merge_stores(folders, tmp_path / "merged", quiet=True)
    text = {"data.train": json.dumps([str(part) for part in parts]), "data.eval": parts[0]}
    store = {"data.train": f"store:{merged.path}", "data.eval": parts[0]}
    for name, sources in (("text", text), ("store", store)):
        assert main(["pretrain", *pretrain_options(tmp_path / name, **sources)]) == 0
    weights = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("text", "store")]
    assert weights[0] == weights[1]


def test_a_store_of_another_tokenizer_and_one_without_evaluation_text_are_refused(
    build, parts, pretrain_options, tmp_path, capsys
):
    from pathlib import Path

    shipped = load_tokenizer(Path(__file__).parents[2] / "tokenizer" / "wordpiece-wikipedia-4k")
    other = build(parts[0], tokenizer=shipped)
    options = {"data.train": f"store:{other.path}"}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **options)]) == 2
    assert "of which nothing can be held out; give data.eval" in capsys.readouterr().err
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **options, **{"data.eval": parts[0]})]) == 2
    assert "was made by another tokenizer" in capsys.readouterr().err
