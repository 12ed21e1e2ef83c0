"""A sharded model trains, saves and goes on as a whole one does.

Accelerate shards on GPUs only, but what it does is torch's and works on two processes on CPUs, which share every layer.
"""

import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from transformers import AutoModelForPreTraining

from bertkit.models import build_config, build_model
from bertkit.training.sharding import shard_by_layers
from tests.training.runs import (
    NO_DROPOUT,
    VARIANTS,
    assert_close,
    assert_same_course,
    finish,
    launch,
    sharded_script,
    tensors_of,
)
from tests.training.test_every_objective import EACH, ROADS

SETTINGS = {
    **NO_DROPOUT,
    "training.logging_steps": 1,
    "training.save_steps": 4,
    "training.micro_batch_size": 3,
    "training.train_batch_size": 9,
    "model.num_hidden_layers": 2,
    "training.save_total_limit": "null",
}
AUTO = {"training.resume_from_checkpoint": "auto"}


@pytest.fixture(scope="module")
def sharded(pretrain_options, tmp_path_factory):
    """Return a function: train on two processes with the model sharded."""
    script = sharded_script(tmp_path_factory.mktemp("script"), "pretrain")

    def train(output_dir, **settings):
        finish(launch(pretrain_options(output_dir, **SETTINGS | settings), processes=2, script=script))
        return output_dir

    return train


def test_a_sharded_run_is_the_whole_models_and_so_is_its_checkpoint(run, sharded, tmp_path):
    whole = run(**SETTINGS)
    shards = sharded(tmp_path / "sharded")
    assert_same_course(whole, shards)
    assert tensors_of(whole).keys() == tensors_of(shards).keys()
    assert_close(whole, shards)
    assert {path.name for path in (shards / "last").glob("*.safetensors")} == {"model.safetensors"}
    model = AutoModelForPreTraining.from_pretrained(shards / "last")
    saved = load_file(shards / "last" / "model.safetensors")
    assert all((tensor == model.state_dict()[name]).all() for name, tensor in saved.items())


@pytest.mark.parametrize("optimizer", ["muon", pytest.param("sgd", marks=pytest.mark.slow)])
def test_shards_move_by_other_optimizers_as_the_whole_does(run, sharded, tmp_path, optimizer):
    other = {"training.optimizer": optimizer, "training.max_steps": 4}
    whole, shards = run(**SETTINGS | other), sharded(tmp_path / "sharded", **other)
    assert_same_course(whole, shards)
    assert_close(whole, shards)


def test_mixed_precision_adds_gradients_up_in_float32_and_adafactor_is_refused(monkeypatch):
    for name, value in yaml.safe_load((VARIANTS / "fsdp2.yaml").read_text())["fsdp_config"].items():
        monkeypatch.setenv(name.upper(), str(value))
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_mixed_precision("bf16")
    model = build_model(build_config("bert", "tiny", vocab_size=9), "AutoModel")
    accelerator = SimpleNamespace(is_fsdp2=True, state=SimpleNamespace(fsdp_plugin=plugin))
    with pytest.raises(ValueError, match="adafactor cannot see whole matrices; take adamw, muon or sgd"):
        shard_by_layers(accelerator, model, "adafactor")
    shard_by_layers(accelerator, model, "adamw")
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (torch.bfloat16, torch.float32, None)


@pytest.mark.parametrize(
    "road",
    [
        pytest.param(road, marks=() if road == "causal gpt" else pytest.mark.slow)
        for road in [*sorted(set(ROADS) - {"masked"}), "seq2seq rnn, no attention"]
    ],
)
def test_every_family_is_sharded_by_its_layers(run, sharded, corpus_file, tmp_path, road):
    settings = {**EACH, "training.max_steps": 2}
    if road != "causal gpt" and not road.endswith("transformer"):
        settings["model.attention_probs_dropout_prob"] = None
    if road.startswith("seq2seq"):
        words = [line.split()[:8] for line in corpus_file.read_text().splitlines() if line]
        settings["data.train"] = tmp_path / "pairs.tsv"
        settings["data.train"].write_text("".join(f"{' '.join(line)}\t{' '.join(line[::-1])}\n" for line in words))
    if road.endswith("no attention"):
        settings["model.attention_type"] = "none"
    settings |= ROADS[road.removesuffix(", no attention")]
    if road.endswith("transformer"):
        settings["model.num_hidden_layers"] = 2
    whole = run(**SETTINGS | settings)
    shards = sharded(tmp_path / "sharded", **settings)
    assert_same_course(whole, shards)
    assert tensors_of(whole).keys() == tensors_of(shards).keys()
    assert_close(whole, shards, tolerance=1e-3)


@pytest.mark.slow
def test_a_run_goes_from_sharded_to_whole_and_back(run, sharded, tmp_path):
    longer = {"training.max_steps": 12}
    moved = tmp_path / "moved"
    schedule = {"training.lr_scheduler_type": "constant", "training.warmup_steps": 1}
    whole = run(**SETTINGS, **longer, **schedule)
    sharded(moved, **{"training.max_steps": 4}, **schedule)
    run(moved, **SETTINGS, **{"training.max_steps": 8}, **schedule, **AUTO)
    sharded(moved, **longer, **schedule, **AUTO)
    assert json.loads((moved / "last" / "state" / "trainer_state.json").read_text())["global_step"] == 12
    assert_same_course(whole, moved)
    assert_close(whole, moved, tolerance=1e-4)


def test_asking_for_shards_that_nobody_makes_is_refused(pretrain_options, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    output = finish(launch(pretrain_options(tmp_path / "run", **SETTINGS), processes=2), returncode=1)
    assert "FSDP was asked for, but Accelerate runs 2 process(es) as MULTI_CPU" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "path", [*VARIANTS.glob("*.yaml"), VARIANTS.parents[1] / "accelerate_config.yaml"], ids=lambda p: p.stem
)
def test_accelerate_takes_every_variant_of_its_config(path):
    config = load_config_from_file(str(path))  # an unknown key is an error
    said = yaml.safe_load(path.read_text())
    assert config.distributed_type.value == said["distributed_type"]
    assert config.num_processes == said["num_processes"]
