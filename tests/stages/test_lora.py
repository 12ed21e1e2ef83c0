"""Fine-tuning by low-rank adapters: what is trained, what is saved, and that peft itself reads it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from bertkit.cli import main
from bertkit.models import build_config, build_model
from bertkit.stages.finetuning.task_model import add_lora
from bertkit.training.lora import Lora
from bertkit.training.lora_arguments import LoraArguments
from tests.training.runs import (
    KILLED_AT,
    assert_close,
    assert_same_bits,
    assert_same_course,
    finish,
    launch,
    sharded_script,
)

peft = pytest.importorskip("peft")
AUTO = ["--training.resume_from_checkpoint", "auto"]


def finetune(*options):
    return main(["finetune", "--quiet", "true", *map(str, options)])


@pytest.fixture(scope="module")
def command(checkpoint, reviews):
    """The options of a run that learns the task in seconds."""
    data = [option for part, path in reviews.items() for option in (f"--data.{part}", path)]
    return [
        "--model.from", checkpoint, *data, "--task.max_length", 16, "--training.num_train_epochs", 4,
        "--training.learning_rate", 0.03, "--training.train_batch_size", 16, "--model.pooling", "mean",
        "--lora.r", 8, "--lora.alpha", 16, "--lora.dropout", 0.1, "--training.save_total_limit", "null",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert finetune(*command, "--output_dir", folder) == 0
    return folder


def test_adapters_and_head_alone_learn_the_task(run):
    results = json.loads((run / "results.json").read_text())
    assert results["mean"]["test"]["accuracy"] > results["guess"]["test"]["accuracy"] + 0.2
    trained = {name.split("|")[1] for name in load_file(run / "last" / "state" / "optimizer.safetensors")}
    assert {name for name in trained if "lora_" not in name} == {"score.weight", "score.bias"}
    assert len(trained) == 2 + 2 * 4  # A and B of the four linear parts of the one layer


def test_a_checkpoint_stands_alone_with_merged_weights_under_plain_names(run, checkpoint):
    _, report = AutoModelForSequenceClassification.from_pretrained(run / "best", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before, after = load_file(checkpoint / "model.safetensors"), load_file(run / "best" / "model.safetensors")
    changed = {name for name in after if name in before and not torch.equal(after[name], before[name])}
    layer = "model.layers.0"
    parts = ("attention.qkv", "attention.output", "feed_forward.intermediate", "feed_forward.output")
    assert changed == {f"{layer}.{part}.weight" for part in parts}
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], atol=1e-4) <= 8


def test_peft_reads_the_adapter_and_gives_the_same_logits(run, checkpoint):
    base = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, config=AutoConfig.from_pretrained(run / "best")
    )
    adapted = peft.PeftModel.from_pretrained(base, run / "best" / "adapter").eval()
    merged = AutoModelForSequenceClassification.from_pretrained(run / "best").eval()
    ids = torch.arange(5, 37).view(2, 16)
    torch.testing.assert_close(adapted(ids).logits, merged(ids).logits, atol=1e-5, rtol=1e-5)
    with adapted.disable_adapter():
        assert (adapted(ids).logits - merged(ids).logits).abs().max() > 0.1  # the adapter does something


def test_a_killed_run_goes_on_to_the_same_bits(run, command, tmp_path):
    shutil.copytree(run, tmp_path / "half", symlinks=True)
    for step in (16, 24, 30):
        shutil.rmtree(tmp_path / "half" / f"checkpoint-{step}")
    assert finetune(*command, "--output_dir", tmp_path / "half", *AUTO) == 0
    assert_same_bits(run, tmp_path / "half")
    unmerged = [load_file(folder / "last" / "state" / "unmerged.safetensors") for folder in (run, tmp_path / "half")]
    assert all(torch.equal(weight, unmerged[1][name]) for name, weight in unmerged[0].items())


def test_a_run_goes_back_to_the_unmerged_weights_when_a_step_goes_wrong(command, tmp_path, monkeypatch):
    from bertkit.training.trainer import Trainer

    original = Trainer.training_step

    def spoilt(self, micro_batches, counts):
        counts = dict.fromkeys(counts, float("nan")) if self.state.global_step == 12 else counts
        original(self, micro_batches, counts)

    monkeypatch.setattr(Trainer, "training_step", spoilt)
    for policy in ("skip", "rollback"):
        settings = ["--training.loss_policy", policy, "--output_dir", tmp_path / policy]
        assert finetune(*command, *settings) == 0
    assert_same_bits(tmp_path / "skip", tmp_path / "rollback")


WITHOUT_DROPOUT = ["--lora.dropout", 0, "--model.hidden_dropout_prob", 0, "--model.attention_probs_dropout_prob", 0]


@pytest.mark.slow
def test_two_processes_train_what_one_does(command, tmp_path):
    settings = [*command, *WITHOUT_DROPOUT]
    assert finetune(*settings, "--output_dir", tmp_path / "alone") == 0
    script = tmp_path / "finetune.py"
    script.write_text(KILLED_AT.format(verb="finetune", stage="none", step=0))
    finish(launch([*map(str, settings), "--quiet", "--output_dir", str(tmp_path / "pair")], processes=2, script=script))
    assert_close(tmp_path / "alone", tmp_path / "pair", tolerance=1e-3)


@pytest.mark.slow
def test_shards_train_what_a_whole_model_does_and_either_goes_on_from_the_other(command, tmp_path):
    # At the command's rate rounding alone would part the weights by more than the tolerance.
    settings = [*command, *WITHOUT_DROPOUT, "--training.lr_scheduler_type", "constant", "--training.warmup_steps", 1]
    settings += ["--training.learning_rate", 0.005, "--training.logging_steps", 1]
    script = sharded_script(tmp_path, "finetune")

    def sharded(folder, *more):
        options = [*map(str, [*settings, "--output_dir", folder, *more]), "--quiet"]
        finish(launch(options, processes=2, script=script))

    whole, shards, moved = (tmp_path / name for name in ("whole", "shards", "moved"))
    assert finetune(*settings, "--output_dir", whole) == 0
    sharded(shards)
    assert_same_course(whole, shards, rel=1e-4)
    assert_close(whole, shards, tolerance=1e-3)
    adapters = [load_file(folder / "last" / "adapter" / "adapter_model.safetensors") for folder in (whole, shards)]
    assert adapters[0].keys() == adapters[1].keys()
    _, report = AutoModelForSequenceClassification.from_pretrained(shards / "best", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    steps = json.loads((whole / "last" / "state" / "trainer_state.json").read_text())["global_step"]
    third = ["--training.num_train_epochs", "null", "--training.save_steps", 8, "--training.max_steps"]
    sharded(moved, *third, 8)
    assert finetune(*settings, *third, 16, "--output_dir", moved, *AUTO) == 0
    sharded(moved, *third, steps, *AUTO)
    assert_close(whole, moved, tolerance=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lora.targets", "[attention.qvk]"], "lora.targets: attention.qvk names no part of it in the BertEncoder"),
        (["--lora.targets", "[attention_norm]"], "lora.targets: attention_norm is LayerNorm in the BertEncoder"),
        (["--lora.r", "0"], "lora.r is 0; it must be at least 1"),
        (["--lora.r", "null", "--lora.targets", "[x]"], "lora.targets is given and lora.r is not"),
        (["--lora.alpha", "-1"], "lora.alpha is -1.0; it must be greater than 0"),
        (["--training.freeze", "backbone"], "training.freeze backbone would freeze the adapters"),
    ],
)
def test_what_cannot_be_is_said_before_any_step(command, tmp_path, capsys, more, message):
    assert finetune(*command, *more, "--output_dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_run_does_not_go_on_with_other_adapters_than_it_had(run, command, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    for more, message in (
        (["--lora.r", 4], "lora.r is 4, but"),
        (["--lora.targets", "[attention.qkv]"], "lora.targets is "),
        (["--lora.r", "null"], "lora.r is null, but"),
    ):
        assert finetune(*command, *more, "--output_dir", tmp_path / "run", *AUTO) == 2
        assert message in capsys.readouterr().err


def test_a_family_of_recurrent_cells_alone_says_what_would_do():
    model = build_model(build_config("elmo", "tiny", vocab_size=50), "AutoModelForSequenceClassification")
    with pytest.raises(
        ValueError, match=r"family elmo are recurrent cells, of which peft adapts none; take training\.fre"
    ):
        add_lora(model, LoraArguments(r=4), freeze="none", seed=0, start_from=None, resume_from=None)


def test_merging_equals_pefts_own():
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(6, 5), "head": nn.Linear(5, 2)})
    lora = Lora(model, LoraArguments(r=3, alpha=6), targets=["layer"], head=["head.weight", "head.bias"], base="x")
    nn.init.normal_(model["layer"].lora_B["default"].weight)
    merged = lora.merged(model.state_dict())
    assert {*merged} == {"layer.weight", "layer.bias", "head.weight", "head.bias"}
    model["layer"].merge()
    torch.testing.assert_close(merged["layer.weight"], model["layer"].base_layer.weight)
    assert isinstance(lora.config, peft.LoraConfig) and lora.config.modules_to_save == ["head"]
    assert lora.config.base_model_name_or_path == "x"
