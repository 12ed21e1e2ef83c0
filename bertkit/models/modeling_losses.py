"""Losses of heads: summed over the labels that count and divided by their number, which may be that of a whole step."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

IGNORED = -100  # a label that is not counted: padding, or a token that was not masked


def normalised(total: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """Divide a summed loss by the number of its labels; no label at all gives 0, not NaN.

    >>> normalised(torch.tensor(6.0), 3), normalised(torch.tensor(0.0), torch.tensor(0))
    (tensor(2.), tensor(0.))
    """
    return total / (count + (count == 0))


def check_positions(positions: torch.Size, labels: torch.Tensor) -> None:
    """Refuse labels that are not of the positions that are scored.

    Args:
        positions: (...) shape of what is scored.
        labels: (...).

    Raises:
        ValueError: naming both shapes.
    """
    if labels.numel() != positions.numel():
        raise ValueError(
            f"the scores are of {tuple(positions)} positions and the labels of {tuple(labels.shape)}; where labels are "
            "given, leave out logits_to_keep"
        )


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Cross entropy in nats over the labels that are not -100.

    Args:
        logits: (..., classes).
        labels: (...) int64, -100 where there is nothing to predict.
        num_items_in_batch: divisor of the summed loss: the labels of the whole step, over all its micro-batches and
            processes. None divides by the labels given here.
        label_smoothing: share of each label's weight that is spread evenly over all classes.
        class_weights: what an error costs by class; the divisor still is the number of labels, so that weights of 1 in the
            mean over the labels leave the loss as large as it was. None: 1 for all.

    Returns:
        A scalar; 0 where there is no label at all.

    Raises:
        ValueError: scores and labels are of different positions.
    """
    check_positions(logits.shape[:-1], labels)
    labels = labels.flatten()
    logits = logits.flatten(0, -2).float()
    plain = not label_smoothing and class_weights is None
    if plain and logits.device.type == "cpu" and not torch.compiler.is_compiling():
        total = _SummedCrossEntropy.apply(logits, labels)
    else:
        weight = None if class_weights is None else logits.new_tensor(class_weights)
        total = F.cross_entropy(
            logits, labels, weight, ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
        )
    return normalised(total, (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


class _SummedCrossEntropy(torch.autograd.Function):
    """torch's cross entropy, with half the passes over the logits on a CPU: 1 % of a BERT mini's step."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_probs = logits.log_softmax(dim=-1)
        counted = (labels != IGNORED)[:, None]
        classes = labels[:, None].where(counted, 0)
        ctx.save_for_backward(log_probs, classes, counted)
        return -log_probs.gather(1, classes).where(counted, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor, None]:
        log_probs, classes, counted = ctx.saved_tensors
        scale = grad_total * counted  # (n, 1)
        grad = log_probs.exp().mul_(scale)
        return grad.scatter_add_(1, classes, -scale), None


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    problem_type: str,
    num_items_in_batch: int | torch.Tensor | None = None,
    class_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Loss of a sequence classification head.

    Args:
        logits: (examples, num_labels).
        labels: (examples,) classes for `single_label_classification`; (examples, num_labels) of 0 and 1 for
            `multi_label_classification`; (examples,) or (examples, num_labels) targets for `regression`. Values of
            -100 are not counted (so -100 itself cannot be a regression target).
        problem_type: one of the three names above.
        num_items_in_batch: number of label values of the whole step; None counts those given here.
        class_weights: (num_labels,) what an error costs by class, of one label an example.

    Returns:
        A scalar: cross entropy, binary cross entropy or squared error a label value; 0 where there is no label.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels, num_items_in_batch, class_weights=class_weights)
    logits = logits.float()
    labels = labels.reshape(logits.shape).to(logits.dtype)
    loss = F.mse_loss if problem_type == "regression" else F.binary_cross_entropy_with_logits
    counted = labels != IGNORED
    total = loss(logits, labels, reduction="none").masked_fill(~counted, 0.0).sum()
    return normalised(total, counted.sum() if num_items_in_batch is None else num_items_in_batch)


def infer_problem_type(num_labels: int, labels: torch.Tensor) -> str:
    """Tell the problem from its labels, as transformers does: one output is regression, integer labels are classes.

    >>> infer_problem_type(3, torch.tensor([0, 2])), infer_problem_type(1, torch.tensor([0.5]))
    ('single_label_classification', 'regression')
    """
    if num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def position_loss(
    logits: torch.Tensor,
    positions: torch.Tensor,
    first: torch.Tensor,
    number: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy of one position an example, chosen among the example's own tokens.

    Args:
        logits: (batch, seq) one score a token.
        positions: (examples,) int64, counted from the example's first token; one that is not in the example, as -100, is not
            counted.
        first: (examples,) int64 flat indices into (batch * seq) of the first tokens.
        number: (batch, seq) which example each position is of; no example's at padding.
        num_items_in_batch: number of examples of the whole step that have a position; None counts those given here.

    Returns:
        A scalar; 0 where no example has a position.

    >>> logits, number = torch.zeros(1, 6), torch.tensor([[0, 0, 1, 1, 1, 2]])
    >>> position_loss(logits, torch.tensor([1, -100]), torch.tensor([0, 2]), number)  # one of two tokens
    tensor(0.6931)
    """
    seq = logits.shape[1]
    rows, column = first // seq, first % seq + positions
    own = number[rows] == torch.arange(len(first), device=first.device)[:, None]  # (examples, seq)
    is_own = own.gather(1, column.clamp(0, seq - 1)[:, None]).squeeze(1)
    column = column.where(is_own & (positions >= 0) & (column < seq), IGNORED)
    scores = logits[rows].float()
    return cross_entropy(scores.masked_fill(~own, torch.finfo(scores.dtype).min), column, num_items_in_batch)
