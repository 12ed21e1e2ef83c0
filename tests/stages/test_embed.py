"""`bertkit embed`: from text to vectors that equal gensim's, and to a checkpoint that plain Auto classes load."""

import re
import unicodedata

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from bertkit.cli import main
from bertkit.config import load_yaml
from bertkit.embeddings.word_vectors import WordVectors
from bertkit.embeddings.words import VocabularyArguments, train_word_tokenizer
from bertkit.tokenization import SPECIAL_TOKENS, TokenizerArguments, save_tokenizer, train_tokenizer

FAST = {"word2vec": ["--word2vec.vector_size", "12", "--word2vec.epochs", "2"],
        "glove": ["--glove.vector_size", "12", "--glove.epochs", "3"]}  # fmt: skip


def embed(*arguments):
    return main(["embed", *map(str, arguments), "--quiet"])


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text with capitals, apostrophes, marks and rare words."""
    generator = np.random.default_rng(0)
    words = ["The", "don't", "café", "cafe\u0301", "소식을", "x2", "sea", "ship", "ships", "Ahab"]
    lines = []
    for number in range(300):
        chosen = generator.choice(words, generator.integers(3, 12)).tolist()
        lines.append(" ".join(chosen) + f" — rare{number}!" + ("\n" if number % 7 == 0 else ""))
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def plain_words(path):
    """The lines of a text as lists of words, without any code of bertkit's or a tokenizer's."""
    lines = unicodedata.normalize("NFC", path.read_text(encoding="utf-8")).lower().splitlines()
    return [re.findall(r"[^\W_]+(?:['’][^\W_]+)*", line) for line in lines if line.strip()]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {"sg": 1, "hs": 0, "negative": 5}),
        (["--word2vec.architecture", "cbow"], {"sg": 0, "hs": 0, "negative": 5}),
        (
            ["--word2vec.loss", "hierarchical_softmax", "--word2vec.window", 3],
            {"sg": 1, "hs": 1, "negative": 0, "window": 3},
        ),
        (
            ["--word2vec.subsampling", 0, "--word2vec.seed", 5, "--word2vec.negative", 2],
            {"sg": 1, "sample": 0, "seed": 5, "negative": 2},
        ),
    ],
)
def test_word2vec_equals_gensim_called_directly(text, tmp_path, options, settings):
    from gensim.models import Word2Vec

    assert embed("--data.train", text, "--output", tmp_path / "out", *FAST["word2vec"], *options) == 0
    ours = WordVectors.load(tmp_path / "out" / "vectors.txt")
    theirs = Word2Vec(plain_words(text), vector_size=12, epochs=2, min_count=5, workers=1, **{"seed": 1, **settings}).wv
    assert ours.words == theirs.index_to_key and not any(word.startswith("rare") for word in ours.words)
    assert np.array_equal(ours.vectors, theirs.vectors)


@pytest.mark.parametrize("method", FAST)
def test_a_checkpoint_loads_through_plain_auto_classes_and_has_the_vectors(text, tmp_path, method):
    folder = tmp_path / "out"
    assert embed("--data.train", text, "--output", folder, "--method", method, *FAST[method]) == 0
    tokenizer, vectors = AutoTokenizer.from_pretrained(folder), WordVectors.load(folder / "vectors.txt")
    model = AutoModel.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(range(5)) == list(SPECIAL_TOKENS.values())
    states = model(**tokenizer("the sea, don't Cafe\u0301 unheardof", return_tensors="pt")).last_hidden_state[0]
    zeros = np.zeros(12)  # of [CLS] and [UNK]
    expected = [zeros, *(vectors[word] for word in ("the", "sea", "don't", "café")), zeros]
    torch.testing.assert_close(states, torch.tensor(np.array(expected), dtype=torch.float32))
    assert set(vectors.words) == {"the", "don't", "café", "소식을", "x2", "sea", "ship", "ships", "ahab"}
    assert load_yaml(folder / "recipe.yaml")["method"] == method
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert method in card and str(tmp_path) not in card and f"train: {text.name}" in card
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing is left beside it


def test_features_are_means_of_vectors_and_a_text_without_a_word_has_zeros(text, tmp_path):
    from safetensors.numpy import load_file

    assert embed("--data.train", text, "--output", tmp_path / "out", *FAST["word2vec"]) == 0
    (tmp_path / "texts.txt").write_text("the sea\n\n!\n")
    features = [
        "features",
        tmp_path / "out",
        tmp_path / "texts.txt",
        "--output",
        tmp_path / "features.safetensors",
        "--quiet",
    ]
    assert main([*map(str, features)]) == 0
    [first, *empty] = next(iter(load_file(tmp_path / "features.safetensors").values()))
    vectors = WordVectors.load(tmp_path / "out" / "vectors.txt")
    np.testing.assert_allclose(first, (vectors["the"] + vectors["sea"]) / 3, rtol=1e-6)  # [CLS] is counted
    assert np.array_equal(empty, np.zeros((2, 12)))


def test_words_keep_their_case_where_asked_and_the_most_frequent_stay(text, tmp_path):
    options = ["--vocabulary.lowercase", "false", "--vocabulary.max_words", 4, "--format", "word2vec_binary"]
    assert embed("--data.train", text, "--output", tmp_path / "out", *FAST["word2vec"], *options) == 0
    vectors = WordVectors.load(tmp_path / "out" / "vectors.bin")
    assert len(vectors) == 4 and "café" in vectors  # spelled in two ways, so the most frequent
    assert "the" not in vectors and len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 9


@pytest.mark.parametrize("method", FAST)
def test_pieces_of_a_tokenizer_get_vectors_by_its_ids(corpus_file, tmp_path, method):
    folder, tokenizer_folder = tmp_path / "out", tmp_path / "tokenizer"
    documents = [corpus_file.read_text().splitlines()]
    pieces = train_tokenizer(documents, TokenizerArguments(vocab_size=80, min_frequency=1), quiet=True)
    save_tokenizer(pieces, tokenizer_folder)
    options = ["--tokenizer", tokenizer_folder, f"--{method}.min_count", 50, "--format", "glove"]
    assert embed("--data.train", corpus_file, "--output", folder, "--method", method, *FAST[method], *options) == 0
    tokenizer, vectors = AutoTokenizer.from_pretrained(folder), WordVectors.load(folder / "vectors.txt")
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(tokenizer_folder).get_vocab()
    assert any(word.startswith("##") for word in vectors.words)
    table = AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach().numpy()
    assert len(table) == len(tokenizer) == 80
    for token, number in tokenizer.get_vocab().items():
        assert np.array_equal(table[number], vectors[token] if token in vectors else np.zeros(12))
    ids = tokenizer(corpus_file.read_text().splitlines(), add_special_tokens=False)["input_ids"]
    counts = np.bincount(np.concatenate(ids).astype(int), minlength=80)
    assert {tokenizer.convert_ids_to_tokens(int(number)) for number in np.flatnonzero(counts >= 50)} == set(
        vectors.words
    )


def test_the_same_recipe_gives_the_same_vectors(text, tmp_path):
    for method in FAST:
        written = []
        for name in ("first", "second"):
            folder = tmp_path / f"{method}-{name}"
            assert embed("--data.train", text, "--output", folder, "--method", method, *FAST[method]) == 0
            written.append((folder / "vectors.txt").read_bytes())
        assert written[0] == written[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "fasttext"], "unknown method 'fasttext'; choose from word2vec, glove"),
        (["--glove.window", 5], "unknown option --glove.window; did you mean --word2vec.window?"),
        (["--word2vec.window", 0], "word2vec.window is 0; it must be at least 1"),
        (["--word2vec.min_count", 10**6], "no word of the text occurs 1000000 times"),
        (["--data.train", "nowhere.txt"], "no file, folder or glob nowhere.txt"),
        (["--tokenizer", "nowhere/at/all"], "there is no tokenizer folder 'nowhere/at/all'"),
        (["--tokenizer", "bert", "--vocabulary.lowercase", "true"], "--tokenizer decides what the tokens are"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text, tmp_path, capsys, options, message):
    assert embed("--data.train", text, "--output", tmp_path / "out", *options) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bertkit embed: ") and message in line
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_is_left_alone(text, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert embed("--data.train", text, "--output", tmp_path / "out") == 2
    assert "is there already; give a new folder as --output" in capsys.readouterr().err


def test_without_gensim_word2vec_says_how_to_get_it(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert embed("--data.train", text, "--output", tmp_path / "out") == 2
    assert "pip install 'bertkit[embed]'" in capsys.readouterr().err


def test_a_word_tokenizer_cuts_as_its_help_says():
    tokenizer = train_word_tokenizer(
        [["Don't stop-now, l’été d'Ahab's 3rd 'quoted' under_score e\u0301tude Ⅳ"]],
        VocabularyArguments(),
        min_count=1,
        quiet=True,
    )
    words = ["don't", "stop", "now", "l’été", "d'ahab's", "3rd", "quoted", "under", "score", "étude", "ⅳ"]
    assert sorted(tokenizer.get_vocab().keys() - set(SPECIAL_TOKENS.values())) == sorted(words)
    assert tokenizer.tokenize("DON'T stop-now!") == ["don't", "stop", "now"]
