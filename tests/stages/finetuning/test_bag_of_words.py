import json

import numpy as np
import pytest

from bertkit import Predictor
from bertkit.cli import main
from bertkit.config import ConfigError
from bertkit.embeddings.bag_of_words import load_bag_of_words
from bertkit.stages.finetuning.bag_of_words import read_settings
from bertkit.tasks.metrics import classification_metrics
from tests.tasks import made_up


def fit(reviews, folder, *options):
    data = [f"--data.{part}={path}" for part, path in reviews.items()]
    return main(["finetune", "--model", "bow", *data, f"--output_dir={folder}", *options])


@pytest.fixture(scope="module")
def run(reviews, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bow")
    assert fit(reviews, folder, "--quiet") == 0
    return folder


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_words_that_decide_are_learned_and_the_rest_of_the_run_is_as_fine_tunings(run, checkpoint, reviews, tmp_path):
    arguments = [f"--data.{part}={path}" for part, path in reviews.items()]
    arguments += [f"--output_dir={tmp_path / 'run'}", f"--model.from={checkpoint}", "--training.max_steps=1", "--quiet"]
    assert main(["finetune", *arguments, "--task.max_length=32"]) == 0
    theirs = json.loads((tmp_path / "run" / "results.json").read_text())
    ours = json.loads((run / "results.json").read_text())
    assert list(ours) == list(theirs)
    assert set(theirs["runs"][0]) <= set(ours["runs"][0])
    for key in ("task", "labels", "examples", "best_guess", "guess"):
        assert ours[key] == theirs[key]
    assert all(ours["mean"][part].keys() == theirs["mean"][part].keys() for part in ("eval", "test"))
    assert ours["mean"]["test"]["accuracy"] > 0.9
    for part in ("eval", "test"):
        our, their = (records(path / f"predictions_{part}.jsonl") for path in (run, tmp_path / "run"))
        assert [list(record) for record in our] == [list(record) for record in their]
        assert [(r["text"], r["label"]) for r in our] == [(r["text"], r["label"]) for r in their]


def test_weights_of_the_classes_are_those_of_the_task(run, reviews, tmp_path, capsys):
    said = {"of task": ["--task.class_weights=balanced"], "of model": ["--model.class_weight=balanced"]}
    said["by label"] = ['--task.class_weights={"neg": 1, "pos": 9}']
    for name, options in said.items():
        assert fit(reviews, tmp_path / name, *options, "--quiet") == 0
    plain, *weighted = (load_bag_of_words(folder / "best") for folder in (run, *(tmp_path / name for name in said)))
    of_task, of_model, by_label = (bag.logits(["a text of no words that it knows"], None)[0] for bag in weighted)
    np.testing.assert_allclose(of_task, of_model, atol=1e-3)
    assert np.ptp(by_label) != np.ptp(plain.logits(["a text of no words that it knows"], None)[0])
    assert fit(reviews, tmp_path / "both", *said["of task"], *said["of model"]) == 2
    assert "say the same thing twice" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [["--config", "sst2", "--model", "bow"], ["--model.family=bow", "--config=sst2"]])
def test_it_takes_the_place_of_the_network_that_a_recipe_is_for(run, reviews, tmp_path, asked):
    data = [f"--data.{part}={path}" for part, path in reviews.items()]
    options = ["--model.ngram_max", "1", f"--output_dir={tmp_path / 'run'}", "--quiet"]
    assert main(["finetune", *asked, *data, *options]) == 0
    bag = load_bag_of_words(tmp_path / "run" / "best")
    assert (
        bag.arguments.ngram_max == 1 and bag.arguments.weighting == load_bag_of_words(run / "best").arguments.weighting
    )


def test_a_recipe_of_its_own_keeps_its_settings(reviews, tmp_path):
    (tmp_path / "bow.yaml").write_text("model: {family: bow, ngram_max: 3, weighting: counts}\n")
    config = ["--config", str(tmp_path / "bow.yaml"), "--model.ngram_max", "2"]
    assert fit(reviews, tmp_path / "run", *config, "--quiet") == 0
    arguments = load_bag_of_words(tmp_path / "run" / "best").arguments
    assert (arguments.ngram_max, arguments.weighting) == (2, "counts")


def test_metrics_are_those_of_the_predictions_file(run):
    results = json.loads((run / "results.json").read_text())
    predicted = records(run / "predictions_test.jsonl")
    numbers = {name: number for number, name in enumerate(results["labels"])}
    said, true = ([numbers[record[name]] for record in predicted] for name in ("prediction", "label"))
    expected = classification_metrics(said, true, num_labels=2)
    told = results["mean"]["test"]
    assert {name: told[name] for name in expected} == pytest.approx(expected)
    shares = [record["probabilities"][record["label"]] for record in predicted]
    assert told["loss"] == pytest.approx(-np.log(shares).mean(), abs=1e-4)


def test_the_saved_folder_is_recognised_evaluated_and_predicts_the_same(run, reviews, checkpoint, tmp_path, capsys):
    bag = load_bag_of_words(run / "best")
    said = [record["prediction"] for record in records(run / "predictions_test.jsonl")]
    texts = [record["text"] for record in records(run / "predictions_test.jsonl")]
    assert [bag.label_names[number] for number in bag.logits(texts, None).argmax(-1)] == said
    assert [one["prediction"] for one in Predictor(run / "best")(texts)] == said
    assert (run / "best" / "recipe.yaml").is_file()
    assert load_bag_of_words(checkpoint) is None and load_bag_of_words(run) is None
    output = tmp_path / "again.jsonl"
    assert main(["evaluate", str(run / "best"), str(reviews["test"]), "--output", str(output)]) == 0
    assert output.read_text() == (run / "predictions_test.jsonl").read_text()
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["multi_label_classification", "regression"])
def test_it_learns_the_other_tasks_about_texts(task, tmp_path):
    paths = {part: made_up.write(task, tmp_path, part, count) for part, count in (("train", 160), ("test", 40))}
    assert fit(paths, tmp_path / "run", "--quiet", "--task.name", task, *made_up.DATA_OPTIONS.get(task, [])) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    metric = next(iter(results["mean"]["test"]))
    assert results["mean"]["test"][metric] > 0.8 > results["guess"]["test"][metric]


def test_pairs_and_pieces_go_the_same_way(checkpoint, tmp_path, capsys):
    table = tmp_path / "pairs.tsv"
    rows = [
        f"the film was {word}\t{'a film' if number % 2 else ''}\t{number % 2}\n"
        for number, word in enumerate("abcdef" * 5)
    ]
    table.write_text("text\tother\tlabel\n" + "".join(rows))
    options = ["--data.text_pair_column=other", "--model.analyzer=wordpiece", "--model.C=1", "--model.ngram_max=3"]
    options += [f"--tokenizer={checkpoint}"]
    assert fit({"train": table, "test": table}, tmp_path / "run", *options) == 0
    assert records(tmp_path / "run" / "predictions_test.jsonl")[0]["text_pair"] in ("a film", "")
    assert load_bag_of_words(tmp_path / "run" / "best").tokenizer is not None
    table = capsys.readouterr().out
    assert "accuracy" in table and "guess" in table and f"best checkpoint: {tmp_path / 'run' / 'best'}" in table


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


def test_what_cannot_be_learned_is_refused_before_anything_is_written(reviews, tmp_path, capsys):
    unknown = tmp_path / "eval.txt"
    unknown.write_text("so-so a film\n")
    for options, message in (
        ([f"--data.eval={unknown}"], "so-so"),
        (["--task.name", "token_classification", "--data.form", ".txt"], "a bag of words cannot learn the task"),
        (["--folds", "3"], "leave --folds out"),
    ):
        paths = {"train": reviews["train"]}
        assert fit(paths, tmp_path / "run", *options) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
