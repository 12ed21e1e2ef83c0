"""Output layer and cross entropy in one, in blocks of positions: the scores of all positions never exist together.

With them would go their logarithms and their gradient, which are most of the memory of a small language model's step. The
gradients are computed with the loss, while a block's scores are there, and the backward pass only scales them, as in
Liger-Kernel (Hsu et al. 2024, https://arxiv.org/abs/2410.10989).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .modeling_linear import FEWEST_ROWS, Linear, added_times, is_quicker, laid_out, times
from .modeling_losses import IGNORED, check_positions, cross_entropy, normalised

# Positions of a block, at least. What a block adds to the gradient of the weights costs as much whatever its size, and
# compared with the products it costs the less the more positions there are, for any width and vocabulary. GPUs compute more
# while they move a number.
_POSITIONS = {"cpu": 256}
_POSITIONS_ELSEWHERE = 2048
_COUNTED_ON = ("cpu",)  # where positions without a label are left out; elsewhere the host would wait for their number
_EVEN = 64  # products of a number of rows that this divides are quicker


def scores_and_loss(
    head: Any,
    states: torch.Tensor,
    labels: torch.Tensor | None,
    num_items_in_batch: int | torch.Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    skip_logits: bool = False,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Compute what the head of a language model returns.

    Args:
        head: the output layer, or a module whose forward is `decoder(transform(states))`.
        states: (..., hidden).
        labels: (...) as `cross_entropy` takes them. None: there is no loss.
        num_items_in_batch: divisor of the summed loss.
        label_smoothing: share of each label's weight that is spread over all classes.
        skip_logits: the scores are not wanted, and the memory they take is spared.

    Returns:
        The scores (..., vocab), None if skipped; and the loss, None without labels.

    Raises:
        ValueError: scores and labels are of different positions.
    """
    if not skip_logits:
        logits = head(states)
        return logits, None if labels is None else cross_entropy(logits, labels, num_items_in_batch, label_smoothing)
    if labels is None:
        return None, None
    if hasattr(head, "decoder") and not _is_hooked(head):
        states, head = head.transform(states), head.decoder
    return None, linear_cross_entropy(head, states, labels, num_items_in_batch, label_smoothing)


def linear_cross_entropy(
    layer: nn.Module,
    states: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: int | torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Compute `cross_entropy(layer(states), labels, ...)`, in blocks where the layer is a plain linear one.

    Args:
        layer: (..., hidden) to (..., vocab).
        states: (..., hidden).
        labels: (...) int64, -100 where there is nothing to predict.
        num_items_in_batch: divisor of the summed loss; None divides by the labels given here.
        label_smoothing: share of each label's weight that is spread evenly over all classes.

    Returns:
        A scalar; 0 where there is no label at all.

    Raises:
        ValueError: states and labels are of different positions.
    """
    if not _goes_by_blocks(layer, states):
        return cross_entropy(layer(states), labels, num_items_in_batch, label_smoothing)
    check_positions(states.shape[:-1], labels)
    labels = labels.flatten()
    total = _SummedLinearCrossEntropy.apply(
        states.flatten(0, -2), layer.weight, layer.bias, labels, label_smoothing, torch.is_grad_enabled()
    )
    return normalised(total, (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def _is_hooked(module: nn.Module) -> bool:
    """Return whether somebody relies on the module being called: to bring its weights, or to look at what it gives."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(hooks) or "forward" in vars(module)


def _goes_by_blocks(layer: nn.Module, states: torch.Tensor) -> bool:
    return (
        type(layer) in (Linear, nn.Linear)  # not wrapped by an adapter
        and type(layer.weight) is nn.Parameter  # neither sharded nor quantised
        and not _is_hooked(layer)
        and torch.float16
        not in (layer.weight.dtype, _autocast_dtype(states))  # needs the loss's scale in the gradients
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
    )


def _autocast_dtype(states: torch.Tensor) -> torch.dtype | None:
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


class _SummedLinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        label_smoothing: float,
        has_backward: bool,
    ) -> torch.Tensor:
        wanted = tuple(has_backward and needed for needed in ctx.needs_input_grad[:3])
        if states.device.type in _COUNTED_ON and not bool((labels != IGNORED).all()):
            positions = (labels != IGNORED).nonzero().squeeze(1)
            total, gradients = _by_blocks(states[positions], weight, bias, labels[positions], label_smoothing, wanted)
            if gradients[0] is not None:
                gradients[0] = torch.zeros_like(states).index_copy_(0, positions, gradients[0])
        else:
            total, gradients = _by_blocks(states, weight, bias, labels, label_smoothing, wanted)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = (None if gradient is None else gradient * grad_total for gradient in ctx.saved_tensors)
        return (*gradients, None, None, None)


def _by_blocks(
    states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    label_smoothing: float,
    wanted: tuple[bool, ...],
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Return the summed loss and its gradients to states (n, hidden), weight (vocab, hidden) and bias, those wanted."""
    for_states, for_weight, for_bias = wanted
    quick = len(states) >= FEWEST_ROWS and is_quicker(states, weight)  # for less, laying out costs more than it saves
    dtype = _autocast_dtype(states)
    left, right = states.to(dtype or states.dtype), weight.to(dtype or weight.dtype)
    shift = None if bias is None else bias.to(dtype or bias.dtype)
    size = _block_size(len(states), _POSITIONS.get(states.device.type, _POSITIONS_ELSEWHERE))
    back = laid_out(weight.t(), size) if quick and for_states else None  # once, not for every block
    if quick:
        right = laid_out(weight, size)
    total = torch.zeros((), device=states.device)
    grad_states = torch.empty_like(states) if for_states else None
    grad_weight = (
        weight.new_zeros(*weight.t().shape, dtype=_sum_dtype(weight)) if for_weight else None
    )  # (hidden, vocab)
    grad_bias = weight.new_zeros(len(weight), dtype=_sum_dtype(weight)) if for_bias else None
    first = 0
    with torch.autocast(states.device.type, enabled=False):
        for block, classes in zip(left.split(size), labels.split(size), strict=True):
            scores = times(block, right, shift) if quick else F.linear(block, right, shift)  # (block, vocab)
            grads = scores.float()
            total += _to_gradient(grads, classes, label_smoothing)
            if grad_bias is not None:
                grad_bias += grads.new_ones(len(grads)) @ grads
            grads = grads.to(block.dtype)
            if grad_states is not None:
                grad_states[first : first + len(block)] = grads @ right if back is None else times(grads, back, None)
            if grad_weight is not None:
                if quick:
                    grad_weight = added_times(grad_weight, block.t(), grads.t())
                elif grads.dtype == grad_weight.dtype:
                    grad_weight.addmm_(block.t(), grads)
                else:
                    grad_weight += block.t() @ grads
            first += len(block)
            del scores, grads  # or two blocks' would be there at once
    gradients = [
        grad_states,
        None if grad_weight is None else grad_weight.t().to(weight.dtype),
        None if grad_bias is None else grad_bias.to(weight.dtype),
    ]
    return total, gradients


def _block_size(positions: int, at_least: int) -> int:
    """Divide positions into blocks about as large as each other, none of them small.

    >>> _block_size(4096, 512), _block_size(614, 512), _block_size(1000, 400)  # of 614 all, of 1000 512 and 488
    (512, 640, 512)
    """
    size = -(-positions // max(1, positions // at_least))
    return max(1, -(-size // _EVEN)) * _EVEN


def _sum_dtype(parameter: torch.Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)  # sums of blocks in half the bits would lose some


def _to_gradient(scores: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Turn the scores (block, vocab) of a block into the gradient to them, in place; return its summed loss."""
    classes = labels[:, None]
    counted = classes != IGNORED
    classes = classes.where(counted, 0)
    largest, of_label = scores.amax(dim=1, keepdim=True), scores.gather(1, classes)
    mean = scores.mean(dim=1, keepdim=True) if label_smoothing else 0.0
    sums = scores.sub_(largest).exp_().sum(dim=1, keepdim=True)
    losses = (largest - of_label) + sums.log()
    if label_smoothing:
        losses = (1 - label_smoothing) * losses + label_smoothing * ((largest - mean) + sums.log())
    scores.mul_(counted / sums)
    scores.scatter_add_(1, classes, (label_smoothing - 1) * counted.to(scores.dtype))
    if label_smoothing:
        scores.sub_(counted * (label_smoothing / scores.shape[1]))
    return losses.where(counted, 0).sum()
