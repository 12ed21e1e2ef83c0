"""A linear layer that is quicker on CPUs.

torch hands float32 products to MKL, which on processors of AMD reaches 45 to 80 % of the speed of oneDNN, the library that
torch uses for other precisions and that is built in beside it. There all three products go to oneDNN, forward, to the input and
to the weights. The bias's gradient is a product too: torch's sum over rows is several times slower. On processors of Intel,
where MKL is a little quicker than oneDNN, on other devices and in other precisions it is `nn.Linear`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

FEWEST_ROWS = 64  # with less nothing is gained,
_LARGE = 2**21  # but forward, where there are as many weights
_ROWS_WORTH_LAYING_OUT = 2048  # with less, it takes longer than what it saves
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _is_of_amd() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()


PREFERS_ONEDNN = HAS_ONEDNN and _is_of_amd()


class Linear(nn.Linear):
    """`nn.Linear` with the quicker products where they apply."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if not is_quicker(input, self.weight):
            return super().forward(input)
        return _Linear.apply(input, self.weight, self.bias)


def is_quicker(input: torch.Tensor, weight: torch.Tensor) -> bool:
    """Return whether products of an input (..., k) and a weight (n, k) go to oneDNN."""
    return (
        PREFERS_ONEDNN
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()  # or a number of rows would become a condition of the graph
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and input.dim() > 1
        and input.numel() >= _fewest_rows(weight) * input.shape[-1]
        and type(weight) is nn.Parameter  # neither sharded nor quantised
        and not torch.is_autocast_enabled("cpu")
    )


def _fewest_rows(weight: torch.Tensor) -> int:
    return 1 if weight.numel() >= _LARGE and not torch.is_grad_enabled() else FEWEST_ROWS


def times(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return left rightᵀ + bias by oneDNN, for (rows, k) and (n, k)."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


def laid_out(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a copy of weight (n, k) in oneDNN's layout, as the right side of `times` with so many rows on the left."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)


def added_times(summand: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return summand (rows, n) + left rightᵀ by oneDNN, for (rows, k) and (n, k)."""
    return torch.ops.mkldnn._linear_pointwise.binary(left, summand, right, None, "add")


def _transposed_times(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return leftᵀ right by oneDNN, for (rows, n) and (rows, k).

    What is its left side has to be copied first, so that is the narrower of the two.
    """
    if left.shape[1] <= right.shape[1]:
        return times(left.t(), right.t(), None)
    return times(right.t(), left.t(), None).t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        rows = input.flatten(0, -2)
        right = laid_out(weight, len(rows)) if len(rows) >= _ROWS_WORTH_LAYING_OUT else weight
        return times(rows, right, bias).view(*input.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grads = grad_output.flatten(0, -2).contiguous()  # a sum's has no strides: hundreds of times as slow
        rows = input.flatten(0, -2)
        for_input, for_weight, for_bias = ctx.needs_input_grad
        grad_input = times(grads, weight.t(), None).view(input.shape) if for_input else None
        grad_weight = _transposed_times(grads, rows) if for_weight else None
        grad_bias = grads.new_ones(len(grads)) @ grads if for_bias else None
        return grad_input, grad_weight, grad_bias
