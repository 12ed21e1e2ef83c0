"""Folders of vectors: the same bits as in one piece, however often the run was killed, in memory that does not grow."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bertkit.cli import main
from bertkit.features import (
    FeatureExtractor,
    ShardSettings,
    ShardWriter,
    examine,
    extract_features,
    extract_word_features,
    load_encoder,
    open_features,
)
from tests.features.made_up import ragged_texts

TEXTS = [*ragged_texts(23), "", "the cat " * 40, *ragged_texts(5, seed=4)]


def command(checkpoint, folder, *options, input_file="in.txt", output="out"):
    return [str(part) for part in ("features", checkpoint, folder / input_file, "--output", folder / output, *options)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    return tmp_path


@pytest.fixture
def checkpoint(checkpoint_of):
    return checkpoint_of("bert")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_shards_together_are_the_vectors_of_all_texts(checkpoint, tokenizer, folder, capsys):
    assert main(command(checkpoint, folder, "--shard_rows", "7", "--layers", "[0,-1]")) == 0
    assert f"30 vectors of 64 numbers are in {folder}/out" in capsys.readouterr().out
    features = open_features(folder / "out")
    expected = extract_features(load_encoder(checkpoint), tokenizer, TEXTS, layers=[0, -1], quiet=True)
    np.testing.assert_allclose(np.asarray(features), expected, atol=1e-5, rtol=1e-5)
    assert features.shape == (30, 64) and features.dtype == np.float32 and len(features) == 30
    assert [len(shard) for shard in features.shards] == [7, 7, 7, 7, 2]
    assert all(isinstance(shard, np.memmap) for shard in features.shards)
    index = json.loads((folder / "out" / "index.json").read_text())
    assert index["rows"] == index["texts"] == [7, 7, 7, 7, 2]
    assert index["made_from"]["checkpoint"] == str(checkpoint) and index["made_from"]["layers"] == [0, -1]


def test_an_opened_folder_is_indexed_as_the_array_it_is(checkpoint, folder):
    assert main(command(checkpoint, folder, "--shard_rows", "7", "--quiet")) == 0
    features = open_features(folder / "out")
    whole = np.array(features)
    mask = np.arange(30) % 3 == 0
    for key in (
        0, -1, np.int64(29), slice(None), slice(2, 5), slice(5, 22), slice(-3, None), slice(None, None, -4), slice(9, 9),
        [3, 29, 0, -2], np.array([], dtype=int), mask, (4, 2), (slice(3, 15), 0), (slice(3, 15), slice(2, 4)), ([1, 20], -1),
    ):  # fmt: skip
        np.testing.assert_array_equal(features[key], whole[key], err_msg=str(key))
    np.testing.assert_array_equal(np.stack(list(features)), whole)
    assert isinstance(features[8:12], np.memmap)
    for key in (30, -31, [0, 30]):
        with pytest.raises(IndexError):
            features[key]
    with pytest.raises(IndexError, match="mask"):
        features[mask[:-1]]
    assert features.of_text(4).tolist() == whole[4:5].tolist()


def test_a_folder_becomes_a_table_of_pandas_and_a_dataset(checkpoint, folder):
    assert main(command(checkpoint, folder, "--shard_rows", "7", "--dtype", "float16")) == 0
    features = open_features(folder / "out")
    whole = np.asarray(features)
    assert whole.dtype == np.float16
    np.testing.assert_array_equal(features.to_pandas().to_numpy(), whole)
    dataset = features.to_dataset().with_format("numpy")
    np.testing.assert_array_equal(dataset["features"], whole)
    np.testing.assert_array_equal(dataset[12]["features"], whole[12])


def test_words_of_a_folder_are_ragged_and_keep_their_names(checkpoint, tokenizer, folder):
    assert main(command(checkpoint, folder, "--level", "word", "--shard_rows", "300")) == 0
    features = open_features(folder / "out")
    expected = extract_word_features(load_encoder(checkpoint), tokenizer, TEXTS, quiet=True)
    assert len(features.shards) > 3 and features.is_ragged and features.num_texts == 30
    np.testing.assert_allclose(np.asarray(features), expected.vectors, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(features.offsets, expected.offsets)
    assert list(features.words()) == expected.words
    np.testing.assert_array_equal(features.of_text(28), features[expected.offsets[28] : expected.offsets[29]])
    dataset = features.to_dataset().with_format("numpy")
    assert len(dataset) == 30 and dataset[28]["words"].tolist() == expected.words[28]
    np.testing.assert_array_equal(dataset[28]["features"], features.of_text(28))
    table = features.to_pandas()
    assert table["word"].tolist() == [word for words in expected.words for word in words]
    np.testing.assert_array_equal(table.loc[28].drop(columns="word").to_numpy(), features.of_text(28))


def test_words_in_one_file_are_those_of_the_folder(checkpoint, tokenizer, folder):
    import pyarrow.parquet

    for form in ("npz", "parquet"):
        assert main(command(checkpoint, folder, "--level", "word", output=f"o.{form}")) == 0
    expected = extract_word_features(load_encoder(checkpoint), tokenizer, TEXTS, quiet=True)
    arrays = np.load(folder / "o.npz")
    np.testing.assert_array_equal(arrays["features"], expected.vectors)
    np.testing.assert_array_equal(arrays["offsets"], expected.offsets)
    table = pyarrow.parquet.read_table(folder / "o.parquet")
    assert table["words"].to_pylist() == expected.words
    vectors = [vector for row in table["features"].to_pylist() for vector in row]
    np.testing.assert_array_equal(np.array(vectors, dtype=np.float32), expected.vectors)


def test_a_killed_run_goes_on_and_ends_with_the_bits_of_an_unbroken_one(checkpoint, tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in ragged_texts(160)))
    options = ["--shard_rows", "150", "--level", "word", "--words", "spaces", "--quiet"]
    program = [sys.executable, "-m", "bertkit.cli", *command(checkpoint, tmp_path, *options, output="killed")]
    run = subprocess.Popen(program)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "features-00010.npy").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    with pytest.raises(ValueError, match="killed is not finished; start the `bertkit features` that began it again"):
        open_features(tmp_path / "killed")
    (tmp_path / "killed" / ".features-00099.npy.1.tmp").write_bytes(b"half of it")
    first = tmp_path / "killed" / "features-00003.npy"
    written = first.stat().st_mtime_ns
    assert main(command(checkpoint, tmp_path, *options, output="killed")) == 0
    assert first.stat().st_mtime_ns == written
    assert main(command(checkpoint, tmp_path, *options, output="unbroken")) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "unbroken")


def test_a_run_that_goes_on_counts_the_cut_texts_among_those_it_encoded(checkpoint, folder, caplog):
    options = ["--shard_rows", "7", "--max_length", "8", "--quiet"]
    assert main(command(checkpoint, folder, *options)) == 0
    (folder / "out" / "index.json").unlink()
    (folder / "out" / "features-00003.npy").unlink()  # the texts 21 to 27; one of them is long
    caplog.clear()
    assert main(command(checkpoint, folder, *options)) == 0
    assert " of 7 texts were cut to 8 tokens" in caplog.text


def test_shards_do_not_depend_on_how_many_processes_share_the_work(checkpoint, tokenizer, tmp_path):
    texts = [(text,) for text in TEXTS]
    extractor = FeatureExtractor(load_encoder(checkpoint), tokenizer)
    for name, processes in (("one", 1), ("three", 3)):
        writer = ShardWriter(tmp_path / name, extractor, examine(texts), {}, ShardSettings(shard_rows=4))
        writer.begin()
        for process in range(processes):
            writer.write(texts, process_index=process, num_processes=processes)
        writer.finish()
    assert content(tmp_path / "one") == content(tmp_path / "three") and len(content(tmp_path / "one")) == 10


def test_no_more_than_a_window_of_texts_is_read_ahead_of_what_is_written(checkpoint, tokenizer, tmp_path):
    read, ahead = 0, []

    def texts():
        nonlocal read
        for text in TEXTS:
            read += 1
            yield (text,)

    class Watched(ShardWriter):
        def _write_shard(self, number, vectors):
            ahead.append(read - 4 * number)
            super()._write_shard(number, vectors)

    extractor = FeatureExtractor(load_encoder(checkpoint), tokenizer)
    writer = Watched(tmp_path / "out", extractor, examine(texts()), {}, ShardSettings(shard_rows=4))
    writer.begin()
    read = 0
    writer.write(texts())
    assert len(ahead) == 8 and max(ahead) <= 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--layers", "0"], "was begun with layers -1, not 0; give the same, or another --output"),
        (["--dtype", "float16"], "was begun with dtype 'float32', not 'float16'"),
        (["--shard_rows", "8"], "was begun with shard_rows 7, not 8"),
        ("texts", "was begun with other texts; give the same"),
        ("weights", "was begun with another checkpoint, or before this one was trained on; give the same"),
    ],
)
def test_what_changed_since_a_folder_was_begun_is_said_in_one_line(
    checkpoint, checkpoint_of, folder, capsys, change, message
):
    assert main(command(checkpoint, folder, "--shard_rows", "7", "--quiet")) == 0
    before = content(folder / "out")
    options = ["--shard_rows", "7", "--quiet"]
    if change == "texts":
        (folder / "in.txt").write_text("".join(f"{text}\n" for text in reversed(TEXTS)))
    elif change == "weights":
        checkpoint = checkpoint_of("gpt")
    else:
        options += change
    assert main(command(checkpoint, folder, *options)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and str(folder / "out") in line
    assert content(folder / "out") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "o.npz", "--shard_rows", "3"], "--shard_rows says nothing to one file"),
        (["--output", "o", "--shard_rows", "0"], "shard_rows is 0; give 1 or more"),
        (["--output", "full"], "full is not empty and holds no vectors; give another --output"),
        (["--output", "in.txt/"], "in.txt is a file; give another --output"),
        (["--output", "o", "--level", "word", "--pooling", "max"], "pooling says nothing to vectors of each word"),
    ],
)
def test_a_folder_that_cannot_be_is_refused_before_work(checkpoint, folder, monkeypatch, capsys, options, message):
    monkeypatch.chdir(folder)
    (folder / "full").mkdir()
    (folder / "full" / "something").touch()
    assert main(["features", str(checkpoint), "in.txt", *options, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(os.listdir(folder)) == ["full", "in.txt"]


def test_standard_input_goes_into_one_file_only(checkpoint, folder, capsys):
    assert main(["features", str(checkpoint), "-", "--output", f"{folder}/o"]) == 2
    assert "standard input cannot be read again" in capsys.readouterr().err


def test_a_wrong_line_at_the_end_is_told_before_the_first_shard(checkpoint, folder, capsys):
    with (folder / "in.txt").open("ab") as file:
        file.write(b"b\xffad\n")
    assert main(command(checkpoint, folder, "--quiet")) == 2
    assert "in.txt, line 31: not UTF-8" in capsys.readouterr().err and not (folder / "out").exists()


def test_what_is_no_folder_of_vectors_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no index\.json, so it is no folder of vectors"):
        open_features(tmp_path)


@pytest.mark.slow
def test_two_processes_write_the_shards_that_one_process_writes(checkpoint, folder):
    assert main(command(checkpoint, folder, "--shard_rows", "7", "--quiet")) == 0
    recipe = Path(__file__).parents[2] / "recipes" / "extract_features.py"
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(recipe)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    arguments = command(checkpoint, folder, "--shard_rows", "7", output="shared")[1:]
    run = subprocess.run([*program, *arguments], env=environment, check=True, capture_output=True, text=True)
    assert run.stdout.count("30 vectors of 32 numbers") == 1
    assert content(folder / "shared") == content(folder / "out")
