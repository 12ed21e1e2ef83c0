"""Losses of heads against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.models.modeling_losses import classification_loss, cross_entropy

PROBLEMS = ["single_label_classification", "multi_label_classification", "regression"]


def logits_and_labels(problem_type, examples=5):
    torch.manual_seed(examples)
    logits = torch.randn(examples, 3, requires_grad=True)
    labels = {
        "single_label_classification": torch.randint(0, 3, (examples,)),
        "multi_label_classification": torch.randint(0, 2, (examples, 3)).float(),
        "regression": torch.randn(examples, 3),
    }
    return logits, labels[problem_type]


@given(st.lists(st.sampled_from([-100, 0, 1, 2]), min_size=1, max_size=12).filter(lambda labels: set(labels) != {-100}))
@settings(deadline=None)
def test_cross_entropy_is_torchs_mean_over_the_labels_that_count(labels):
    logits = torch.randn(len(labels), 3)
    torch.testing.assert_close(
        cross_entropy(logits, torch.tensor(labels)), F.cross_entropy(logits, torch.tensor(labels))
    )


@pytest.mark.parametrize("labels", [[0, -100, 2, 1], [-100, -100, -100, 2], [-100] * 4], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_the_gradient_of_cross_entropy_is_torchs(labels, size):
    logits, labels = (size * torch.randn(4, 3, dtype=torch.float64)).requires_grad_(), torch.tensor(labels)
    ours = cross_entropy(logits, labels, torch.tensor(7))
    oracle = F.cross_entropy(logits.float(), labels, reduction="sum") / 7
    torch.testing.assert_close(ours, oracle)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(oracle, logits))


@pytest.mark.parametrize("problem_type", PROBLEMS)
def test_classification_loss_is_torchs(problem_type):
    logits, labels = logits_and_labels(problem_type)
    oracle = {
        "single_label_classification": F.cross_entropy,
        "multi_label_classification": F.binary_cross_entropy_with_logits,
        "regression": F.mse_loss,
    }[problem_type]
    torch.testing.assert_close(classification_loss(logits, labels, problem_type), oracle(logits, labels))


def test_one_number_an_example_may_come_without_its_last_dimension():
    logits, labels = torch.randn(4, 1), torch.randn(4)
    torch.testing.assert_close(classification_loss(logits, labels, "regression"), F.mse_loss(logits[:, 0], labels))


@pytest.mark.parametrize("problem_type", PROBLEMS)
def test_padded_examples_change_neither_loss_nor_gradient(problem_type):
    logits, labels = logits_and_labels(problem_type)
    loss = classification_loss(logits, labels, problem_type)
    (gradient,) = torch.autograd.grad(loss, logits)
    padded_labels = torch.cat([labels, torch.full_like(labels[:2], -100)])
    padded_loss = classification_loss(torch.cat([logits, logits[:2]]), padded_labels, problem_type)
    torch.testing.assert_close(padded_loss, loss)
    torch.testing.assert_close(torch.autograd.grad(padded_loss, logits)[0], gradient)


@pytest.mark.parametrize("problem_type", PROBLEMS)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_micro_batches_divided_by_the_count_of_the_step_add_up_to_its_mean(problem_type, as_tensor):
    logits, labels = logits_and_labels(problem_type)
    count = labels.numel()
    count = torch.tensor(count) if as_tensor else count
    parts = [classification_loss(logits[i], labels[i], problem_type, count) for i in (slice(0, 1), slice(1, 5))]
    torch.testing.assert_close(sum(parts), classification_loss(logits, labels, problem_type))


def test_a_count_below_one_is_honoured():
    # a trainer whose processes average their gradients divides the count by their number
    logits, labels = torch.randn(1, 3), torch.tensor([1])
    torch.testing.assert_close(cross_entropy(logits, labels, torch.tensor(0.5)), 2 * F.cross_entropy(logits, labels))


@pytest.mark.parametrize("problem_type", PROBLEMS)
@pytest.mark.parametrize("count", [None, 0, torch.tensor(0)])
def test_no_label_gives_loss_0_and_gradient_0(problem_type, count):
    logits, labels = logits_and_labels(problem_type)
    loss = classification_loss(logits, torch.full_like(labels, -100), problem_type, count)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, logits)[0].abs().max() == 0
