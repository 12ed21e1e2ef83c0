import json

import numpy as np
import pytest

from bertkit.config import ConfigError
from bertkit.data.errors import DataError
from bertkit.stages.bag_of_words import finetune_bag_of_words, load_bag_of_words, read_settings
from bertkit.stages.finetune import build_parser, finetune
from bertkit.tasks.labelled_data import LabelledDataArguments, LabelledText, load_parts
from bertkit.tasks.metrics import classification_metrics
from bertkit.tasks.sequence_classification import label_names


@pytest.fixture(scope="module")
def parts(reviews):
    return load_parts(LabelledDataArguments(**{part: str(path) for part, path in reviews.items()}))


@pytest.fixture(scope="module")
def run(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bow")
    names = label_names(parts["train"])
    return folder, finetune_bag_of_words(
        parts, "bow", label_names=names, output_dir=folder, recipe="model: {}", quiet=True
    )


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_words_that_decide_are_learned_and_the_rest_of_the_run_is_as_fine_tunings(
    run, parts, checkpoint, reviews, tmp_path
):
    folder, results = run
    arguments = [f"--data.{part}={path}" for part, path in reviews.items()]
    arguments += [f"--output_dir={tmp_path / 'run'}", f"--model.from={checkpoint}", "--training.max_steps=1", "--quiet"]
    arguments.append("--task.max_length=32")
    finetune(*build_parser(arguments).read(arguments))
    theirs = json.loads((tmp_path / "run" / "results.json").read_text())
    ours = json.loads((folder / "results.json").read_text())
    assert ours == results
    assert list(ours) == list(theirs)
    assert set(theirs["runs"][0]) <= set(ours["runs"][0])
    for key in ("labels", "examples", "majority_label", "majority"):
        assert ours[key] == theirs[key]
    assert all(ours["mean"][part].keys() == theirs["mean"][part].keys() for part in ("eval", "test"))
    assert ours["mean"]["test"]["accuracy"] > 0.9
    for part in ("eval", "test"):
        our, their = (records(path / f"predictions_{part}.jsonl") for path in (folder, tmp_path / "run"))
        assert [list(record) for record in our] == [list(record) for record in their]
        assert [(r["text"], r["label"]) for r in our] == [(r["text"], r["label"]) for r in their]


def test_metrics_are_those_of_the_predictions_file(run, parts):
    folder, results = run
    predicted = records(folder / "predictions_test.jsonl")
    numbers = {name: number for number, name in enumerate(results["labels"])}
    expected = classification_metrics(
        [numbers[record["prediction"]] for record in predicted],
        [numbers[example.label] for example in parts["test"]],
        num_labels=2,
    )
    told = results["mean"]["test"]
    assert {name: told[name] for name in expected} == pytest.approx(expected)
    shares = [record["probabilities"][record["label"]] for record in predicted]
    assert told["loss"] == pytest.approx(-np.log(shares).mean(), abs=1e-4)


def test_the_saved_folder_is_recognised_and_predicts_the_same(run, parts, checkpoint):
    folder, results = run
    bag = load_bag_of_words(folder / "best")
    logits = bag.logits([example.text for example in parts["test"]], None)
    said = [record["prediction"] for record in records(folder / "predictions_test.jsonl")]
    assert [bag.label_names[number] for number in logits.argmax(-1)] == said
    assert results["runs"][0]["C"] == bag.C
    assert (folder / "best" / "recipe.yaml").read_text() == "model: {}"
    assert load_bag_of_words(checkpoint) is None and load_bag_of_words(folder) is None


def test_pairs_and_pieces_go_the_same_way(parts, checkpoint, tmp_path, capsys):
    both = {
        part: [example._replace(text_pair="a film" if example.label == "pos" else "") for example in examples]
        for part, examples in parts.items()
    }
    settings = {"family": "bow", "analyzer": "wordpiece", "C": 1, "ngram_max": 3}
    finetune_bag_of_words(
        both, settings, label_names=["neg", "pos"], output_dir=tmp_path, tokenizer=str(checkpoint), quiet=False
    )
    assert records(tmp_path / "predictions_test.jsonl")[0]["text_pair"] in ("a film", "")
    assert load_bag_of_words(tmp_path / "best").tokenizer is not None
    table = capsys.readouterr().out
    assert "accuracy" in table and "majority" in table and f"best checkpoint: {tmp_path / 'best'}" in table


def test_settings_come_from_the_command_line_as_any_models_do():
    settings = read_settings({"family": "bow", "ngram_max": 3, "C": [1, 10], "analyzer": "char_wb"})
    assert (settings.ngram_max, settings.C, settings.analyzer) == (3, [1.0, 10.0], "char_wb")
    assert read_settings("bow") == read_settings({"family": "bow"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ngram_maximum": 2}, r"unknown setting model\.ngram_maximum of bow; did you mean model\.ngram_max\?"),
        ({"ngram_max": "many"}, r"model\.ngram_max is 'many'; it takes a whole number"),
        ({"analyzer": "words"}, r"model\.analyzer is 'words'; it takes word, char_wb or wordpiece"),
        ({"min_df": 0}, r"model\.min_df is 0; it must be at least 1"),
    ],
)
def test_wrong_settings_are_one_line_that_says_what_would_do(settings, message):
    with pytest.raises(ConfigError, match=message) as raised:
        read_settings({"family": "bow", **settings})
    assert "\n" not in str(raised.value)


def test_labels_that_training_does_not_know_stop_it_before_it_starts(parts, tmp_path):
    unknown = {**parts, "eval": [LabelledText("a film", None, "so-so", "eval.txt, line 1")]}
    with pytest.raises((ConfigError, DataError), match="so-so"):
        finetune_bag_of_words(unknown, "bow", label_names=["neg", "pos"], output_dir=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
