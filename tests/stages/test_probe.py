"""Probes read off what a layer holds and nothing else, and no part but the training one is learned from."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bertkit.cli import main
from bertkit.evaluation.probing import PENALTIES, fit_probe
from bertkit.features import extract_features, load_encoder
from bertkit.models import build_config, build_model
from bertkit.tokenization import load_tokenizer, save_tokenizer


def made_up(count, seed):
    """Vectors in which the label is the sign of one of many numbers, of another size than the rest."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 30)) * 50
    vectors[:, 7] /= 5000
    return vectors, [str(int(number > 0)) for number in vectors[:, 7]]


def test_a_label_that_is_in_the_vectors_is_found_and_one_that_is_not_is_not():
    parts = {
        name: made_up(count, seed)
        for seed, (name, count) in enumerate({"train": 600, "eval": 200, "test": 400}.items())
    }
    vectors = {name: part[0] for name, part in parts.items()}
    labels = {name: part[1] for name, part in parts.items()}
    assert fit_probe(vectors, labels).accuracy["test"] > 0.95
    without = {name: np.delete(array, 7, axis=1) for name, array in vectors.items()}
    assert 0.4 < fit_probe(without, labels).accuracy["test"] < 0.6


def test_the_penalty_is_the_best_on_the_evaluation_part_whatever_the_test_part_says():
    parts = {name: made_up(60, seed) for seed, name in enumerate(["train", "eval", "test"])}
    vectors = {name: part[0] for name, part in parts.items()}
    labels = {name: part[1] for name, part in parts.items()}
    scaler = StandardScaler().fit(vectors["train"])
    fitted = [
        LogisticRegression(C=c, max_iter=2000).fit(scaler.transform(vectors["train"]), labels["train"])
        for c in PENALTIES
    ]
    scores = [model.score(scaler.transform(vectors["eval"]), labels["eval"]) for model in fitted]
    found = fit_probe(vectors, labels)
    assert found.penalty == PENALTIES[int(np.argmax(scores))] and found.accuracy["eval"] == max(scores)
    assert len(set(scores)) > 1
    turned = {**labels, "test": [str(1 - int(label)) for label in labels["test"]]}
    again = fit_probe(vectors, turned)
    assert again.penalty == found.penalty and again.accuracy["test"] == pytest.approx(1 - found.accuracy["test"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer_folder):
    """A model whose embeddings tell which of its words a text has, and whose last layer has forgotten it."""
    folder = tmp_path_factory.mktemp("probed")
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tokenizer_folder)
    config = build_config(
        "rnn", vocab_size=len(tokenizer), embedding_size=16, hidden_size=16, num_hidden_layers=2, initializer_range=0.2
    )
    model = build_model(config, "AutoModel")
    for name, parameter in model.named_parameters():
        if name.startswith("layers.1."):
            torch.nn.init.zeros_(parameter)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture
def data(tmp_path):
    """Lines of label and text: the label is which of two words stands among others."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 120), ("test", 60)):
        lines = []
        for number in range(count):
            words = [*generator.choice(["ba", "do", "me"], size=5), "ki" if number % 2 else "lu"]
            lines.append(f"{'one' if number % 2 else 'other'} {' '.join(generator.permutation(words))}\n")
        (tmp_path / f"{part}.txt").write_text("".join(lines))
    return ["--data.train", f"{tmp_path}/train.txt", "--data.test", f"{tmp_path}/test.txt"]


def test_the_verb_tells_layers_apart_and_keeps_the_results(checkpoint, data, tmp_path, capsys):
    assert main(["probe", str(checkpoint), *data, "--output_dir", f"{tmp_path}/out", "--quiet"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    accuracy = {row["layer"]: row["accuracy"] for row in results["layers"]}
    assert list(accuracy) == [0, 1, 2, "mix"]
    assert accuracy[0]["test"] > 0.9 and accuracy[2]["test"] == results["majority"]["test"] == 0.5
    assert results["examples"] == {"train": 108, "eval": 12, "test": 60}
    table = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in table] == ["accuracy", "majority", "embeddings", "layer 1", "layer 2", "mix"]
    assert table[2].split()[-1] == f"{accuracy[0]['test']:.4f}"


def test_what_is_classified_are_the_vectors_of_the_layer(checkpoint, data, tmp_path, capsys):
    options = ["--layers", "[1,0]", "--pooling", "concat", "--data.eval", f"{tmp_path}/test.txt", "--quiet"]
    assert main(["probe", str(checkpoint), *data, *options, "--output_dir", f"{tmp_path}/out"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    texts, labels = {}, {}
    for part, file in (("train", "train"), ("eval", "test")):
        rows = [line.split(maxsplit=1) for line in (tmp_path / f"{file}.txt").read_text().splitlines()]
        labels[part], texts[part] = [label for label, _ in rows], [text for _, text in rows]
    model, tokenizer = load_encoder(checkpoint), load_tokenizer(checkpoint)
    for row in results["layers"]:
        vectors = {
            part: extract_features(model, tokenizer, some, layers=row["layer"], pooling="concat", quiet=True)
            for part, some in texts.items()
        }
        expected = fit_probe(vectors, labels)
        assert row["C"] == expected.penalty
        assert row["accuracy"]["test"] == pytest.approx(expected.accuracy["eval"], abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "[7]"], "layer 7 is out of range; the model has layers 0 (embeddings) to 2"),
        (["--layers", "[]"], "no layer is named"),
        (["--data.label_column", "x", "--data.train", "one.txt"], "all of data.train is labelled 'a'"),
    ],
)
def test_what_cannot_be_probed_is_one_line(checkpoint, data, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.txt").write_text("a x\na y\na z\n")
    assert main(["probe", str(checkpoint), *data, *options, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bertkit probe: ") and message in line
