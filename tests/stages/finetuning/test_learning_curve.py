import csv
import json
import re
import shutil
import signal

import pytest

from bertkit.cli import main
from bertkit.tasks.label_subsets import nested_order, sizes_of, subset
from bertkit.tasks.labelled_data import LabelledText
from tests.tasks import made_up


def draw(checkpoint, reviews, folder, *options):
    data = [option for part, path in reviews.items() for option in (f"--data.{part}", path)]
    settings = ["--task.max_length", 16, "--training.learning_rate", 0.01, "--training.train_batch_size", 16]
    verb = ["finetune", "--model.from", checkpoint, *data, *settings, "--output_dir", folder, "--label_min_steps", 24]
    return main([str(part) for part in [*verb, *options]])


SIZES = ["--label_fractions", "[12,1.0]", "--seeds", "[0,1]"]


@pytest.fixture(scope="module")
def drawn(checkpoint, reviews, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve") / "curve"
    assert draw(checkpoint, reviews, folder, *SIZES, "--quiet") == 0
    return folder


def test_every_method_size_and_seed_is_a_point_and_more_labels_are_better(drawn):
    content = json.loads((drawn / "learning_curve.json").read_text())
    points = {(one["method"], one["labels"], one["seed"]): one["value"] for one in content["points"]}
    methods = ("pretrained", "from_scratch", "features", "bow")
    assert {*points} == {(method, size, seed) for method in methods for size in (12, 120) for seed in (0, 1)}
    assert (content["metric"], content["part"]) == ("accuracy", "test")
    for method in methods:
        few, all_ = (sum(points[method, size, seed] for seed in (0, 1)) / 2 for size in (12, 120))
        assert few <= all_ + 0.05
    assert min(points[method, 120, 0] for method in ("pretrained", "from_scratch", "bow")) > 0.85


def test_table_and_picture_are_written_and_no_checkpoint_stays(drawn):
    with (drawn / "learning_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and list(rows[0]) == ["method", "labels", "seed", "accuracy"]
    assert (drawn / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in drawn.iterdir()} == {
        "learning_curve.json",
        "learning_curve.csv",
        "learning_curve.png",
    }


def test_an_interrupted_curve_goes_on_to_the_same_points(drawn, checkpoint, reviews, tmp_path, capsys):
    content = json.loads((drawn / "learning_curve.json").read_text())
    begun = {**content, "points": content["points"][:11]}
    (tmp_path / "learning_curve.json").write_text(json.dumps(begun))
    assert draw(checkpoint, reviews, tmp_path, *SIZES, "--quiet") == 2
    assert "holds a curve already" in capsys.readouterr().err
    resume = ["--training.resume_from_checkpoint", "auto", "--quiet"]
    assert draw(checkpoint, reviews, tmp_path, *SIZES, *resume, "--task.max_length", 20) == 2
    assert "begun with another task" in capsys.readouterr().err
    copy = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    assert draw(copy, reviews, tmp_path, *SIZES, *resume) == 2
    assert "begun with another model" in capsys.readouterr().err
    assert draw(checkpoint, reviews, tmp_path, *SIZES, *resume) == 0
    assert json.loads((tmp_path / "learning_curve.json").read_text()) == content


def test_a_curve_that_goes_on_with_other_sizes_shows_these(drawn, checkpoint, reviews, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "curve")
    others = ["--label_fractions", "[12]", "--seeds", "[1]", "--training.resume_from_checkpoint", "auto", "--quiet"]
    assert draw(checkpoint, reviews, folder, *others) == 0
    with (folder / "learning_curve.csv").open() as file:
        assert {(row["labels"], row["seed"]) for row in csv.DictReader(file)} == {("12", "1")}
    assert (folder / "learning_curve.json").read_text() == (drawn / "learning_curve.json").read_text()


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (["--training.max_steps", 4], 4),
        (["--training.num_train_epochs", 3], 24),  # of an epoch that is one step
        (["--training.num_train_epochs", 30], 30),
    ],
)
def test_steps_that_are_given_are_trained_and_few_epochs_are_made_longer(
    checkpoint, reviews, tmp_path, monkeypatch, length, steps
):
    from bertkit.training.trainer import Trainer

    trained = []
    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self: trained.append(train(self).global_step))
    sizes = ["--label_fractions", "[16]", "--methods", "[pretrained]", "--quiet"]
    assert draw(checkpoint, reviews, tmp_path / "curve", *sizes, *length) == 0
    assert trained == [steps]


def test_a_curve_that_a_signal_stops_says_so_and_keeps_what_it_has(checkpoint, reviews, tmp_path, monkeypatch, capsys):
    from bertkit.training.trainer import Trainer

    step = Trainer.training_step
    steps = []

    def be_told_to_stop(self, *arguments):
        steps.append(1)
        if len(steps) == 30:  # the second training
            signal.raise_signal(signal.SIGTERM)
        step(self, *arguments)

    monkeypatch.setattr(Trainer, "training_step", be_told_to_stop)
    sizes = ["--label_fractions", "[16]", "--methods", "[pretrained,from_scratch,bow]"]
    assert draw(checkpoint, reviews, tmp_path, *sizes) == 0
    end = capsys.readouterr().out.splitlines()[-1]
    assert end == "stopped by SIGTERM after 1 of 3 runs; go on with --training.resume_from_checkpoint auto"
    assert [path.name for path in tmp_path.iterdir()] == ["learning_curve.json"]
    assert draw(checkpoint, reviews, tmp_path, *sizes, "--training.resume_from_checkpoint", "auto") == 0
    points = json.loads((tmp_path / "learning_curve.json").read_text())["points"]
    assert [point["method"] for point in points] == ["pretrained", "from_scratch", "bow"]


def test_what_cannot_be_drawn_is_said_before_training(checkpoint, reviews, tmp_path, capsys):
    for options, message in (
        (["--label_fractions", "[500]"], "--label_fractions has 500, and there are 120 training examples"),
        (["--label_fractions", "[1.5]"], "--label_fractions has 1.5"),
        (["--label_fractions", "[0.01]"], "1 examples cannot show all 2 labels"),
        (["--label_fractions", "[20]", "--methods", "[best]"], "--methods has 'best'; choose from pretrained"),
        (["--label_fractions", "[20]", "--folds", "2"], "give --label_fractions or --folds"),
    ):
        assert draw(checkpoint, reviews, tmp_path / "curve", *options) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "curve").exists()


@pytest.mark.parametrize(
    ("task", "metric", "absent"), [("token_classification", "f1", "bow"), ("question_answering", "f1", "features")]
)
def test_a_task_draws_the_methods_that_it_has(checkpoint, tmp_path, capsys, task, metric, absent):
    path = made_up.write(task, tmp_path, "train", 40)
    verb = ["finetune", "--task.name", task, "--model.from", checkpoint, "--data.train", path]
    options = ["--label_fractions", "[10]", "--label_min_steps", "2", "--output_dir", tmp_path / "curve"]
    length = ["--training.num_train_epochs", "1", "--task.max_length", "32"]
    length += ["--task.stride", "8", "--task.max_question_length", "8"] if task == "question_answering" else []
    assert main([str(part) for part in [*verb, *options, *length]]) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{metric}, by labels"))
    having = {"pretrained", "from scratch", "features"} - {absent}
    assert {*re.split(r"\s{2,}", header)[1:]} == having
    assert main([str(part) for part in [*verb, *options, "--methods", f"[{absent}]"]]) == 2
    assert f"the task {task} has no {absent}" in capsys.readouterr().err


def test_features_of_numbers_are_ridge_regression_and_more_labels_are_better(checkpoint, tmp_path):
    parts = {part: made_up.write("regression", tmp_path, part, count) for part, count in (("train", 160), ("eval", 40))}
    data = [option for part, path in parts.items() for option in (f"--data.{part}", path)]
    verb = [
        "finetune",
        "--task.name",
        "regression",
        "--model.from",
        checkpoint,
        *data,
        *made_up.DATA_OPTIONS["regression"],
    ]
    options = [
        "--label_fractions",
        "[20,160]",
        "--methods",
        "[features,bow]",
        "--output_dir",
        tmp_path / "curve",
        "--quiet",
    ]
    assert main([str(part) for part in [*verb, *options, "--task.max_length", "32"]]) == 0
    content = json.loads((tmp_path / "curve" / "learning_curve.json").read_text())
    values = {(one["method"], one["labels"]): one["value"] for one in content["points"]}
    assert content["metric"] == "pearson" and values["features", 160] > max(0.7, values["features", 20])


def test_features_of_the_whole_training_part_are_what_the_probe_finds(checkpoint, tmp_path):
    parts = {part: made_up.write("token_classification", tmp_path, part, 30) for part in ("train", "eval")}
    data = [str(option) for part, path in parts.items() for option in (f"--data.{part}", path)]
    name = "token_classification"
    options = [
        "--label_fractions",
        "[10,1.0]",
        "--methods",
        "[features]",
        "--output_dir",
        f"{tmp_path}/curve",
        "--quiet",
    ]
    assert (
        main(
            [
                "finetune",
                "--task.name",
                name,
                "--model.from",
                str(checkpoint),
                *data,
                *options,
                "--task.max_length",
                "32",
            ]
        )
        == 0
    )
    points = json.loads((tmp_path / "curve" / "learning_curve.json").read_text())["points"]
    assert main(["probe", str(checkpoint), "--task", name, *data, "--output_dir", f"{tmp_path}/probe", "--quiet"]) == 0
    results = json.loads((tmp_path / "probe" / "results.json").read_text())
    last_layer = results["layers"][-2]["eval"]["f1"]
    assert [point["labels"] for point in points] == [10, 30]
    assert points[1]["value"] == pytest.approx(last_layer) and points[0]["value"] <= points[1]["value"]


def test_subsets_are_nested_and_have_their_share_of_each_label():
    examples = [LabelledText(str(n), None, "abc"[n % 7 % 3], "") for n in range(70)]
    order = nested_order(examples, 3)
    assert sorted(order) == list(range(70)) and order != nested_order(examples, 4)
    small, large = subset(examples, 14, 3), subset(examples, 35, 3)
    assert {*small} < {*large}
    for part in (small, large):
        assert sum(example.label == "a" for example in part) == pytest.approx(len(part) * 3 / 7, abs=1)
    assert sizes_of([1.0, 10, 0.5], 70) == [10, 35, 70]
