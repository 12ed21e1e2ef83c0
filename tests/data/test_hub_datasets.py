"""A dataset that the Hub has as a script is read from the copy in parquet that the Hub made of it."""

import shutil

import datasets
import pytest
from huggingface_hub import HfApi

from bertkit.cli import main
from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.errors import DataError
from bertkit.tasks.labelled_data import Columns, read_labelled_texts

COLUMNS = Columns("text", None, "label")


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """On the Hub, `someone/old` is a script; its parquet copy has a folder for each configuration."""
    for config, word in (("one", "first"), ("other", "second")):
        for split in ("train", "test"):
            path = tmp_path / "copy" / config / split / "0000.parquet"
            path.parent.mkdir(parents=True)
            rows = {"text": [f"{word} of {split}"], "label": [split]}
            datasets.Dataset.from_dict(rows).to_parquet(str(path))
    for name in ("load_dataset", "load_dataset_builder"):
        original = getattr(datasets, name)

        def on_the_hub(path, config=None, original=original, **settings):
            if path != "someone/old":
                return original(path, config, **settings)
            if settings.pop("revision", None) != "refs/convert/parquet":
                raise RuntimeError("Dataset scripts are no longer supported, but found old.py")
            return original(str(tmp_path / "copy"), config, cache_dir=str(tmp_path / "cache"), **settings)

        monkeypatch.setattr(datasets, name, on_the_hub)


def test_labelled_texts_of_a_script_come_from_the_parquet_copy_of_their_configuration(scripted):
    for config, word in (("one", "first"), ("other", "second")):
        (example,) = read_labelled_texts(f"hub:someone/old:{config}@test", COLUMNS)
        assert (example.text, example.label) == (f"{word} of test", "test")


def test_running_text_of_a_script_comes_from_it_too(scripted):
    documents = load_documents("hub:someone/old:other@train", DataArguments(train="hub:someone/old:other@train"))
    assert [list(document) for document in documents] == [["second of train"]]


def test_where_no_configuration_is_named_the_only_one_is_taken_and_of_several_none(scripted, tmp_path, monkeypatch):
    def listed(api, path, *, repo_type, revision):
        assert (path, repo_type, revision) == ("someone/old", "dataset", "refs/convert/parquet")
        files = [file for file in (tmp_path / "copy").rglob("*") if file.is_file()]
        return [".gitattributes", *(file.relative_to(tmp_path / "copy").as_posix() for file in files)]

    monkeypatch.setattr(HfApi, "list_repo_files", listed)
    message = "someone/old has the configurations one, other; name one, as hub:someone/old:one"
    with pytest.raises(DataError, match=message):
        read_labelled_texts("hub:someone/old@test", COLUMNS)
    with pytest.raises(DataError, match=message):
        load_documents("hub:someone/old@train", DataArguments(train="hub:someone/old@train"))
    shutil.rmtree(tmp_path / "copy" / "one")
    (example,) = read_labelled_texts("hub:someone/old@test", COLUMNS)
    assert (example.text, example.label) == ("second of test", "test")


def test_a_folder_with_a_script_is_refused_in_a_line(tmp_path, capsys):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "old.py").write_text("import datasets\n")
    with pytest.raises(DataError, match="is read by a script, which `datasets` no longer runs; write it as parquet"):
        read_labelled_texts(f"hub:{folder}", COLUMNS)
    options = ["--output_dir", str(tmp_path / "t"), "--data.train", f"hub:{folder}"]
    assert main(["tokenizer", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
