"""Three runs by one command, each from the one before; what is done is not done again."""

import json
import re
import shutil

import pytest
import yaml
from safetensors.torch import load_file

from bertkit.cli import main
from bertkit.config import find_recipe, load_yaml
from bertkit.models import FAMILIES
from bertkit.stages import ulmfit
from tests.training.runs import KILLED_AT, finish, launch

TASK = "AutoModelForSequenceClassification"
FAMILY = "rnn" if TASK in FAMILIES["rnn"].auto_classes else "bert"
SIZE = {
    "rnn": {"embedding_size": 24, "hidden_size": 32, "num_hidden_layers": 2},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
}[FAMILY]
TWO_STEPS = {"max_steps": 2, "train_batch_size": 4}


@pytest.fixture
def recipe(corpus_file, reviews, tmp_path):
    """Write the recipe that comes with bertkit, small and for two steps a stage; return its file."""
    content = load_yaml(find_recipe("ulmfit"))
    objective = content["general"]["objective"] if FAMILY == "rnn" else {"name": "masked", "block_size": 64}
    for stage in ("general", "target"):
        content[stage]["objective"] = objective
        content[stage]["data"] = {"train": str(corpus_file), "eval_fraction": 0.1}
        content[stage]["training"] |= TWO_STEPS
    content["general"]["model"] = {"family": FAMILY, **SIZE}
    content["classifier"]["data"] = {part: str(path) for part, path in reviews.items()}
    content["classifier"]["model"]["pooling"] = "concat" if FAMILY == "rnn" else "mean"
    content["classifier"]["training"] |= {**TWO_STEPS, "num_train_epochs": None}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def options(recipe, tokenizer_folder, tmp_path):
    return ["--config", str(recipe), "--tokenizer", str(tokenizer_folder), "--output_dir", str(tmp_path / "run")]


def steps(folder):
    return json.loads((folder / "last" / "state" / "trainer_state.json").read_text())["global_step"]


def started_from(folder):
    return load_yaml(folder / "last" / "recipe.yaml")["model"]["from"]


def test_one_command_trains_three_models_each_from_the_one_before(options, tmp_path, capsys):
    assert main(["ulmfit", *options]) == 0
    run = tmp_path / "run"
    assert {stage: steps(run / stage) for stage in ulmfit.STAGES} == dict.fromkeys(ulmfit.STAGES, 2)
    assert started_from(run / "target") == str(run / "general" / "best")
    assert started_from(run / "classifier") == str(run / "target" / "best")
    assert json.loads((run / "classifier" / "results.json").read_text())["mean"]["test"]["accuracy"] > 0
    # The head alone was trained in the first steps of the classifier, so the rest is still the language model's.
    lm, classifier = (load_file(run / stage / "best" / "model.safetensors") for stage in ("target", "classifier"))
    shared = [name for name in lm if "layers.0" in name]
    assert shared and all((lm[name] == classifier[name]).all() for name in shared)
    said = capsys.readouterr().out
    assert re.findall(r"^(\w+), in ", said, re.M) == ["general", "target", "classifier"]


def test_what_is_done_is_used_and_what_the_recipe_changed_is_trained_on(options, tmp_path, capsys):
    assert main(["ulmfit", *options]) == 0
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("general/checkpoint-*/model.safetensors")
    }
    capsys.readouterr()
    assert main(["ulmfit", *options, "--target.training.max_steps", "4"]) == 0
    captured = capsys.readouterr()
    assert f"general: done before, in {tmp_path / 'run' / 'general'}" in captured.out
    assert "target: done before" not in captured.out
    assert "training.max_steps 4 (was 2)" in captured.err
    assert steps(tmp_path / "run" / "target") == 4
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_language_model_that_is_there_takes_the_place_of_the_first_stage(options, tmp_path):
    assert main(["ulmfit", *options]) == 0
    general = tmp_path / "mine"
    shutil.copytree(tmp_path / "run" / "general" / "best", general)
    shutil.rmtree(tmp_path / "run")
    assert main(["ulmfit", *options, "--language_model", str(general)]) == 0
    assert not (tmp_path / "run" / "general").exists()
    assert started_from(tmp_path / "run" / "target") == str(general)


@pytest.mark.slow
def test_two_processes_walk_it_too_and_a_stage_that_was_broken_off_goes_on(options, tmp_path):
    script = tmp_path / "ulmfit.py"
    script.write_text(KILLED_AT.format(verb="ulmfit", stage="target", step=1))
    more = ["--target.training.save_steps", "1"]
    finish(launch([*options, *more], processes=2, script=script), returncode=1)
    assert steps(tmp_path / "run" / "target") == 1 and not (tmp_path / "run" / "classifier").exists()
    script.write_text(KILLED_AT.format(verb="ulmfit", stage="none", step=1))
    said = finish(launch([*options, *more], processes=2, script=script))
    assert said.count("general: done before") == 1
    assert {stage: steps(tmp_path / "run" / stage) for stage in ulmfit.STAGES} == dict.fromkeys(ulmfit.STAGES, 2)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--general.training.max_step", "3"], "general: unknown option --training.max_step; did you mean"),
        (["--target.model.from", "x"], "target.model.from: bertkit ulmfit decides that of its stages; give --language_model"),
        (["--classifier.tokenizer", "x"], "classifier.tokenizer: bertkit ulmfit decides that of its stages; give --tokenizer"),
        (["--target.training.mixed_precision", "bf16"], "training.mixed_precision must be the same in all stages"),
        (["--classifier.training.layer_decay", "7"], "classifier: .*training.layer_decay is 7.0; it must be above 0"),
        (["--target.data.train", "none.txt"], "bertkit ulmfit: target: .*none.txt"),
        (["--target.data.documents", "file", "--target.data.train", "read.txt"], "target: read.txt holds one document"),
        (["--classifier.data.test", "none.txt"], "classifier: none.txt does not exist"),
        (["--classifier.data.train", "read.txt"], "classifier: the training data has one label only"),
        (["--classifier.training.push_to_hub", "me/x", "--classifier.seeds", "[0,1]"], "classifier: .* takes one model"),
        (["--general.training.push_to_hub", "x", "--target.training.push_to_hub", "x"], "general and target both have"),
        (["--generel.training.max_steps", "3"], "unknown option --generel.training.max_steps"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_any_stage_is_said_before_the_first(options, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "read.txt").write_text("a good film\na bad film\n" * 10)
    assert main(["ulmfit", *options, *more]) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # behind progress bars
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()


def test_a_family_without_the_classifier_is_refused_before_the_first_stage(recipe, options, tmp_path, capsys):
    content = load_yaml(recipe)
    content["general"]["model"] = {"family": "transformer"}
    recipe.write_text(yaml.safe_dump(content))
    assert main(["ulmfit", *options]) == 2
    assert f"general.model: the family transformer has no {TASK}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_recipe_that_comes_with_bertkit_is_read_as_it_stands(tmp_path):
    own, of_stages = ulmfit._split(["--config", "ulmfit", "--tokenizer", "t", "--output_dir", str(tmp_path)])
    read, _ = ulmfit.build_parser().read(own)
    assert read.general["model"]["family"] == "rnn" and read.classifier["model"]["pooling"] == "concat"
    assert of_stages == {stage: [] for stage in ulmfit.STAGES}
    data = {"general": "a.txt", "target": "b.txt", "classifier": "c.tsv"}
    for stage in ulmfit.STAGES:
        recipe, _ = ulmfit._read(stage, getattr(read, stage), ["--data.train", data[stage]], {
            "output_dir": "x", **({} if stage == "classifier" else {"tokenizer": "t"})})  # fmt: skip
        assert recipe.data.train == data[stage]
