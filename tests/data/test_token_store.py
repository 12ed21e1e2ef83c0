import json
import math
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from bertkit.data import encoding
from bertkit.data.arguments import DataArguments
from bertkit.data.documents import Documents, load_documents
from bertkit.data.encoding import MAX_PARAGRAPH_CHARACTERS
from bertkit.data.errors import DataError
from bertkit.data.sentences import split_sentences
from bertkit.data.token_store import TokenStore

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
TEXT = [
    "It was a bright cold day. The clocks were striking thirteen!",
    "Hello [MASK] there, Mr. Smith. [SEP] is no word.",
    "안녕하세요. 저는 학생입니다.",
]


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    backend.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)


def word_tokenizer(vocab, **special_tokens):
    """A tokenizer whose tokens are the words between spaces."""
    backend = Tokenizer(models.WordLevel(vocab, unk_token=special_tokens.get("unk_token")))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens)


def write_text(folder, documents, name="corpus.txt"):
    path = Path(folder) / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("\n\n".join("\n".join(document) for document in documents), encoding="utf-8")
    return path


def build(path, tokenizer, cache_dir, **settings):
    quiet = settings.pop("quiet", True)
    arguments = DataArguments(train=str(path), cache_dir=str(cache_dir), **settings)
    return TokenStore.build(load_documents(arguments.train, arguments), tokenizer, arguments, quiet=quiet)


def entries(cache_dir):
    return sorted(path.name for path in (Path(cache_dir) / "stores").iterdir())


def store_bytes(store):
    return {file.name: file.read_bytes() for file in store.path.iterdir()}


def expected_store(documents, tokenizer, mode):
    """What a store holds, computed a sentence at a time."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    token_ids, sentence_starts, document_starts, kept = [], [0], [0], []
    for document in documents:
        for sentence in split_sentences(document, mode=mode, language="en"):
            ids = backend.encode(sentence, add_special_tokens=False).ids
            if ids:
                token_ids += ids
                sentence_starts.append(len(token_ids))
                kept.append(sentence)
        if len(token_ids) > document_starts[-1]:
            document_starts.append(len(token_ids))
    return token_ids, sentence_starts, document_starts, kept


# What is in a store.

# U+200D is a character of which the tokenizer makes no token, so that sentences and documents come out empty.
WORDS = st.sampled_from(["It", "was.", "day!", "Mr.", "zebra", "[MASK]", "[SEP]", "안녕하세요.", "\u200d", "cold"])
PARAGRAPHS = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
DOCUMENTS = st.lists(st.lists(PARAGRAPHS, min_size=1, max_size=4), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(documents=DOCUMENTS, chunk_characters=st.integers(1, 80), mode=st.sampled_from(["split", "line"]))
def test_every_sentence_holds_the_tokens_it_has_alone_wherever_chunks_are_cut(
    tokenizer, documents, chunk_characters, mode
):
    documents = [["cold day"], *documents]
    token_ids, sentence_starts, document_starts, kept = expected_store(documents, tokenizer, mode)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "CHUNK_CHARACTERS", chunk_characters)
        store = build(write_text(folder, documents), tokenizer, folder, sentences=mode, num_workers=1)
        assert store.token_ids.tolist() == token_ids
        assert store.sentence_starts.tolist() == sentence_starts
        assert store.document_starts.tolist() == document_starts
        assert store.token_counts.tolist() == np.bincount(token_ids, minlength=len(tokenizer)).tolist()
        sizes = store.metadata
        assert sizes.num_tokens == len(token_ids)
        assert sizes.num_sentences == len(sentence_starts) - 1
        assert sizes.num_documents == len(document_starts) - 1
        assert sizes.num_words == sum(len(sentence.split()) for sentence in kept)
        assert sizes.num_bytes == sum(len(sentence.encode()) for sentence in kept)
        expected_bytes = [len(" ".join(sentence.split()).encode()) + 1 for sentence in kept]
        assert store.sentence_bytes.tolist() == expected_bytes
        assert sizes.num_normalised_bytes == sum(expected_bytes)
        assert sizes.num_unknown == token_ids.count(tokenizer.unk_token_id)
        assert sizes.vocab_size == len(tokenizer)


def test_lengths_are_the_distances_of_the_boundaries(tokenizer, tmp_path):
    store = build(write_text(tmp_path, [["It was. It was cold."], ["It."]]), tokenizer, tmp_path)
    assert store.document_lengths.tolist() == np.diff(store.document_starts).tolist()
    assert store.sentence_lengths.tolist() == np.diff(store.sentence_starts).tolist()
    assert store.document_lengths.sum() == store.sentence_lengths.sum() == len(store.token_ids)
    assert set(store.document_starts) <= set(store.sentence_starts)


def test_text_that_spells_a_special_token_does_not_become_one(tokenizer, tmp_path):
    store = build(write_text(tmp_path, [[TEXT[1]]]), tokenizer, tmp_path)
    assert not store.token_counts[[tokenizer.mask_token_id, tokenizer.sep_token_id]].any()


def test_text_that_the_tokenizer_cannot_tell_from_a_special_token_is_refused(tmp_path):
    tokenizer = word_tokenizer({"[UNK]": 0, "[SEP]": 1}, unk_token="[UNK]", sep_token="[SEP]")
    with pytest.raises(DataError, match=r"holds \[SEP\], which the tokenizer takes for its special token"):
        build(write_text(tmp_path, [["one [SEP] two"]]), tokenizer, tmp_path, sentences="line")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("vocab_size, dtype", [(65_536, np.uint16), (65_537, np.uint32)])
def test_the_last_id_of_a_large_vocabulary_fits(tmp_path, vocab_size, dtype):
    tokenizer = word_tokenizer({str(number): number for number in range(vocab_size)}, unk_token="0")
    store = build(write_text(tmp_path, [[f"1 {vocab_size - 1}"]]), tokenizer, tmp_path)
    assert store.token_ids.dtype == dtype
    assert store.token_ids.tolist() == [1, vocab_size - 1]
    assert store.token_counts.shape == (vocab_size,)


def test_unigram_entropy_of_equally_frequent_tokens_is_the_logarithm_of_their_number(tmp_path):
    tokenizer = word_tokenizer({"[UNK]": 0, "a": 1, "b": 2, "c": 3, "d": 4}, unk_token="[UNK]")
    store = build(write_text(tmp_path, [["a b c", "c b a"]]), tokenizer, tmp_path)
    assert store.unigram_entropy() == pytest.approx(math.log(3))
    store = build(write_text(tmp_path, [["a a a b"]]), tokenizer, tmp_path)
    assert store.unigram_entropy() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_bytes_of_normalised_text_do_not_depend_on_the_tokenizer(tmp_path):
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for normalizer in (normalizers.NFC(), normalizers.BertNormalizer(lowercase=True)):
        backend.normalizer = normalizer
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
        store = build(write_text(tmp_path, [["A\u0308 und  我爱你 안녕", "b"]]), tokenizer, tmp_path, sentences="line")
        assert store.sentence_bytes.tolist() == [2 + 1 + 3 + 1 + 9 + 1 + 6 + 1, 2]
        assert store.bytes_per_token * store.metadata.num_tokens == 26


def test_truncation_and_padding_of_the_tokenizer_do_not_touch_the_store(tokenizer, tmp_path):
    path = write_text(tmp_path, [[TEXT[0]]])
    plain = store_bytes(build(path, tokenizer, tmp_path / "plain"))
    limited = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **SPECIAL_TOKENS)
    limited.backend_tokenizer.enable_truncation(3)
    limited.backend_tokenizer.enable_padding(length=64)
    assert store_bytes(build(path, limited, tmp_path / "limited")) == plain
    assert limited.backend_tokenizer.truncation["max_length"] == 3  # and building leaves them as they were


def test_a_tokenizer_without_tokenizers_behind_it_is_refused_by_name(tmp_path):
    class SlowTokenizer:
        unk_token_id = 0

    with pytest.raises(DataError, match=r"SlowTokenizer is no fast tokenizer; load one that has a tokenizer\.json"):
        build(write_text(tmp_path, [TEXT]), SlowTokenizer(), tmp_path)


def test_a_very_long_line_is_cut_at_a_space(tmp_path):
    tokenizer = word_tokenizer({"[UNK]": 0, "wordless": 1}, unk_token="[UNK]")
    num_words = 3 * MAX_PARAGRAPH_CHARACTERS // 9 + 1
    path = write_text(tmp_path, [["wordless " * num_words]])
    for mode in ("line", "split"):
        store = build(path, tokenizer, tmp_path, sentences=mode)
        assert store.metadata.num_unknown == 0  # no word was torn
        assert store.metadata.num_tokens == num_words
        assert store.metadata.num_documents == 1
        assert store.sentence_lengths.max() * 9 <= MAX_PARAGRAPH_CHARACTERS


# Workers.


@pytest.fixture
def started_workers(monkeypatch):
    """How many workers each pool was started with."""
    started = []

    def start(num_workers, *arguments):
        started.append(num_workers)
        return ProcessPoolExecutor(num_workers, *arguments)

    monkeypatch.setattr(encoding, "ProcessPoolExecutor", start)
    return started


def test_store_is_the_same_to_the_byte_for_any_number_of_workers(tokenizer, tmp_path, monkeypatch, started_workers):
    monkeypatch.setattr(encoding, "CHUNK_CHARACTERS", 500)
    path = write_text(tmp_path, [TEXT * 3 + [f"{number} was cold."] for number in range(50)])
    alone = build(path, tokenizer, tmp_path / "1", num_workers=1)
    assert started_workers == []
    together = build(path, tokenizer, tmp_path / "2", num_workers=2)
    assert started_workers == [2]
    assert store_bytes(alone) == store_bytes(together)
    assert alone.path.name == together.path.name


def test_a_small_corpus_starts_no_process(tokenizer, tmp_path, started_workers):
    build(write_text(tmp_path, [TEXT * 500]), tokenizer, tmp_path, num_workers=2)
    assert started_workers == []


def test_progress_is_shown_to_the_last_byte_and_not_when_quiet(tokenizer, tmp_path, capsys):
    path = write_text(tmp_path, [TEXT])
    build(path, tokenizer, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    build(path, tokenizer, tmp_path / "shown", quiet=False)
    assert f"100%|██████████| {path.stat().st_size}/{path.stat().st_size}" in capsys.readouterr().err


def test_error_in_a_worker_reaches_the_user_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_CHARACTERS", 10)
    path = write_text(tmp_path, [["known known"]] * 30 + [["strange"]])
    with pytest.raises(DataError, match=r"the tokenizer cannot encode the text near 'strange'.*") as error:
        build(path, word_tokenizer({"known": 0}), tmp_path, num_workers=2)
    assert "\n" not in str(error.value)
    assert entries(tmp_path) == []
    assert not any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process().children())


def test_error_in_the_text_reaches_the_user_and_leaves_nothing(tokenizer, tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"fine\n\xff\n")
    with pytest.raises(DataError, match="line 2: byte 1 is not UTF-8"):
        build(path, tokenizer, tmp_path)
    assert entries(tmp_path) == []


def test_corpus_without_a_token_is_refused(tokenizer, tmp_path):
    with pytest.raises(DataError, match="makes no token of the text in"):
        build(write_text(tmp_path, [["\u200d"]]), tokenizer, tmp_path)
    assert entries(tmp_path) == []


def test_workers_import_neither_torch_nor_transformers():
    code = "import sys, bertkit.data.token_store; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# Reuse.


def test_same_content_is_reused_and_said_so_in_one_line(tokenizer, tmp_path, capsys):
    path = write_text(tmp_path, [TEXT])
    first = build(path, tokenizer, tmp_path)
    stamp = (first.path / "token_ids.bin").stat().st_mtime_ns
    os.utime(path, (1, 1))
    capsys.readouterr()
    second = build(write_text(tmp_path / "elsewhere", [TEXT]), tokenizer, tmp_path, quiet=False)
    assert second.path == first.path
    assert (second.path / "token_ids.bin").stat().st_mtime_ns == stamp
    assert capsys.readouterr().err.splitlines() == [
        f"Reusing the tokenized text in {first.path} ({first.metadata.num_tokens} tokens)"
    ]
    build(path, tokenizer, tmp_path)
    assert capsys.readouterr() == ("", "")


def test_changed_text_tokenizer_or_sentences_build_another_store(tokenizer, tmp_path):
    path = write_text(tmp_path, [TEXT])
    other = word_tokenizer({"[UNK]": 0, "cold": 1}, unk_token="[UNK]")
    folders = {
        build(path, tokenizer, tmp_path).path,
        build(path, other, tmp_path).path,
        build(path, tokenizer, tmp_path, sentences="line").path,
        build(path, tokenizer, tmp_path, language="ko").path,
        build(write_text(tmp_path, [[TEXT[0] + "."]]), tokenizer, tmp_path).path,
    }
    assert len(folders) == 5 == len(entries(tmp_path))


def test_language_does_not_matter_where_nothing_is_split(tokenizer, tmp_path):
    path = write_text(tmp_path, [TEXT])
    stores = [build(path, tokenizer, tmp_path, sentences="line", language=language) for language in ("en", "ko")]
    assert stores[0].path == stores[1].path


def test_a_cache_that_cannot_be_written_to_is_one_line_that_names_it(tokenizer, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "corpus.txt").write_text("Some text.\n")
    arguments = DataArguments(train=str(tmp_path / "corpus.txt"), cache_dir=str(tmp_path / "file" / "cache"))
    with pytest.raises(
        DataError, match=r"cannot write to .*file/cache/stores.*: Not a directory; .* data\.cache_dir"
    ) as caught:
        TokenStore.build(load_documents(arguments.train, arguments), tokenizer, arguments)
    assert "\n" not in str(caught.value)


def test_cache_dir_falls_back_to_the_environment(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKIT_CACHE", str(tmp_path / "cache"))
    arguments = DataArguments(train=str(write_text(tmp_path, [TEXT])))
    store = TokenStore.build(load_documents(arguments.train, arguments), tokenizer, arguments, quiet=True)
    assert store.path.parent == tmp_path / "cache" / "stores"


def test_a_pickled_store_maps_the_same_files_and_carries_no_arrays(tokenizer, tmp_path):
    store = build(write_text(tmp_path, [TEXT * 500]), tokenizer, tmp_path)
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000 < store.token_ids.nbytes
    assert np.array_equal(pickle.loads(pickled).token_ids, store.token_ids)


# Damage, interruption, races.


@pytest.mark.parametrize("name", ["token_ids", "sentence_starts", "document_starts", "sentence_bytes", "token_counts"])
def test_a_file_of_the_wrong_size_is_named_and_the_store_built_anew(tokenizer, tmp_path, name, capsys):
    path = write_text(tmp_path, [TEXT])
    store = build(path, tokenizer, tmp_path)
    before = store_bytes(store)
    file = store.path / f"{name}.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{store.path} is damaged: {name}.bin has {len(before[file.name]) - 1} bytes"):
        TokenStore.open(store.path)
    assert store_bytes(build(path, tokenizer, tmp_path, quiet=False)) == before
    assert "is damaged" in capsys.readouterr().err
    assert entries(tmp_path) == [store.path.name]


def test_a_folder_that_is_no_store_or_of_another_version_is_refused(tokenizer, tmp_path):
    with pytest.raises(DataError, match=r"is no token store: its metadata\.json cannot be read"):
        TokenStore.open(tmp_path)
    store = build(write_text(tmp_path, [TEXT]), tokenizer, tmp_path)
    metadata = json.loads((store.path / "metadata.json").read_text())
    metadata["made_from"]["format_version"] = 99
    (store.path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=r"has format 99, not 2; build it anew"):
        TokenStore.open(store.path)


HANGING_BUILD = """
import sys, time
from bertkit.data import encoding
from bertkit.data.arguments import DataArguments
from bertkit.data.documents import Documents, load_documents
from bertkit.data.token_store import TokenStore

class Hanging(Documents):
    def paragraphs(self):
        for _ in range(8):
            yield from super().paragraphs()
        print("hanging", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    from transformers import PreTrainedTokenizerFast

    path, tokenizer, cache_dir = sys.argv[1:]
    encoding.CHUNK_CHARACTERS = 100
    arguments = DataArguments(train=path, cache_dir=cache_dir, num_workers=2)
    documents = load_documents(path, arguments)
    documents.__class__ = Hanging
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer, unk_token="[UNK]")
    TokenStore.build(documents, tokenizer, arguments, quiet=True)
"""


def test_a_killed_build_leaves_nothing_that_looks_whole_no_process_and_is_cleaned_up(tokenizer, tmp_path):
    path = write_text(tmp_path, [TEXT])
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "hanging.py").write_text(HANGING_BUILD)
    cache = tmp_path / "cache"
    command = [sys.executable, tmp_path / "hanging.py", path, tmp_path / "tokenizer.json", cache]
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "hanging\n"
        workers = psutil.Process(child.pid).children(recursive=True)
        child.kill()
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=20)[1]
    [leftover] = entries(cache)
    assert ".building-" in leftover
    with pytest.raises(DataError):
        TokenStore.open(cache / "stores" / leftover)
    store = build(path, tokenizer, cache)
    assert entries(cache) == [store.path.name]


def test_a_running_build_of_another_process_is_left_alone(tokenizer, tmp_path):
    stores = tmp_path / "stores"
    running = [stores / f"key.building-{socket.gethostname()}-{os.getppid()}", stores / "key.building-elsewhere-1"]
    for folder in running:
        folder.mkdir(parents=True)
    build(write_text(tmp_path, [TEXT]), tokenizer, tmp_path)
    assert all(folder.exists() for folder in running)


class Overtaken(Documents):
    """Documents during whose reading another process finishes the same store."""

    def paragraphs(self):
        yield from super().paragraphs()
        shutil.copytree(self.finished, self.stores / self.finished.name)


@pytest.mark.parametrize("damage", [False, True])
def test_of_two_builds_at_once_both_end_with_a_whole_store(tokenizer, tmp_path, damage):
    path = write_text(tmp_path, [TEXT])
    finished = build(path, tokenizer, tmp_path / "first")
    expected = store_bytes(finished)
    if damage:
        (finished.path / "token_ids.bin").write_bytes(b"")
    arguments = DataArguments(train=str(path), cache_dir=str(tmp_path / "second"))
    documents = load_documents(str(path), arguments)
    documents.__class__ = Overtaken
    documents.finished, documents.stores = finished.path, tmp_path / "second" / "stores"
    store = TokenStore.build(documents, tokenizer, arguments, quiet=True)
    assert store_bytes(store) == expected
    assert entries(tmp_path / "second") == [store.path.name]


def test_an_interrupt_ends_the_build_and_leaves_nothing(tokenizer, tmp_path):
    class Interrupted(Documents):
        def paragraphs(self):
            yield from super().paragraphs()
            raise KeyboardInterrupt

    arguments = DataArguments(train=str(write_text(tmp_path, [TEXT])), cache_dir=str(tmp_path))
    documents = load_documents(arguments.train, arguments)
    documents.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        TokenStore.build(documents, tokenizer, arguments, quiet=True)
    assert entries(tmp_path) == []


# Real text.


@pytest.mark.skipif("BERTKIT_DATA" not in os.environ, reason="BERTKIT_DATA is not set")
@pytest.mark.parametrize(
    "name, language", [("pretrain_ko/korquad_wiki_contexts.txt", "ko"), ("pretrain_en/inaugural.txt", "en")]
)
def test_sizes_of_real_text_are_those_of_the_file(tokenizer, tmp_path, name, language):
    path = Path(os.environ["BERTKIT_DATA"], name)
    store = build(path, tokenizer, tmp_path, language=language, num_workers=1)
    documents = list(load_documents(str(path), DataArguments(train="-")))
    sentences = [s for d in documents for s in split_sentences(d, mode="split", language=language)]
    assert store.metadata.num_documents == len(documents)
    assert store.metadata.num_sentences == len(sentences)
    assert store.metadata.num_words == len(" ".join(sentences).split())
    for number in range(0, len(sentences), 97):
        start, end = store.sentence_starts[number : number + 2]
        assert store.token_ids[start:end].tolist() == tokenizer(sentences[number], add_special_tokens=False).input_ids
