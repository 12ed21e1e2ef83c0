"""The learning rate and the decay groups are what their names say."""

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
from bertkit.training.optimization import build_optimizer, learning_rate_factor


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
    st.sampled_from(["linear", "cosine", "warmup_stable_decay", "inverse_sqrt", "constant"]),
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
    decayed, kept = build_optimizer(model, TrainingArguments(max_steps=1, weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3 and [p.ndim for p in decayed["params"]] == [2, 2]
    assert kept["weight_decay"] == 0 and [p.ndim for p in kept["params"]] == [1, 1, 1]


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
                                   {"warmup_steps": 0, "lr_scheduler_type": "inverse_sqrt"}, {"save_steps": 0}])  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=rf"training\.{next(iter(wrong))}"):
        TrainingArguments(**wrong)
