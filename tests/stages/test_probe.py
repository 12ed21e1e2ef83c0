"""Probes read off what a layer holds and nothing else, and no part but the training one is learned from."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from bertkit.cli import main
from bertkit.evaluation.probing import CLASS_PENALTIES, NUMBER_PENALTIES, fit_probe
from bertkit.features import extract_features, extract_word_features, load_encoder
from bertkit.models import build_config, build_model
from bertkit.stages.finetuning.frozen_vectors import FrozenVectors
from bertkit.tasks.tagged_words import TaggedSentence
from bertkit.tokenization import load_tokenizer, save_tokenizer


def made_up(count, seed):
    """Vectors in which the label is the sign of one of many numbers, of another size than the rest."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 30)) * 50
    vectors[:, 7] /= 5000
    return vectors, (vectors[:, 7] > 0).astype(int)


def parts_of(**counts):
    parts = {name: made_up(count, seed) for seed, (name, count) in enumerate(counts.items())}
    return {name: part[0] for name, part in parts.items()}, {name: part[1] for name, part in parts.items()}


def right(labels, scores):
    return accuracy_score(labels, scores.argmax(-1))


def test_a_label_that_is_in_the_vectors_is_found_and_one_that_is_not_is_not():
    vectors, labels = parts_of(train=600, eval=200, test=400)
    fit = functools.partial(
        fit_probe, targets=labels["train"], num_classes=2, quality=functools.partial(right, labels["eval"])
    )
    assert right(labels["test"], fit(vectors).scores["test"]) > 0.95
    without = {name: np.delete(array, 7, axis=1) for name, array in vectors.items()}
    assert 0.4 < right(labels["test"], fit(without).scores["test"]) < 0.6


def test_the_penalty_is_the_best_on_the_evaluation_part_and_the_scores_are_scikit_learns():
    vectors, labels = parts_of(train=60, eval=60, test=60)
    scaler = StandardScaler().fit(vectors["train"])
    scaled = {name: scaler.transform(array) for name, array in vectors.items()}
    fitted = [LogisticRegression(C=c, max_iter=2000).fit(scaled["train"], labels["train"]) for c in CLASS_PENALTIES]
    qualities = [model.score(scaled["eval"], labels["eval"]) for model in fitted]
    assert len(set(qualities)) > 1
    found = fit_probe(vectors, labels["train"], num_classes=2, quality=functools.partial(right, labels["eval"]))
    best = int(np.argmax(qualities))
    assert found.penalty == CLASS_PENALTIES[best]
    np.testing.assert_allclose(np.diff(found.scores["test"])[:, 0], fitted[best].decision_function(scaled["test"]))


def test_numbers_are_told_by_ridge_regression_and_a_vector_of_nan_gets_the_mean():
    vectors, _ = parts_of(train=80, eval=40, test=40)
    numbers = {
        name: array[:, 7] * 3 + np.random.default_rng(9).normal(size=len(array)) + 2 for name, array in vectors.items()
    }
    vectors["test"][5] = np.nan

    def quality(scores):
        return pearsonr(scores[:, 0], numbers["eval"]).statistic

    found = fit_probe(vectors, numbers["train"], num_classes=None, quality=quality)
    scaler = StandardScaler().fit(vectors["train"])
    models = [
        Ridge(alpha=1 / (2 * c)).fit(scaler.transform(vectors["train"]), numbers["train"]) for c in NUMBER_PENALTIES
    ]
    best = max(models, key=lambda model: pearsonr(model.predict(scaler.transform(vectors["eval"])), numbers["eval"])[0])
    assert found.penalty == NUMBER_PENALTIES[models.index(best)]
    expected = best.predict(np.nan_to_num(scaler.transform(vectors["test"])))
    np.testing.assert_allclose(found.scores["test"][:, 0], expected)
    assert found.scores["test"][5, 0] == pytest.approx(numbers["train"].mean())


def test_a_class_that_training_lacks_is_never_answered_and_one_class_alone_is_refused():
    vectors, labels = parts_of(train=60, eval=20)
    quality = functools.partial(right, labels["eval"] * 3)
    found = fit_probe(vectors, labels["train"] * 3, num_classes=4, quality=quality)
    assert found.scores["eval"].shape == (20, 4)
    assert {*found.scores["eval"].argmax(-1)} <= {0, 3} and right(labels["eval"] * 3, found.scores["eval"]) > 0.6
    with pytest.raises(ValueError, match="have one label; give more of them"):
        fit_probe(vectors, np.zeros(60, dtype=int), num_classes=4, quality=quality)


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
    accuracy = {row["layer"]: row["test"]["accuracy"] for row in results["layers"]}
    assert list(accuracy) == [0, 1, 2, "mix"]
    assert accuracy[0] > 0.9 and accuracy[2] == results["guess"]["test"]["accuracy"] == 0.5
    assert results["examples"] == {"train": 108, "eval": 12, "test": 60}
    table = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in table] == ["accuracy", "guess", "embeddings", "layer 1", "layer 2", "mix"]
    assert table[2].split()[-1] == f"{accuracy[0]:.4f}"
    lines = (tmp_path / "out" / "predictions_test.jsonl").read_text().splitlines()
    predictions = [json.loads(line) for line in lines]
    best = results["best_layer"]
    assert np.mean([one["label"] == one["prediction"] for one in predictions]) == pytest.approx(accuracy[best])


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
        targets = {part: np.array([label == "other" for label in names], dtype=int) for part, names in labels.items()}
        quality = functools.partial(right, targets["eval"])
        expected = fit_probe(vectors, targets["train"], num_classes=2, quality=quality)
        assert row["C"] == expected.penalty
        assert row["test"]["accuracy"] == pytest.approx(quality(expected.scores["eval"]), abs=0.02)


def write_pairs(path, count, seed):
    """Write pairs of three words each; the score is how many they share, which neither tells alone."""
    generator = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        first, second = (generator.permutation(["ba", "do", "me", "ki", "lu", "so"])[:3] for _ in range(2))
        lines.append(f"{' '.join(first)}\t{' '.join(second)}\t{len({*first} & {*second})}\n")
    path.write_text("one\ttwo\tlabel\n" + "".join(lines))
    return str(path)


def test_likeness_of_pairs_is_told_by_ridge_regression_on_vectors_of_either(checkpoint, tmp_path, capsys):
    parts = [("train", 300), ("eval", 100), ("test", 200)]
    files = {part: write_pairs(tmp_path / f"{part}.tsv", count, seed) for seed, (part, count) in enumerate(parts)}
    data = [option for part, path in files.items() for option in (f"--data.{part}", path)]
    columns = ["--data.text_column", "one", "--data.text_pair_column", "two", "--task", "regression", "--layers", "[0]"]
    results = {}
    for pairs in ("apart", "together"):
        output = tmp_path / pairs
        verb = ["probe", str(checkpoint), *data, *columns, "--pairs", pairs, "--output_dir", str(output), "--quiet"]
        assert main(verb) == 0
        results[pairs] = json.loads((output / "results.json").read_text())["layers"][0]["test"]
    assert capsys.readouterr().out.splitlines()[0].split() == ["pearson", "C", "train", "eval", "test"]
    assert results["apart"]["pearson"] > 0.9 and results["apart"]["spearman"] > 0.8
    assert abs(results["together"]["pearson"]) < 0.3
    model, tokenizer = load_encoder(checkpoint), load_tokenizer(checkpoint)
    vectors, scores = {}, {}
    for part, path in files.items():
        rows = [line.split("\t") for line in Path(path).read_text().splitlines()[1:]]
        first, second = (
            extract_features(model, tokenizer, [row[side] for row in rows], layers=0, quiet=True) for side in (0, 1)
        )
        vectors[part] = np.concatenate([first, second, abs(first - second), first * second], axis=1)
        scores[part] = [float(row[2]) for row in rows]
    quality = lambda found: pearsonr(found[:, 0], scores["eval"]).statistic  # noqa: E731
    expected = fit_probe(vectors, np.array(scores["train"]), num_classes=None, quality=quality)
    found = [json.loads(line)["prediction"] for line in (tmp_path / "apart" / "predictions_test.jsonl").open()]
    np.testing.assert_allclose(found, expected.scores["test"][:, 0], rtol=1e-3, atol=1e-4)


def test_tags_are_told_from_the_vectors_of_words_also_of_those_that_were_cut_off(checkpoint, tmp_path, capsys):
    generator, kinds = np.random.default_rng(0), {"ba": "B-x", "do": "O", "me": "O", "ki": "B-y", "lu": "I-x"}
    files = {}
    for part, count in (("train", 80), ("eval", 20)):
        sentences = [generator.choice([*kinds], size=generator.integers(3, 12)) for _ in range(count)]
        files[part] = tmp_path / f"{part}.conll"
        files[part].write_text("\n".join("".join(f"{w} {kinds[w]}\n" for w in words) for words in sentences))
    data = [part for name, path in files.items() for part in (f"--data.{name}", str(path))]
    verb = ["probe", str(checkpoint), *data, "--task", "token_classification", "--quiet"]
    assert main([*verb, "--output_dir", f"{tmp_path}/out"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    f1 = {row["layer"]: row["eval"]["f1"] for row in results["layers"]}
    assert results["metric"] == "f1" and f1[0] == 1 and f1[2] < 0.7
    records = [json.loads(line) for line in (tmp_path / "out" / "predictions_eval.jsonl").open()]
    assert [tag for one in records for tag in one["predictions"]] == [kinds[w] for one in records for w in one["words"]]
    assert main([*verb, "--max_length", "8"]) == 0  # the end of longer sentences has no vector, and still a tag
    cut = float(capsys.readouterr().out.splitlines()[-4].split()[-1])
    assert 0.5 < cut < 1


def test_a_word_that_is_a_space_keeps_its_row(checkpoint):
    model, tokenizer = load_encoder(checkpoint), load_tokenizer(checkpoint)
    encoder = FrozenVectors(model, tokenizer, task="token_classification", layers=[0], pooling="mean", pairs=None)
    (vectors,) = encoder.of([TaggedSentence(("ba", " ", "d o", "ki"), ("",) * 4, "")], quiet=True)
    expected = extract_word_features(
        model, tokenizer, [f"ba {tokenizer.unk_token} do ki"], words="spaces", layers=0, quiet=True
    )
    np.testing.assert_array_equal(vectors, expected.vectors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "[7]"], "layer 7 is out of range; the model has layers 0 (embeddings) to 2"),
        (["--layers", "[]"], "no layer is named"),
        (["--data.label_column", "x", "--data.train", "one.txt"], "one label only"),
        (["--task", "question_answering"], "unknown task 'question_answering'"),
    ],
)
def test_what_cannot_be_probed_is_one_line(checkpoint, data, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.txt").write_text("a x\na y\na z\n")
    assert main(["probe", str(checkpoint), *data, *options, "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bertkit probe: ") and message in line
