import codecs
import gzip
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.errors import DataError
from bertkit.data.readers import END_OF_DOCUMENT

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\n\0\ufeff")
PARAGRAPHS = st.text(CHARACTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
DOCUMENTS = st.lists(st.lists(PARAGRAPHS, min_size=1, max_size=3), min_size=1, max_size=5)
ONE_LINE_DOCUMENTS = st.lists(PARAGRAPHS.map(lambda paragraph: [paragraph]), min_size=1, max_size=5)

COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def load(source, **settings):
    source = [str(path) for path in source] if isinstance(source, list) else str(source)
    arguments = DataArguments(train=source, **settings)
    return load_documents(source, arguments)


def blank_line_text(documents):
    return "\n\n".join("\n".join(document) for document in documents).encode()


def json_lines(documents):
    return "".join(json.dumps({"text": "\n".join(document)}) + "\n" for document in documents).encode()


def parquet(documents, column="text"):
    sink = pyarrow.BufferOutputStream()
    texts = ["\n".join(document) for document in documents]
    pyarrow.parquet.write_table(pyarrow.table({"id": list(range(len(texts))), column: texts}), sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


FORMS = {".txt": blank_line_text, ".jsonl": json_lines, ".json": json_lines, ".parquet": parquet, "": blank_line_text}


def write_documents(folder, documents, form=".txt", compression="", stem="corpus"):
    path = Path(folder) / f"{stem}{form}{compression}"
    path.write_bytes(COMPRESS[compression](FORMS[form](documents)))
    return path


# What is written comes back.


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(documents=DOCUMENTS)
def test_documents_come_back_equal_twice_and_all_bytes_are_counted(form, compression, documents):
    with tempfile.TemporaryDirectory() as folder:
        path = write_documents(folder, documents, form, compression)
        loaded = load(path)
        assert list(loaded) == documents
        assert list(loaded) == documents
        assert loaded.bytes_read == loaded.num_bytes == path.stat().st_size


@settings(max_examples=50, deadline=None)
@given(documents=ONE_LINE_DOCUMENTS, line_end=st.sampled_from(["\n", "\r\n"]), last=st.booleans())
def test_line_documents_come_back_for_every_line_end(documents, line_end, last):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_bytes((line_end.join(document[0] for document in documents) + line_end * last).encode())
        assert list(load(path, documents="line")) == documents
        assert list(load(path, documents="file")) == [[paragraph for document in documents for paragraph in document]]


def test_byte_order_mark_crlf_and_surplus_blank_lines_are_dropped(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"\r\n\r\n one \r\ntwo\r\n \t \r\n\r\nthree")
    assert list(load(path)) == [["one", "two"], ["three"]]


def test_lines_of_a_record_are_paragraphs_and_records_without_text_are_no_documents(tmp_path):
    path = tmp_path / "records.jsonl"
    records = [{"body": "one\r\n\n two "}, {"body": None}, {"body": " \n"}, {"body": "three"}]
    path.write_text("\n".join(json.dumps(record) for record in records))
    assert list(load(path, text_column="body")) == [["one", "two"], ["three"]]


def test_a_folder_is_read_recursively_in_sorted_order_without_hidden_or_foreign_files(tmp_path):
    for name in ("b.txt", "a/z.jsonl", "a/b/c.parquet", ".hidden.txt", ".git/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FORMS[path.suffix]([[name]]))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    assert list(load(tmp_path)) == [["a/b/c.parquet"], ["a/z.jsonl"], ["b.txt"]]


def test_globs_and_lists_are_read_in_the_order_given_and_matches_sorted(tmp_path):
    for name in ("b", "a", "c"):
        write_documents(tmp_path, [[name]], stem=name)
    assert list(load([tmp_path / "c.txt", tmp_path / "[ab].txt"])) == [["c"], ["a"], ["b"]]
    assert list(load(tmp_path / "**" / "*.txt")) == [["a"], ["b"], ["c"]]


def test_documents_end_with_their_file(tmp_path):
    for name in ("a", "b"):
        write_documents(tmp_path, [[name]], stem=name)
    assert list(load(tmp_path, documents="blank_line")) == [["a"], ["b"]]


def test_bytes_are_counted_anew_in_each_iteration(tmp_path):
    paths = [write_documents(tmp_path, [["one"]], stem=name) for name in ("a", "b")]
    loaded = load(paths)
    for _ in range(2):
        assert [loaded.bytes_read for _ in loaded] == [3, 6]


def test_several_gzip_members_and_zstd_frames_are_read_to_the_last(tmp_path):
    for compression in (".gz", ".zst"):
        path = tmp_path / f"parts.txt{compression}"
        path.write_bytes(b"".join(COMPRESS[compression](f"{part}\n\n".encode()) for part in ("one", "two", "")))
        assert list(load(path)) == [["one"], ["two"]]


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_document_larger_than_memory_is_read_paragraph_by_paragraph(tmp_path, compression):
    path = write_documents(tmp_path, [[f"line {number} {'x' * 80}" for number in range(20_000)]], ".txt", compression)
    loaded = load(path, documents="file")
    tracemalloc.start()
    num_ends = sum(paragraph is END_OF_DOCUMENT for paragraph in loaded.paragraphs())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_ends == 1
    assert peak < 1_000_000  # the text is 1.8 MB, and nearly twice that as a list of strings


# Bad input is one line that names the place and the remedy.

BAD_FILES = {
    "utf16.txt": ("text".encode("utf-16"), ["is UTF-16", "iconv -f UTF-16 -t UTF-8"]),
    "utf32.jsonl": ("text".encode("utf-32"), ["is UTF-32", "iconv"]),
    "utf16le.txt": ("text".encode("utf-16-le"), ["line 1", "NUL", "UTF-16"]),
    "latin.txt": ("gut\n\nsch\u00f6n".encode("latin-1"), ["line 3", "byte 4 is not UTF-8", "iconv"]),
    "nul.txt": (b"one\ntwo\0\n", ["line 2", "NUL"]),
    "empty.txt": (b"", ["no text"]),
    "blank.txt": (codecs.BOM_UTF8 + b" \n\n", ["no text"]),
    "list.json": (b'[\n{"text": "one"}\n]', ["line 1", "not JSON", "one JSON object a line"]),
    "number.jsonl": (b'{"text": "one"}\n5', ["line 2", "not an object"]),
    "half.jsonl": (b'{"text": "one"}\n{"text": "tw', ["line 2, column 10", "not JSON"]),
    "column.jsonl": (b'{"body": "one", "id": 5}', ["line 1", "no column 'text'", "body, id", "data.text_column"]),
    "type.jsonl": (b'{"text": ["one"]}', ["line 1", "holds list, not text"]),
    "nul.jsonl": (b'{"text": "a\\u0000"}', ["line 1", "NUL"]),
    "surrogate.jsonl": (b'{"text": "a\\ud83d"}', ["line 1", "surrogate"]),
    "column.parquet": (parquet([["one"]], column="body"), ["no column 'text'", "id, body", "data.text_column"]),
    "text.parquet": (b"one", ["cannot be read as parquet"]),
    "half.parquet": (parquet([["one"]])[:-100], ["cannot be read as parquet"]),
    "half.txt.gz": (gzip.compress(os.urandom(9).hex().encode() * 99)[:-20], ["cannot be read", "ended before"]),
    "half.txt.zst": (zstandard.compress(b"one\n" * 99_999)[:-5], ["cannot be read", "ended before"]),
    "plain.txt.gz": (b"one", ["cannot be read", "gzip"]),
    "plain.txt.zst": (b"one two three four", ["cannot be read"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_in_one_line_that_names_it(tmp_path, name):
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        list(load(tmp_path / name))
    message = str(error.value)
    assert "\n" not in message
    for word in [str(tmp_path / name), *words]:
        assert word in message


def test_text_that_is_not_utf8_inside_parquet_is_refused_with_its_row(tmp_path):
    strings = pyarrow.array([b"one", b"\xff"]).cast(pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": strings}), tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"bad.parquet, row 2: column 'text' is not UTF-8"):
        list(load(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    "source, words",
    [
        ("missing.txt", "no file, folder or glob missing.txt"),
        ("folder/missing", "no file, folder or glob folder/missing"),
        ("*.text", "no file matches"),
        ("folder", "the folder folder has no file of a known form"),
        ("hub:a:b:c", "write hub:name"),
        ([], "no text is named"),
    ],
)
def test_source_that_is_not_there_is_refused_without_asking_the_network(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(DataError, match=words):
        load(source)


@pytest.mark.parametrize(
    "setting",
    [{"documents": "page"}, {"sentences": "word"}, {"eval_fraction": 1.0}, {"num_workers": 0}, {"language": "german"}],
)
def test_setting_outside_its_choices_is_refused_by_name(setting):
    with pytest.raises(ValueError, match=f"data.{next(iter(setting))}"):
        DataArguments(train="x", **setting)


# Fingerprints.


def test_fingerprint_follows_the_content_and_not_the_clock(tmp_path):
    path = write_documents(tmp_path, [["one"], ["two"]])
    before = load(path).fingerprint()
    os.utime(path, (1, 1))
    assert load(path).fingerprint() == before
    stamp = path.stat()
    path.write_bytes(path.read_bytes().replace(b"two", b"twa"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert load(path).fingerprint() != before


def test_fingerprint_follows_the_settings_that_change_what_comes_out(tmp_path):
    text, records = write_documents(tmp_path, [["one"]]), write_documents(tmp_path, [["one"]], ".jsonl")
    assert len({load(text, documents=mode).fingerprint() for mode in ("blank_line", "file", "line")}) == 3
    assert load(text, text_column="body").fingerprint() == load(text).fingerprint()
    assert load(records, documents="line").fingerprint() == load(records).fingerprint()
    assert load(records, text_column="body").fingerprint() != load(records).fingerprint()
    assert load([text, records]).fingerprint() != load([records, text]).fingerprint()


# Held-out documents.


@settings(max_examples=60, deadline=None)
@given(num=st.integers(2, 150), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**31))
def test_each_document_goes_to_exactly_one_part_in_order_and_no_part_is_empty(num, fraction, seed):
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(write_documents(folder, [[str(number), "x"] for number in range(num)]))
        parts = {part: list(loaded.held_out(fraction, seed, part)) for part in ("train", "eval")}
        numbers = {part: [int(document[0]) for document in documents] for part, documents in parts.items()}
        assert sorted(numbers["train"] + numbers["eval"]) == list(range(num))
        for part, documents in parts.items():
            assert documents and numbers[part] == sorted(numbers[part])
            assert all(document[1:] == ["x"] for document in documents)
            assert list(loaded.held_out(fraction, seed, part)) == documents


def test_the_held_out_share_is_the_fraction_and_another_seed_holds_out_others(tmp_path):
    loaded = load(write_documents(tmp_path, [[str(number)] for number in range(5000)]))
    first, second = (list(loaded.held_out(0.1, seed, "eval")) for seed in (0, 1))
    assert 400 < len(first) < 600
    assert first != second


def test_documents_added_at_the_end_move_no_other_document(tmp_path):
    short = load(write_documents(tmp_path, [[str(number)] for number in range(500)], stem="short"))
    long = load(write_documents(tmp_path, [[str(number)] for number in range(900)], stem="long"))
    held_out = list(short.held_out(0.1, 7, "eval"))
    assert list(long.held_out(0.1, 7, "eval"))[: len(held_out)] == held_out


def test_parts_have_fingerprints_of_their_own(tmp_path):
    loaded = load(write_documents(tmp_path, [[str(number)] for number in range(500)]))
    parts = [(0.1, 0, "eval"), (0.1, 0, "train"), (0.1, 1, "eval"), (0.2, 0, "eval")]
    assert len({loaded.fingerprint(), *(loaded.held_out(*part).fingerprint() for part in parts)}) == 5


def test_a_single_document_cannot_be_held_out(tmp_path):
    loaded = load(write_documents(tmp_path, [["one", "two"]]))
    with pytest.raises(DataError, match=r"one document.*give data\.eval"):
        loaded.held_out(0.5, 0, "train")
    with pytest.raises(DataError, match="between 0 and 1"):
        loaded.held_out(1.0, 0, "train")
    with pytest.raises(DataError, match="'test'; choose from train, eval"):
        loaded.held_out(0.5, 0, "test")


# Datasets.


@pytest.fixture
def dataset_folder(tmp_path):
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    for split, texts in {"train": [["one", "two"], ["three"]], "test": [["four"]]}.items():
        (folder / "data" / f"{split}-00000-of-00001.parquet").write_bytes(parquet(texts))
    return folder


def test_a_dataset_folder_is_read_by_split(dataset_folder):
    assert list(load(f"hub:{dataset_folder}")) == [["one", "two"], ["three"]]
    assert list(load(f"hub:{dataset_folder}@test")) == [["four"]]
    assert load(f"hub:{dataset_folder}").num_bytes is None


def test_fingerprint_of_a_dataset_folder_follows_its_content_and_split(dataset_folder):
    before = load(f"hub:{dataset_folder}").fingerprint()
    file = dataset_folder / "data" / "train-00000-of-00001.parquet"
    os.utime(file, (1, 1))
    assert load(f"hub:{dataset_folder}").fingerprint() == before
    assert load(f"hub:{dataset_folder}@test").fingerprint() != before
    file.write_bytes(parquet([["one", "two"], ["five!"]]))
    os.utime(file, (1, 1))
    assert load(f"hub:{dataset_folder}").fingerprint() != before
    assert list(load(f"hub:{dataset_folder}")) == [["one", "two"], ["five!"]]


def test_missing_split_and_column_of_a_dataset_are_refused_by_name(dataset_folder):
    with pytest.raises(DataError, match=r"^the dataset hub:.*@dev cannot be read: .*train"):
        load(f"hub:{dataset_folder}@dev")
    with pytest.raises(DataError, match=r"no column 'body'.* id, text"):
        list(load(f"hub:{dataset_folder}", text_column="body"))


class HubBuilder:
    """What `datasets.load_dataset_builder` returns, without the Hub."""

    hash = "0123abcd"  # the commit
    prepared = 0

    def __init__(self, path, config):
        assert (path, config) == ("owner/name", "en")

    def dataset(self, split):
        import datasets

        return datasets.Dataset.from_dict({"text": {"train": ["one\ntwo", "three"], "test": ["four"]}[split]})

    def download_and_prepare(self):
        HubBuilder.prepared += 1

    def as_dataset(self, split):
        return self.dataset(split)

    def as_streaming_dataset(self, split):
        return self.dataset(split).to_iterable_dataset()


def test_a_dataset_of_the_hub_is_the_same_downloaded_and_streamed(monkeypatch):
    monkeypatch.setattr("datasets.load_dataset_builder", HubBuilder)
    downloaded = load("hub:owner/name:en")
    assert HubBuilder.prepared == 1
    streamed = load("owner/name:en@train", streaming=True)
    assert HubBuilder.prepared == 1
    assert list(downloaded) == list(streamed) == list(streamed) == [["one", "two"], ["three"]]
    assert downloaded.fingerprint() == streamed.fingerprint()
    assert list(load("hub:owner/name:en@test")) == [["four"]]
    monkeypatch.setattr(HubBuilder, "hash", "another")
    assert load("hub:owner/name:en").fingerprint() != downloaded.fingerprint()


def test_a_dataset_that_cannot_be_reached_is_refused_in_one_line(monkeypatch):
    def unreachable(path, config):
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr("datasets.load_dataset_builder", unreachable)
    with pytest.raises(DataError, match=r"^there is no file or folder corpus, and the .*: Couldn't reach the Hub$"):
        load("corpus")


# Real text.


@pytest.mark.skipif("BERTKIT_DATA" not in os.environ, reason="BERTKIT_DATA is not set")
def test_korean_articles_come_out_whole():
    path = Path(os.environ["BERTKIT_DATA"], "pretrain_ko", "korquad_wiki_contexts.txt")
    documents = list(load(path))
    assert len(documents) == 140
    assert "\n\n".join("\n".join(document) for document in documents) == path.read_text(encoding="utf-8").strip()


def test_reading_text_imports_no_heavy_library(tmp_path):
    path = write_documents(tmp_path, [["one"]])
    code = (
        "import sys; from bertkit.data.arguments import DataArguments; from bertkit.data.documents import *; "
        f"list(load_documents({str(path)!r}, DataArguments(train='x'))); "
        "print(sorted({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.98])
def test_of_few_documents_each_part_has_two_where_there_are_four(tmp_path, count, fraction):
    loaded = load(write_documents(tmp_path, [[f"Document {number}."] for number in range(count)]))
    parts = [list(loaded.held_out(fraction, 0, part)) for part in ("train", "eval")]
    assert sum(map(len, parts)) == count
    assert min(map(len, parts)) >= (2 if count >= 4 else 1)
