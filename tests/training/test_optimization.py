"""The learning rate and the decay groups are what their names say."""

import math
from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import (
    get_cosine_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
)

from bertkit.training.arguments import TrainingArguments, parse_duration
from bertkit.training.optimization import build_optimizer, learning_rate_factor, set_learning_rate


def factors(max_steps, **settings):
    arguments = TrainingArguments(max_steps=max_steps, **settings)
    return [
        learning_rate_factor(arguments, step=step, max_steps=max_steps, progress=step / max_steps)
        for step in range(max_steps)
    ]


@pytest.mark.parametrize(
    ("name", "oracle"), [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)]
)
def test_linear_and_cosine_schedules_equal_transformers_after_the_warm_up(name, oracle):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = oracle(optimizer, 20, 100)
    expected = []
    for _ in range(100):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert factors(100, lr_scheduler_type=name, warmup_steps=20)[20:] == pytest.approx(expected[20:])


def test_the_inverse_square_root_is_that_of_transformers_and_of_the_paper():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_inverse_sqrt_schedule(optimizer, 20)
    expected = []
    for _ in range(100):
        optimizer.step()
        schedule.step()
        expected.append(schedule.get_last_lr()[0])
    rates = factors(100, lr_scheduler_type="inverse_sqrt", warmup_steps=20)
    assert rates == pytest.approx(expected)
    paper = [min(step**-0.5, step * 20**-1.5) for step in range(1, 101)]  # without d_model ** -0.5
    assert rates == pytest.approx([rate * 20**0.5 for rate in paper])
    assert factors(100, lr_scheduler_type="inverse_sqrt", warmup_steps=0.2) == pytest.approx(rates)


@given(
    st.integers(1, 300),
    st.sampled_from(get_args(get_type_hints(TrainingArguments)["lr_scheduler_type"])),
    st.floats(0, 0.5),
)
def test_every_step_has_a_rate_above_zero_and_none_above_the_peak(max_steps, name, warmup):
    warmup = max(warmup, 0.01) if name == "inverse_sqrt" else warmup  # which needs one
    rates = factors(max_steps, lr_scheduler_type=name, warmup_steps=warmup)
    assert all(0 < rate <= 1 for rate in rates)


def test_the_warm_up_reaches_the_peak_in_its_steps_given_as_a_number_or_as_a_share():
    assert factors(100, warmup_steps=10)[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert factors(100, warmup_steps=0.1)[:10] == pytest.approx(factors(100, warmup_steps=10)[:10])


def test_warmup_stable_decay_is_flat_and_then_falls_in_a_line():
    rates = factors(100, lr_scheduler_type="warmup_stable_decay", warmup_steps=10, decay_fraction=0.2)
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == pytest.approx([1 - step / 20 for step in range(20)])


@pytest.mark.parametrize("name", ["linear", "cosine", "warmup_stable_decay"])
def test_under_a_time_budget_the_rate_follows_the_clock(name):
    arguments = TrainingArguments(max_time="100s", lr_scheduler_type=name, warmup_steps=0.1)

    def rate(seconds):
        return learning_rate_factor(arguments, step=7, max_steps=None, progress=seconds / 100)

    assert rate(5) == pytest.approx(0.51) and rate(11) > 0.9 and rate(90) < 0.6 and rate(100) == 0


def test_under_a_time_budget_the_inverse_square_root_follows_the_clock_too():
    arguments = TrainingArguments(max_time="100s", lr_scheduler_type="inverse_sqrt", warmup_steps=0.1)
    rates = [learning_rate_factor(arguments, step=7, max_steps=None, progress=share) for share in (0.05, 0.1, 0.4)]
    assert rates == pytest.approx([0.51, 1, 0.5], rel=0.01)


def test_matrices_decay_and_vectors_do_not():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    groups = {"all": [name for name, _ in model.named_parameters()]}
    decayed, kept = build_optimizer(model, TrainingArguments(max_steps=1, weight_decay=0.3), groups).param_groups
    assert decayed["weight_decay"] == 0.3 and [p.ndim for p in decayed["params"]] == [2, 2]
    assert kept["weight_decay"] == 0 and [p.ndim for p in kept["params"]] == [1, 1, 1]


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("meta", False)])
def test_the_update_is_fused_where_the_device_has_a_fused_one(device, fused):
    model = nn.Linear(4, 4, device=device)
    optimizer = build_optimizer(model, TrainingArguments(max_steps=1), {"all": ["weight", "bias"]})
    assert optimizer.defaults["fused"] is fused


@pytest.mark.parametrize(
    ("layer_decay", "shares"), [(1.0, (1, 1, 1)), (1 / 2.6, (1 / 6.76, 1 / 2.6, 1)), (0.5, (0.25, 0.5, 1))]
)
def test_each_group_trains_at_its_share_of_the_rate_and_what_is_frozen_not_at_all(layer_decay, shares):
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    groups = {"embeddings": ["0.weight"], "layers.0": ["1.weight", "1.bias"], "head": ["2.weight", "2.bias"]}
    model[1].bias.requires_grad_(False)
    arguments = TrainingArguments(max_steps=1, weight_decay=0.3, layer_decay=layer_decay)
    optimizer = build_optimizer(model, arguments, groups)
    set_learning_rate(optimizer, 0.1)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    rate_of = {name: rates[id(p)] for name, p in model.named_parameters() if id(p) in rates}
    bottom, middle, top = (pytest.approx(0.1 * share) for share in shares)
    assert rate_of == {
        "0.weight": (bottom, 0.3), "1.weight": (middle, 0.3), "2.weight": (top, 0.3), "2.bias": (top, 0.0)
    }  # fmt: skip
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def slanted_triangle(t, T, cut_frac, ratio):
    """Howard & Ruder 2018, equation 3, of the peak."""
    cut = math.floor(T * cut_frac)
    p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
    return (1 + p * (ratio - 1)) / ratio


@pytest.mark.parametrize("T", [30, 100, 105, 2000])
@pytest.mark.parametrize(("cut_frac", "ratio"), [(0.1, 32), (0.25, 10)])
def test_the_slanted_triangle_is_that_of_the_paper(T, cut_frac, ratio):
    rates = factors(T, lr_scheduler_type="slanted_triangular", warmup_steps=cut_frac, lr_ratio=ratio)
    paper = [max(slanted_triangle(t, T, cut_frac, ratio), 1 / ratio) for t in range(T)]
    assert rates == pytest.approx(paper)
    assert max(rates) == rates[math.floor(T * cut_frac)] == 1 and rates[0] == pytest.approx(1 / ratio)
    if T * cut_frac == math.floor(T * cut_frac):  # else the paper's line falls below, even below 0
        assert paper == [slanted_triangle(t, T, cut_frac, ratio) for t in range(T)]
        steps = factors(T, lr_scheduler_type="slanted_triangular", warmup_steps=T * cut_frac, lr_ratio=ratio)
        assert steps == pytest.approx(paper) or T * cut_frac < 1


def test_under_a_time_budget_the_slanted_triangle_follows_the_clock():
    arguments = TrainingArguments(max_time="100s", lr_scheduler_type="slanted_triangular", warmup_steps=0.1)
    rates = [learning_rate_factor(arguments, step=7, max_steps=None, progress=at) for at in (0, 0.05, 0.1, 0.55, 1)]
    assert rates == pytest.approx([1 / 32, (1 + 31 / 2) / 32, 1, (1 + 31 / 2) / 32, 1 / 32])


@pytest.mark.parametrize("text", ["", "5", "h", "-3m", "0s", "3 weeks"])
def test_a_duration_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="90s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "examples"), [(32, 32), ("32", 32), ("4096 tokens", 32), ("100 tokens", 1), ("300 tokens", 2)]
)
def test_a_batch_size_is_examples_or_tokens(size, examples):
    assert TrainingArguments(max_steps=1, train_batch_size=size).batch_sizes(128).final == examples


@pytest.mark.parametrize("wrong", [{"train_batch_size": 0}, {"train_batch_size": "5 rows"}, {"max_steps": 0},
                                   {"max_steps": 3, "max_time": "3s"}, {"warmup_steps": -1},
                                   {"warmup_steps": 0, "lr_scheduler_type": "inverse_sqrt"}, {"save_steps": 0},
                                   {"layer_decay": 0}, {"layer_decay": 1.5}, {"lr_ratio": 0.5}, {"layer_decay": -1},
                                   {"freeze": "backbone", "gradual_unfreezing": True}, {"learning_rate": -1},
                                   {"gradual_unfreezing": 0}, {"gradual_unfreezing": -2},
                                   {"warmup_steps": 9, "lr_scheduler_type": "slanted_triangular", "max_time": "9s"},
                                  ])  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=rf"training\.{next(iter(wrong))}"):
        TrainingArguments(**wrong)
