"""Clipping, precision, recomputed activations and compilation do to the Trainer's steps what their settings say."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import modeling_utils

from bertkit.training.losses import StepLosses
from bertkit.training.trainer import Trainer
from tests.training.runs import NO_DROPOUT, assert_close, assert_same_bits, assert_same_course, log_of, losses_of

EVERY_STEP = {"training.logging_steps": 1}


@pytest.fixture
def run(run_anew):
    return run_anew


@pytest.fixture
def norms(monkeypatch):
    """The norm of the gradient that each step hands to the optimizer."""
    seen = []
    original = Trainer.compute_gradients

    def compute_gradients(self, step, micro_batches, counts):
        losses = original(self, step, micro_batches, counts)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        seen.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
        return losses

    monkeypatch.setattr(Trainer, "compute_gradients", compute_gradients)
    return seen


def test_gradients_are_scaled_down_to_the_norm_asked_for_and_the_log_has_it_before(run, norms):
    clipped = log_of(run(**EVERY_STEP, **{"training.max_grad_norm": 0.01}), "grad_norm")
    assert norms == pytest.approx([0.01] * 6, rel=1e-3)
    assert all(norm > 0.1 for _, norm in clipped)
    norms.clear()
    unclipped = log_of(run(**EVERY_STEP, **{"training.max_grad_norm": "null"}), "grad_norm")
    assert norms == pytest.approx([norm for _, norm in unclipped])
    assert unclipped[0] == clipped[0]


def test_a_norm_under_the_one_asked_for_is_left_alone(run):
    assert_same_bits(run(**{"training.max_grad_norm": 1e9}), run(**{"training.max_grad_norm": "null"}))


def test_bfloat16_computes_in_it_and_keeps_weights_and_moments_in_float32(run):
    full, half = (run(**EVERY_STEP, **{"training.mixed_precision": precision}) for precision in ("no", "bf16"))
    for (_, loss), (_, loss_of_half) in zip(losses_of(full), losses_of(half), strict=True):
        assert loss_of_half != loss and loss_of_half == pytest.approx(loss, rel=0.01)
    for file in ("model.safetensors", "state/optimizer.safetensors"):
        assert {tensor.dtype for tensor in load_file(half / "last" / file).values()} == {torch.float32}


def test_recomputed_activations_change_nothing_dropout_included(run, monkeypatch):
    recomputed = []
    original = modeling_utils.checkpoint

    def checkpoint(*arguments, **settings):
        recomputed.append(None)
        return original(*arguments, **settings)

    monkeypatch.setattr(modeling_utils, "checkpoint", checkpoint)
    kept = run(**EVERY_STEP)
    assert not recomputed
    assert_close(kept, run(**EVERY_STEP, **{"training.gradient_checkpointing": "true"}))
    assert recomputed


def test_training_computes_no_scores_and_ends_as_with_them(run, monkeypatch):
    skipped = []
    add, step = StepLosses.add, Trainer.training_step

    def note(self, outputs):
        skipped.append("prediction_logits" not in outputs)
        add(self, outputs)

    def with_scores(self, *arguments):
        self.forward_settings = {}
        step(self, *arguments)

    monkeypatch.setattr(StepLosses, "add", note)
    without = run(**NO_DROPOUT, **EVERY_STEP)
    assert skipped and all(skipped)
    skipped.clear()
    monkeypatch.setattr(Trainer, "training_step", with_scores)
    scored = run(**NO_DROPOUT, **EVERY_STEP)
    assert skipped and not any(skipped)
    assert_close(without, scored)
    assert_same_course(without, scored)


def test_a_compiled_run_ends_as_one_that_is_not(run, monkeypatch):
    """By dynamo's eager backend: the graphs are captured and run, and no compiler takes minutes."""
    backends = []
    original = torch.compile

    def compile_eagerly(model, **settings):
        backends.append(settings["backend"])
        return original(model, **{**settings, "backend": "eager"})

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    plain = run(**NO_DROPOUT)
    assert backends == []
    assert_close(plain, run(**NO_DROPOUT, **{"training.torch_compile": "true"}))
    assert backends == ["inductor"]
