"""The Trainer hands a step to the device, micro-batches, clipping and update, without asking what came out."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bertkit.models import modeling_bert, modeling_linear_cross_entropy
from bertkit.training.trainer import Trainer
from tests import flash_kernels

ASKING = {
    "_local_scalar_dense",
    "nonzero",
    "_unique2",
    "unique_dim",
    "bincount",
    "equal",
    "masked_select",
    "is_nonzero",
}
GPT = {"objective.name": "causal", "model.family": "gpt"}


class Questions(TorchDispatchMode):
    """Counts the operations whose result the host has to wait for."""

    def __init__(self):
        super().__init__()
        self.asked = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_booleans = name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in ASKING or by_booleans:
            self.asked[name] += 1
        return func(*args, **kwargs or {})


@pytest.fixture
def asked(monkeypatch):
    """What each training step asks, by name of the operation, without what is for CPUs alone."""
    monkeypatch.setattr(modeling_linear_cross_entropy, "_COUNTED_ON", ())
    monkeypatch.setattr(modeling_bert, "runs_example_by_example", lambda states: False)
    steps = []
    original = Trainer.training_step

    def training_step(self, micro_batches, counts):
        with Questions() as questions:
            original(self, micro_batches, counts)
        steps.append(questions.asked)

    monkeypatch.setattr(Trainer, "training_step", training_step)
    return steps


@pytest.mark.parametrize("road", [{}, GPT], ids=["masked", "causal"])
def test_a_step_of_several_micro_batches_asks_nothing(run, asked, road):
    run(**road, **{"training.micro_batch_size": 3})
    assert asked == [Counter()] * 6


@pytest.mark.parametrize("road", [{}, GPT], ids=["masked", "causal"])
def test_neither_does_flash_attention_ask_where_examples_begin(run_anew, asked, road, monkeypatch):
    calls = flash_kernels.install(monkeypatch)
    run_anew(**road, **{"training.attn_implementation": "flash_attention_2", "training.mixed_precision": "bf16"})
    assert asked == [Counter()] * 6 and calls["sequences"] > 6


def test_the_policy_to_skip_steps_asks_for_the_norm_of_each(run, asked):
    """So the count sees what is asked; this policy has to know before the update."""
    run(**{"training.loss_policy": "skip"})
    assert asked == [Counter(_local_scalar_dense=1)] * 6
