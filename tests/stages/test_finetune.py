import json
import math
import signal
import subprocess
import sys
from statistics import mean, stdev

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForPreTraining, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from bertkit.cli import main
from bertkit.config import RECIPES
from bertkit.models import FAMILIES, build_config, build_model
from bertkit.tasks import TASKS
from bertkit.training.run_folder import locked
from tests.tasks import made_up

HARDER = ("question_answering", "multiple_choice")  # than to notice a word
CLASSIFIERS = [name for name, family in FAMILIES.items() if "AutoModelForSequenceClassification" in family.auto_classes]


def finetune(*options):
    return main(["finetune", "--quiet", "true", *map(str, options)])


@pytest.fixture(scope="module")
def command(checkpoint, reviews):
    """The options of a run that learns the task in seconds."""
    data = [option for part, path in reviews.items() for option in (f"--data.{part}", path)]
    return [
        "--model.from", checkpoint, *data, "--task.max_length", 16, "--training.num_train_epochs", 4,
        "--training.learning_rate", 0.01, "--training.train_batch_size", 16,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert finetune(*command, "--output_dir", folder) == 0
    return folder


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_tiny_model_learns_the_task_and_beats_the_majority_class(run):
    results = read(run / "results.json")
    for part in ("eval", "test"):
        assert results["mean"][part]["accuracy"] > 0.9 > results["guess"][part]["accuracy"] + 0.2
        assert results["guess"][part]["matthews_correlation"] == 0
    assert results["labels"] == ["neg", "pos"]
    assert results["examples"] == {"train": 120, "eval": 30, "test": 25}
    assert results["standard_deviation"]["eval"]["accuracy"] is None


@pytest.mark.parametrize(
    "family",
    [
        name
        for name, family in FAMILIES.items()
        if name != "bert" and "AutoModelForSequenceClassification" in family.auto_classes
    ],
)
def test_so_does_every_family_that_has_the_head(family, command, checkpoint, tmp_path):
    pretrained, run = tmp_path / "pretrained", tmp_path / "run"
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "cell_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    fields = FAMILIES[family].config_class.__annotations__
    config = build_config(family, vocab_size=len(tokenizer), **{n: v for n, v in settings.items() if n in fields})
    heads = FAMILIES[family].auto_classes
    pretraining = next(
        name for name in ("AutoModelForPreTraining", "AutoModelForCausalLM", "AutoModel") if name in heads
    )
    torch.manual_seed(0)
    build_model(config, pretraining).save_pretrained(pretrained)
    tokenizer.save_pretrained(pretrained)
    epochs = 12 if family in ("gpt", "static") else 6  # a last token has to learn where to look, and a mean is linear
    options = [*command[2:], "--training.num_train_epochs", epochs, "--output_dir", run]
    assert finetune("--model.from", pretrained, *options) == 0
    results = read(run / "results.json")
    assert results["mean"]["test"]["accuracy"] > 0.9 > results["guess"]["test"]["accuracy"] + 0.2


def test_it_is_evaluated_after_every_epoch_and_the_best_checkpoint_is_the_one_reported(run):
    evaluations = [entry for entry in rows(run / "log.jsonl") if "eval_accuracy" in entry]
    assert [entry["step"] for entry in evaluations] == [8, 16, 24, 30]
    best = max(evaluations, key=lambda entry: (entry["eval_accuracy"], -entry["step"]))
    [result] = read(run / "results.json")["runs"]
    assert result["best_step"] == best["step"]
    assert (run / "best").resolve().name == f"checkpoint-{best['step']}"
    for name, value in result["eval"].items():
        assert value == pytest.approx(best[f"eval_{name}"], abs=1e-6)


def test_predictions_stand_in_the_order_of_the_input_and_are_the_models_own(run, reviews):
    classify = pipeline("text-classification", model=str(run / "best"), top_k=None)
    for part in ("eval", "test"):
        predictions = rows(run / f"predictions_{part}.jsonl")
        lines = [line.rstrip("\n").split(" ", 1) for line in reviews[part].open()]
        assert [[row["label"], row["text"]] for row in predictions] == lines
        some = predictions[:5]
        for row, classes in zip(some, classify([row["text"] for row in some]), strict=True):
            scores = {score["label"]: score["score"] for score in classes}
            assert row["probabilities"] == pytest.approx(scores, abs=1e-5)
            assert row["prediction"] == max(scores, key=scores.__getitem__)
        right = mean(row["prediction"] == row["label"] for row in predictions)
        assert read(run / "results.json")["mean"][part]["accuracy"] == pytest.approx(right)


def test_a_checkpoint_stands_alone_with_its_labels_tokenizer_recipe_and_card(run, checkpoint):
    model = AutoModelForSequenceClassification.from_pretrained(run / "best")
    assert model.config.id2label == {0: "neg", 1: "pos"} and model.config.label2id == {"neg": 0, "pos": 1}
    assert model.config.problem_type == "single_label_classification"
    assert "AutoModelForSequenceClassification" in model.config.auto_map
    text = "a good film"
    assert AutoTokenizer.from_pretrained(run / "best")(text) == AutoTokenizer.from_pretrained(checkpoint)(text)
    card = (run / "best" / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card and "120 examples, 2 labels" in card and "eval_accuracy" in card


def test_the_recipe_of_a_checkpoint_repeats_the_run_to_the_bit(run, tmp_path):
    again = tmp_path / "again"
    assert finetune("--config", run / "best" / "recipe.yaml", "--output_dir", again) == 0
    first, second = (load_file(folder / "last" / "model.safetensors") for folder in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_goes_on_from_a_checkpoint_and_ends_with_the_same_weights(run, command, tmp_path):
    half = tmp_path / "half"
    assert finetune(*command, "--training.save_total_limit", "null", "--output_dir", half) == 0
    for step in (24, 30):
        for path in sorted((half / f"checkpoint-{step}").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (half / f"checkpoint-{step}").rmdir()
    assert finetune(*command, "--output_dir", half, "--training.resume_from_checkpoint", "auto") == 0
    first, second = (load_file(folder / "checkpoint-30" / "model.safetensors") for folder in (run, half))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert read(half / "results.json")["runs"] == read(run / "results.json")["runs"]


def test_labels_that_yaml_takes_for_numbers_have_their_weights(command, reviews, tmp_path, capsys):
    text = reviews["train"].read_text().replace("neg ", "0 ").replace("pos ", "1 ")
    train = tmp_path / "numbers.txt"
    train.write_text(text)
    start = ["--model.from", command[1], "--data.train", train, "--task.max_length", 16, "--training.max_steps", 1]
    assert finetune(*start, "--output_dir", tmp_path / "run", "--task.class_weights", "{0: 1, 1: 4}") == 0
    first, second = read(tmp_path / "run" / "best" / "config.json")["class_weights"]
    assert second / first == pytest.approx(4, rel=1e-3)
    capsys.readouterr()
    asked = tmp_path / "asked.txt"
    asked.write_text("a good film\n")
    assert main(["predict", "--quiet", str(tmp_path / "run" / "best"), str(asked)]) == 0
    assert capsys.readouterr().out.split("\t")[0] in ("0", "1")


KILLED = """
import os
import signal
import sys
from bertkit.cli import main
from bertkit.training.trainer import Trainer

original = Trainer.training_step


def dying(self, micro_batches, counts):
    if self.state.global_step == 21:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, micro_batches, counts)


Trainer.training_step = dying
sys.exit(main(["finetune", *sys.argv[1:]]))
"""


def test_a_run_that_is_killed_ends_with_the_bits_and_the_predictions_of_one_left_alone(run, command, tmp_path):
    broken = tmp_path / "run"
    options = [*map(str, command), "--output_dir", str(broken), "--training.save_steps", "8"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *options, "--quiet", "true"], timeout=120)
    assert killed.returncode == -signal.SIGKILL and (broken / "last").resolve().name == "checkpoint-16"
    assert finetune(*options, "--training.resume_from_checkpoint", "auto") == 0
    for name in ("model.safetensors", "state/optimizer.safetensors"):
        one, other = (load_file(folder / "last" / name) for folder in (run, broken))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    for name in ("results.json", "predictions_eval.jsonl", "predictions_test.jsonl"):
        assert (run / name).read_bytes() == (broken / name).read_bytes()
    clocks = ("tokens_per_second",)
    logs = [
        [{k: v for k, v in entry.items() if k not in clocks} for entry in rows(f / "log.jsonl")] for f in (run, broken)
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("name", ["write_predictions", "results"])
def test_a_disk_that_is_full_at_the_end_is_said_in_one_line(command, tmp_path, capsys, monkeypatch, name):
    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    if name == "results":
        (tmp_path / "results.json").mkdir()
    else:
        monkeypatch.setattr(f"bertkit.tasks.predictions.{name}", full)
    assert finetune(*short(command), "--output_dir", tmp_path) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"bertkit finetune: cannot write to {tmp_path}: ")
    assert f"the last whole checkpoint is {tmp_path / 'checkpoint-1'}" in error


def test_two_runs_in_one_folder_at_once_are_refused(command, tmp_path, capsys):
    with locked(tmp_path / "seed-1", warn=print):
        assert finetune(*command, "--output_dir", tmp_path, "--seeds", "[0,1]") == 2
    assert f"{tmp_path / 'seed-1'} is in use by another run" in capsys.readouterr().err


def test_several_seeds_run_beside_one_another_and_give_mean_and_deviation(run, command, tmp_path):
    assert finetune(*command, "--output_dir", tmp_path, "--seeds", "[0,5]") == 0
    results = read(tmp_path / "results.json")
    assert [result["seed"] for result in results["runs"]] == [0, 5]
    assert results["runs"][0] == read(run / "results.json")["runs"][0]  # a seed gives the same alone
    losses = [result["test"]["loss"] for result in results["runs"]]
    assert losses[0] != losses[1]
    assert results["mean"]["test"]["loss"] == pytest.approx(mean(losses))
    assert results["standard_deviation"]["test"]["loss"] == pytest.approx(stdev(losses))
    for seed in (0, 5):
        recipe = yaml.safe_load((tmp_path / f"seed-{seed}" / "best" / "recipe.yaml").read_text())
        assert (recipe["training"]["seed"], recipe["seeds"]) == (seed, None)
        assert recipe["output_dir"] == str(tmp_path / f"seed-{seed}")
        assert (tmp_path / f"seed-{seed}" / "predictions_test.jsonl").is_file()


def short(command):
    return [*command[:-6], "--training.max_steps", 1, "--training.learning_rate", 0]


def test_cross_validation_evaluates_every_training_example_once(command, checkpoint, reviews, tmp_path, capsys):
    options = ["--model.from", checkpoint, "--data.train", reviews["train"], "--data.test", reviews["test"]]
    length = ["--training.num_train_epochs", 1, "--task.max_length", 16]
    assert finetune(*options, *length, "--folds", 3, "--output_dir", tmp_path / "run") == 0
    results = read(tmp_path / "run" / "results.json")
    assert [run["fold"] for run in results["runs"]] == [0, 1, 2]
    assert results["standard_deviation"]["eval"]["accuracy"] is not None and "test" in results["mean"]
    held_out = [
        row["text"] for n in range(3) for row in rows(tmp_path / "run" / f"fold-{n}" / "predictions_eval.jsonl")
    ]
    texts = [line.split(maxsplit=1)[1] for line in reviews["train"].read_text().splitlines()]
    assert sorted(held_out) == sorted(texts)
    for wrong, message in (
        (["--folds", 1], "--folds is 1; give 2 or more"),
        (["--folds", 3, "--seeds", "[0,1]"], "give --seeds or --folds, not both"),
        (["--folds", 3, "--data.eval", reviews["eval"]], "leave data.eval out"),
        (["--folds", 500], "120 examples make no 500 folds"),
    ):
        assert finetune(*options, *length, *wrong, "--output_dir", tmp_path / "wrong") == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_pretrained_encoder_is_kept_and_its_twin_has_fresh_weights(command, checkpoint, tmp_path, pooling):
    """One step at a learning rate of 0 shows what the training starts from."""
    pretrained = load_file(checkpoint / "model.safetensors")
    for name, options in (("kept", []), ("twin", ["--from_scratch", "true"])):
        assert finetune(*short(command), "--output_dir", tmp_path / name, "--model.pooling", pooling, *options) == 0
    kept, twin = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("kept", "twin"))
    assert {name: tensor.shape for name, tensor in kept.items()} == {
        name: tensor.shape for name, tensor in twin.items()
    }
    encoder = [name for name in kept if name.startswith("model.")]
    assert all(torch.equal(kept[name], pretrained[name]) for name in encoder)
    assert not torch.equal(twin["model.layers.0.attention.qkv.weight"], kept["model.layers.0.attention.qkv.weight"])
    configs = [read(tmp_path / name / "last" / "config.json") for name in ("kept", "twin")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("options", "initializer_range", "initial_attention"),
    [
        ([], 0.06, "neighbours"),
        (["--from_scratch", "true"], 0.02, "random"),
        (["--from_scratch", "true", "--model.initializer_range", 0.1], 0.1, "random"),
        (["--from_scratch", "true", "--model.initial_attention", "neighbours"], 0.02, "neighbours"),
    ],
)
def test_the_twin_starts_from_the_familys_ordinary_weights_not_from_those_chosen_for_pretraining(
    command, checkpoint, tmp_path, options, initializer_range, initial_attention
):
    pretrained = tmp_path / "pretrained"
    model = AutoModelForPreTraining.from_pretrained(checkpoint)
    model.config.initializer_range, model.config.initial_attention = 0.06, "neighbours"
    model.save_pretrained(pretrained)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(pretrained)
    run = tmp_path / "run"
    assert finetune("--model.from", pretrained, *short(command)[2:], "--output_dir", run, *options) == 0
    config = read(run / "last" / "config.json")
    assert (config["initializer_range"], config["initial_attention"]) == (initializer_range, initial_attention)
    if options:
        weight = load_file(run / "last" / "model.safetensors")["model.embeddings.word_embeddings.weight"]
        assert weight[1:].std().item() == pytest.approx(initializer_range, rel=0.05)  # row 0, the padding, is zero


def test_a_setting_of_the_model_is_taken_over(command, tmp_path):
    assert finetune(*short(command), "--output_dir", tmp_path, "--model.hidden_dropout_prob", 0.3) == 0
    assert read(tmp_path / "last" / "config.json")["hidden_dropout_prob"] == 0.3


def test_a_model_without_a_checkpoint_is_built_from_family_and_tokenizer(command, checkpoint, tmp_path):
    sizes = ["--model.num_hidden_layers", 1, "--model.hidden_size", 16, "--model.intermediate_size", 16]
    options = [
        *short(command)[2:],
        "--tokenizer",
        checkpoint,
        "--model.family",
        "bert",
        "--model.preset",
        "tiny",
        *sizes,
    ]
    assert finetune(*options, "--output_dir", tmp_path) == 0
    assert read(tmp_path / "last" / "config.json")["hidden_size"] == 16


def test_pairs_are_learned_from_a_table(checkpoint, tmp_path):
    table = tmp_path / "pairs.csv"
    lines = [f"good film,{'good' if number % 2 else 'bad'} story,{number % 2}\n" for number in range(40)]
    table.write_text("first,second,label\n" + "".join(lines))
    options = ["--data.train", table, "--data.text_column", "first", "--data.text_pair_column", "second"]
    training = ["--training.max_steps", 20, "--training.learning_rate", 0.01]
    assert (
        finetune(
            "--model.from", checkpoint, *options, *training, "--task.max_length", 16, "--output_dir", tmp_path / "run"
        )
        == 0
    )
    assert read(tmp_path / "run" / "results.json")["mean"]["eval"]["accuracy"] == 1
    assert rows(tmp_path / "run" / "predictions_eval.jsonl")[0]["text_pair"].endswith("story")


def test_what_is_printed_is_short_and_says_what_was_learned(command, tmp_path, capsys):
    assert main(["finetune", *map(str, short(command)), "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "texts: train 120, eval 30, test 25; 2 labels: neg, pos"
    assert len(lines) < 20
    table = [line.split() for line in lines if line.startswith("accuracy")]
    assert len(table) == 1 and len(table[0]) == 5  # name, and model and majority on both parts
    assert any(line == f"best checkpoint: {tmp_path / 'best'}" for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.from", "/nowhere/at/all"], "there is no checkpoint folder /nowhere/at/all"),
        (["--model.hidden_dropout", "0"], "did you mean 'hidden_dropout_prob'?"),
        (["--model.num_hidden_layers", "3"], "do not fit the settings model.num_hidden_layers"),
        (["--model.hidden_size", "64"], "do not fit the settings model.hidden_size"),
        (["--task.max_length", "65"], "task.max_length is 65, but the model of"),
        (["--seeds", "[1,1]"], "--seeds is [1, 1]; give one or more, each once"),
        (["--data.train", "no.txt"], "no.txt does not exist"),
        (["--data.eval_fraction", "2"], "data.eval_fraction must lie between 0 and 1"),
        (["--task.truncate", "longest_first"], "did you mean --task.truncation?"),
        (["--training.metric_for_best_model", "bleu"], "the evaluation gives accuracy, f1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command, tmp_path, capsys, options, message):
    assert finetune(*command, "--output_dir", tmp_path / "run", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("bertkit finetune: ") and message in error
    assert not list(tmp_path.glob("run/checkpoint-*"))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in CLASSIFIERS])
@pytest.mark.parametrize("verb", ["finetune", "doctor"])
def test_a_checkpoint_of_a_family_without_the_head_is_refused_by_its_name(command, tmp_path, capsys, family, verb):
    build_config(family, "tiny").save_pretrained(tmp_path / "other")
    output_dir = ["--output_dir", tmp_path / "run"] if verb == "finetune" else []
    options = ["--model.from", tmp_path / "other", *command[2:], *output_dir]
    assert main([verb, *map(str, options)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'other'} holds a model of the family {family}, which has no AutoModelForSequenceClass" in line
    assert line.endswith(f"give a checkpoint of the family {' or '.join(CLASSIFIERS)}")


def test_a_label_that_the_training_data_lacks_is_named_before_training(command, tmp_path, capsys):
    (tmp_path / "eval.txt").write_text("pos good\nmixed film\n")
    assert finetune(*command, "--data.eval", tmp_path / "eval.txt", "--output_dir", tmp_path / "run") == 2
    assert "eval.txt, line 2: label 'mixed' is not known; the training data has neg, pos" in capsys.readouterr().err


def test_a_run_does_not_go_on_from_a_pretrained_checkpoint(command, checkpoint, tmp_path, capsys):
    go_on = ["--output_dir", tmp_path / "run", "--training.resume_from_checkpoint", checkpoint]
    assert finetune(*command, *go_on) == 2
    error = capsys.readouterr().err
    assert "is of AutoModelForPreTraining and not of AutoModelForSequenceClassification" in error
    assert error.count("\n") == 1


def test_a_run_folder_is_told_from_a_checkpoint(run, command, tmp_path, capsys):
    assert finetune(*command, "--model.from", run, "--output_dir", tmp_path) == 2
    assert f"as {run / 'best'}" in capsys.readouterr().err


def test_a_checkpoint_or_a_family_with_a_tokenizer_is_needed(command, tmp_path, capsys):
    assert finetune(*command[2:], "--output_dir", tmp_path) == 2
    assert "name a checkpoint by --model.from" in capsys.readouterr().err


def test_without_a_recipe_the_defaults_are_those_of_fine_tuning(run, command, checkpoint, reviews, tmp_path):
    assert (
        finetune(
            "--model.from",
            checkpoint,
            "--data.train",
            reviews["eval"],
            "--task.max_length",
            16,
            "--output_dir",
            tmp_path,
        )
        == 0
    )
    training = yaml.safe_load((tmp_path / "best" / "recipe.yaml").read_text())["training"]
    assert (training["num_train_epochs"], training["learning_rate"]) == (3, 5e-5)
    assert read(tmp_path / "results.json")["examples"] == {"train": 27, "eval": 3}


def table_of_texts(recipe, path):
    """Write a table with the columns, or the numbers of columns, that a recipe reads, two labels in turn."""
    data = {"text_column": "text", "label_column": "label", **recipe.get("data", {})}
    values = {data["text_column"]: "good film", data.get("text_pair_column"): "bad story"}
    has_header = data.get("header", True)
    named = [name for name in (data["text_column"], data.get("text_pair_column"), data["label_column"]) if name]
    columns = named if has_header else [str(number) for number in range(1, 8)]
    rows = [[values.get(column, str(number % 2)) for column in columns] for number in range(20)]
    path.write_text("".join("\t".join(row) + "\n" for row in [*([columns] * has_header), *rows]))
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in (RECIPES[0] / "finetune").glob("*.yaml")))
def test_every_recipe_runs(name, checkpoint, tmp_path):
    recipe = yaml.safe_load((RECIPES[0] / "finetune" / f"{name}.yaml").read_text())
    task = recipe["task"]["name"]
    if task in ("sequence_classification", "regression"):
        path = table_of_texts(recipe, tmp_path / "train.tsv")
    else:
        path = made_up.write(task, tmp_path, "train", 20)
    length = ["--training.num_train_epochs", "null", "--training.max_steps", 2, "--task.max_length", 64]
    if task == "question_answering":
        length += ["--task.stride", 8, "--task.max_question_length", 8]
    if recipe.get("data", {}).get("tags_column") == "upos":
        length += ["--data.tags_column", "tags"]  # the words here stand in two columns
    options = ["--config", name, "--model.from", checkpoint, "--data.train", path, "--output_dir", tmp_path / "run"]
    assert finetune(*options, *length) == 0
    assert not math.isnan(read(tmp_path / "run" / "results.json")["mean"]["eval"]["loss"])


@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_model_learns_every_task_and_its_checkpoint_is_evaluated_alike(task, checkpoint, tmp_path, capsys):
    paths = {part: made_up.write(task, tmp_path, part, count) for part, count in (("train", 160), ("test", 40))}
    settings = [*made_up.DATA_OPTIONS.get(task, []), "--task.max_length", 32]
    if task == "question_answering":
        settings = ["--task.max_length", 40, "--task.stride", 8, "--task.max_question_length", 8]
    steps = ["--training.num_train_epochs", 20 if task in HARDER else 8, "--training.learning_rate", 0.004]
    options = [
        "--task.name",
        task,
        "--model.from",
        checkpoint,
        "--data.train",
        paths["train"],
        "--data.test",
        paths["test"],
    ]
    assert finetune(*options, *settings, *steps, "--model.pooling", "mean", "--output_dir", tmp_path / "run") == 0
    results = read(tmp_path / "run" / "results.json")
    metric = next(iter(results["mean"]["test"]))
    assert results["mean"]["test"][metric] > 0.8
    assert results["guess"]["test"].get(metric, 0.0) < 0.7

    predictions = tmp_path / "again.jsonl"
    capsys.readouterr()
    verb = ["evaluate", tmp_path / "run" / "best", paths["test"], "--output", predictions]
    assert main([str(part) for part in verb]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith(metric.replace("_", " ") + " ")]
    assert float(line.split()[-2 if metric in results["guess"]["test"] else -1]) == pytest.approx(
        results["mean"]["test"][metric], abs=1e-4
    )
    assert predictions.read_text() == (tmp_path / "run" / "predictions_test.jsonl").read_text()


def test_a_run_goes_on_with_its_own_labels_and_shape_only(run, command, reviews, tmp_path, capsys):
    other = tmp_path / "other.txt"
    other.write_text(reviews["train"].read_text().replace("pos ", "yes ").replace("neg ", "no "))
    go_on = ["--output_dir", run, "--training.resume_from_checkpoint", "auto"]
    files = [option if option != reviews["train"] else other for option in command]
    assert finetune(*files, "--data.eval", other, "--data.test", other, *go_on) == 2
    assert "has the labels no, yes, but" in capsys.readouterr().err
    assert finetune(*command, *go_on, "--model.hidden_size", 64) == 2
    assert "model.hidden_size is 64, but" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.preset", "tiny"], "model.preset tiny and model.from cannot both decide the size"),
        (["--model.family", "gpt"], "model.family is 'gpt', but"),
        (["--model.hidden_size", 64], "do not fit the settings model.hidden_size; leave out"),
    ],
)
def test_a_setting_that_contradicts_the_checkpoint_is_refused(command, tmp_path, capsys, options, message):
    assert finetune(*command, *options, "--output_dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err


def test_the_family_of_the_checkpoint_may_be_named(command, tmp_path):
    assert finetune(*command, "--model.family", "bert", "--training.num_train_epochs", 1, "--output_dir", tmp_path) == 0


def test_a_tokenizer_other_than_the_checkpoints_is_refused_unless_the_weights_are_fresh(
    command, tokenizer_folder, tmp_path, capsys
):
    assert finetune(*command, "--tokenizer", tokenizer_folder, "--output_dir", tmp_path / "run") == 2
    assert "is not the one that" in capsys.readouterr().err
