"""A run under DeepSpeed's ZeRO trains, saves and goes on as one without it does.

Accelerate runs DeepSpeed on GPUs only, so the script joins two processes on CPUs before bertkit would; DeepSpeed runs there.
"""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from bertkit.training.arguments import TrainingArguments
from bertkit.training.zero import prepare, refuse_what_zero_cannot
from tests.training.runs import (
    NO_DROPOUT,
    assert_close,
    assert_same_bits,
    assert_same_course,
    finish,
    launch,
    log_of,
    losses_of,
    tensors_of,
    trainer_state_of,
)

needs_deepspeed = pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs bertkit[deepspeed]")

ZERO = """
import os
import sys

os.environ |= {{
    "ACCELERATE_USE_CPU": "false",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1",
    "DS_ACCELERATOR": "cpu",
}}
import deepspeed
from accelerate import PartialState

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled; gloo alone will do
PartialState(backend="gloo")
{more}
from bertkit.cli import main

sys.exit(main(["pretrain", *sys.argv[1:]]))
"""
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


# Killed in the middle of the sixth step.
KILL = """
import os
import signal
from bertkit.training.trainer import Trainer

original = Trainer._set_learning_rate


def killed(self):
    if self.state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self)


Trainer._set_learning_rate = killed
"""
# In one of the processes the loss of the third step is not a number, and in the sixth the loss is well and a gradient infinite.
POISON = """
import math
from bertkit.training.trainer import Trainer

original = Trainer.training_step


def poisoned(self, micro_batches, counts):
    step, is_here = self.state.global_step + 1, self.accelerator.process_index == 1
    counts = dict.fromkeys(counts, math.nan) if is_here and step == 3 else counts
    spoilt = next(self.model.parameters()).register_hook(lambda gradient: gradient * (math.inf if step == 6 else 1))
    original(self, micro_batches, counts)
    spoilt.remove()


Trainer.training_step = poisoned
"""


@pytest.fixture(scope="module")
def zero(pretrain_options, tmp_path_factory):
    """Return a function: train on two processes under DeepSpeed."""

    def train(output_dir, *, more="", returncode=0, **settings):
        script = tmp_path_factory.mktemp("script") / "zero.py"
        script.write_text(ZERO.format(more=more))
        options = pretrain_options(output_dir, **SETTINGS | settings)
        return finish(launch(options, processes=2, script=script), returncode=returncode)

    return train


# With 7 rows at once the processes have 3 and 4, and on CPUs the linear layers of one make their gradients in another order.
@needs_deepspeed
@pytest.mark.parametrize("rows", [{}, {"training.train_batch_size": 7, "training.micro_batch_size": None}])
def test_a_run_under_zero_is_the_whole_models_and_so_is_its_checkpoint(run, zero, tmp_path, rows):
    whole = run(**SETTINGS | rows)
    zero(tmp_path / "run", **rows)
    assert_same_course(whole, tmp_path / "run")
    assert log_of(whole, "grad_norm") == [
        (step, pytest.approx(norm, rel=1e-5)) for step, norm in log_of(tmp_path / "run", "grad_norm")
    ]
    assert tensors_of(whole).keys() == tensors_of(tmp_path / "run").keys()
    assert_close(whole, tmp_path / "run", tolerance=1e-4)


@needs_deepspeed
def test_a_killed_run_under_zero_ends_with_the_bits_of_an_unbroken_one(zero, tmp_path):
    with_dropout = {"model.hidden_dropout_prob": 0.2, "training.max_steps": 9}
    zero(tmp_path / "unbroken", **with_dropout)
    zero(tmp_path / "broken", more=KILL, returncode=1, **with_dropout)
    assert trainer_state_of(tmp_path / "broken")["global_step"] == 4
    zero(tmp_path / "broken", **with_dropout, **AUTO)
    assert_same_bits(tmp_path / "unbroken", tmp_path / "broken")
    assert losses_of(tmp_path / "unbroken") == losses_of(tmp_path / "broken")


@needs_deepspeed
def test_a_run_goes_into_zero_and_out_again(run, zero, tmp_path):
    schedule = {"training.lr_scheduler_type": "constant", "training.warmup_steps": 1}
    whole = run(**SETTINGS, **schedule, **{"training.max_steps": 12})
    run(tmp_path, **SETTINGS, **schedule, **{"training.max_steps": 4})
    zero(tmp_path, **schedule, **{"training.max_steps": 8}, **AUTO)
    run(tmp_path, **SETTINGS, **schedule, **{"training.max_steps": 12}, **AUTO)
    assert trainer_state_of(tmp_path)["global_step"] == 12
    assert_same_course(whole, tmp_path)
    assert_close(whole, tmp_path, tolerance=1e-4)


@needs_deepspeed
def test_steps_that_go_wrong_under_zero_are_passed_over_by_either_policy(zero, tmp_path):
    settings = {"training.max_steps": 9, "training.save_steps": 2}
    zero(tmp_path / "skip", more=POISON, **settings, **{"training.loss_policy": "skip"})
    zero(tmp_path / "rollback", more=POISON, **settings, **{"training.loss_policy": "rollback"})
    assert trainer_state_of(tmp_path / "skip")["passed_over"] == [3, 6]
    assert log_of(tmp_path / "skip", "skipped") == [(3, "the loss is nan"), (6, "the gradient's norm is inf")]
    assert_same_bits(tmp_path / "skip", tmp_path / "rollback")
    assert losses_of(tmp_path / "skip") == losses_of(tmp_path / "rollback")


@needs_deepspeed
def test_bf16_under_zero_is_the_bf16_of_other_runs(run, pretrain_options, zero, tmp_path):
    bf16 = {"training.mixed_precision": "bf16"}
    finish(launch(pretrain_options(tmp_path / "other", **SETTINGS, **bf16), processes=2))
    zero(tmp_path / "zero", **bf16)
    assert all(tensor.dtype == torch.float32 for tensor in tensors_of(tmp_path / "zero").values())
    assert_same_course(tmp_path / "other", tmp_path / "zero", rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ZERO_STAGE", "2"), ("ZERO_STAGE", "3"), ("OFFLOAD_OPTIMIZER_DEVICE", "cpu"), ("CONFIG_FILE", "zero.json")],
)
def test_what_would_be_another_run_under_deepspeed_is_refused(monkeypatch, name, value):
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    refuse_what_zero_cannot()
    monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{name}", value)
    with pytest.raises(ValueError, match="zero_stage 1, offload_optimizer_device none and no deepspeed_config_file"):
        refuse_what_zero_cannot()


def test_fp16_is_refused_under_deepspeed():
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED,
        mixed_precision="fp16",
        deepspeed_plugin=SimpleNamespace(deepspeed_config={}),
    )
    with pytest.raises(ValueError, match="mixed_precision no or bf16"):
        prepare(accelerator, None, None, TrainingArguments(max_steps=1))


def test_gradual_unfreezing_is_refused_under_deepspeed():
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED,
        mixed_precision="no",
        deepspeed_plugin=SimpleNamespace(deepspeed_config={}),
    )
    with pytest.raises(ValueError, match=r"leave training\.gradual_unfreezing out"):
        prepare(accelerator, None, None, TrainingArguments(max_steps=1, gradual_unfreezing=True))


def test_deepspeed_is_refused_where_accelerate_does_not_run_it(pretrain_options, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    output = finish(launch(pretrain_options(tmp_path / "run", **SETTINGS), processes=2), returncode=1)
    assert "DeepSpeed was asked for" in output
    assert not (tmp_path / "run").exists()
