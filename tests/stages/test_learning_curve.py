import csv
import json

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
    assert draw(checkpoint, reviews, tmp_path, *SIZES, *resume) == 0
    assert json.loads((tmp_path / "learning_curve.json").read_text()) == content


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


def test_a_task_without_cheap_baselines_draws_the_networks_alone(checkpoint, tmp_path, capsys):
    path = made_up.write("token_classification", tmp_path, "train", 40)
    verb = ["finetune", "--task.name", "token_classification", "--model.from", checkpoint, "--data.train", path]
    options = ["--label_fractions", "[10]", "--label_min_steps", "2", "--output_dir", tmp_path / "curve"]
    length = ["--training.num_train_epochs", "1", "--task.max_length", "32"]
    assert main([str(part) for part in [*verb, *options, *length]]) == 0
    assert capsys.readouterr().out.splitlines()[-4].split()[-3:] == ["pretrained", "from", "scratch"]
    assert main([str(part) for part in [*verb, *options, "--methods", "[bow]"]]) == 2
    assert "the task token_classification has no bow" in capsys.readouterr().err


def test_subsets_are_nested_and_have_their_share_of_each_label():
    examples = [LabelledText(str(n), None, "abc"[n % 7 % 3], "") for n in range(70)]
    order = nested_order(examples, 3)
    assert sorted(order) == list(range(70)) and order != nested_order(examples, 4)
    small, large = subset(examples, 14, 3), subset(examples, 35, 3)
    assert {*small} < {*large}
    for part in (small, large):
        assert sum(example.label == "a" for example in part) == pytest.approx(len(part) * 3 / 7, abs=1)
    assert sizes_of([1.0, 10, 0.5], 70) == [10, 35, 70]
