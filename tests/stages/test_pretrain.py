"""Pretraining goes on from a checkpoint's weights, on another corpus."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from bertkit.cli import main
from bertkit.models import load_model
from tests.corpus import write_corpus
from tests.test_recipes import SMALL
from tests.training.runs import assert_same_bits

ROADS = {"bert": "masked", "gpt": "causal", "rnn": "causal", "elmo": "bidirectional"}
NOTHING = {"training.learning_rate": 0.0, "training.weight_decay": 0.0, "training.max_steps": 1}


def road(family):
    """Return the settings of a tiny run of a family."""
    size = {f"model.{name}": value for name, value in SMALL[family].items()}
    no_bert = {"model.num_attention_heads": None, "model.intermediate_size": None, "model.hidden_size": None}
    return {**no_bert, "model.family": family, "objective.name": ROADS[family], **size, "model.preset": "tiny"}


def from_checkpoint(family, folder):
    shape = dict.fromkeys([*(f"model.{name}" for name in SMALL[family]), "model.num_hidden_layers"])
    return {**road(family), **shape, "model.family": None, "model.preset": None, "model.from": folder}


@pytest.fixture(scope="module")
def pretrain(pretrain_options, tmp_path_factory):
    """Return a function: settings -> the folder of a finished run."""

    def train(output_dir=None, **settings):
        output_dir = output_dir or tmp_path_factory.mktemp("run")
        assert main(["pretrain", *pretrain_options(output_dir, **settings)]) == 0
        return output_dir

    return train


@pytest.mark.parametrize("family", ROADS)
def test_it_starts_with_all_weights_of_the_checkpoint_head_and_all(pretrain, family):
    first = pretrain(**road(family))
    second = pretrain(**from_checkpoint(family, first / "last"), **NOTHING)
    before, after = (load_file(folder / "last" / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_learns_another_corpus_from_where_it_stood_and_resumes_exactly(pretrain, tmp_path):
    first = pretrain(**road("bert"), **{"training.max_steps": 40})
    other = write_corpus(tmp_path / "other.txt")
    further = {**from_checkpoint("bert", first / "best"), "data.train": other, "model.hidden_dropout_prob": 0.2,
               "training.save_steps": 2, "training.save_total_limit": "null"}  # fmt: skip
    second = pretrain(tmp_path / "second", **further)
    assert load_model(second / "last", "AutoModelForPreTraining").config.hidden_dropout_prob == 0.2
    scratch = pretrain(
        **road("bert"), **{"data.train": other, "training.save_steps": 2, "training.save_total_limit": "null"}
    )
    losses = [
        json.loads((folder / "checkpoint-2" / "state" / "trainer_state.json").read_text())["metrics"]["eval_loss"]
        for folder in (second, scratch)
    ]
    assert losses[0] < losses[1] - 0.3
    unbroken = pretrain(tmp_path / "unbroken", **further)
    for step in (4, 6):
        shutil.rmtree(second / f"checkpoint-{step}")
    shutil.rmtree(first)  # what it started from is not needed to go on
    pretrain(second, **further, **{"training.resume_from_checkpoint": "auto"})
    assert_same_bits(unbroken, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.preset": "tiny"}, "model.preset tiny and model.from cannot both decide the size"),
        ({"model.family": "gpt"}, "model.family is 'gpt', but .* of the family 'bert'; leave it out"),
        ({"model.hidden_size": 96}, "do not fit the settings model.hidden_size"),
        ({"objective.next_sentence": "true"}, "is of AutoModelForMaskedLM, and .*; give --objective.next_sentence false"),
        ({"objective.name": "causal", "objective.next_sentence": None}, "is trained by objective.name masked, not causal"),
        ({"objective.block_size": 4096}, "rows of 4096 tokens do not fit a model of 512 positions; lower the row length"),
        ({"model.from": "/no/such/folder"}, "there is no checkpoint folder /no/such/folder"),
        ({"model.hiden_dropout_prob": 0.1}, "did you mean 'hidden_dropout_prob'"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_checkpoint_is_said_before_any_step(
    pretrain, masked_lm, pretrain_options, tmp_path, capsys, change, message
):
    settings = {**from_checkpoint("bert", masked_lm), "objective.next_sentence": "false", **change}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bertkit pretrain: ")]
    assert re.search(message, line), line
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.fixture(scope="module")
def masked_lm(pretrain):
    return pretrain(**road("bert"), **{"objective.next_sentence": "false", "training.max_steps": 1}) / "last"


@pytest.mark.parametrize("spelt", ["as a setting", "as a whole section"])
def test_a_checkpoint_on_the_command_line_takes_the_place_of_the_recipes_size_and_brings_its_tokenizer(
    pretrain, masked_lm, tmp_path, spelt
):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {family: bert, preset: mini}\nobjective: {name: masked, next_sentence: false}\n")
    change = {**from_checkpoint("bert", masked_lm), "objective.name": None, "tokenizer": None, "training.max_steps": 1}
    if spelt == "as a whole section":
        change = {**change, "model.from": None, "model": json.dumps({"from": str(masked_lm)})}
    trained = load_model(pretrain(config=recipe, **change) / "last", "AutoModelForMaskedLM")
    assert trained.config == load_model(masked_lm, "AutoModelForMaskedLM").config


def test_a_preset_on_the_command_line_takes_the_place_of_the_recipes_checkpoint(pretrain, masked_lm, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{from: {masked_lm}}}\nobjective: {{name: masked, next_sentence: false}}\n")
    other = {**road("bert"), "objective.name": None, "training.max_steps": 1, "model.hidden_size": 40}
    trained = load_model(pretrain(config=recipe, **other) / "last", "AutoModelForMaskedLM")
    assert trained.config.hidden_size == 40 != load_model(masked_lm, "AutoModelForMaskedLM").config.hidden_size


def test_another_tokenizer_is_refused(masked_lm, checkpoint, pretrain_options, tmp_path, capsys):
    settings = {**from_checkpoint("bert", masked_lm), "objective.next_sentence": "false", "tokenizer": checkpoint}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    assert f"is not the one that {masked_lm} was trained with" in capsys.readouterr().err
