"""Muon: the momentum of a matrix, made orthogonal, is its update; all other parameters train by AdamW.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. The updates are scaled as in Liu et al. 2025,
https://arxiv.org/abs/2502.16982, section 2.2, so that matrices of all shapes move as far as AdamW would move them. torch has
a Muon of its own, which computes in bfloat16 (slow where a processor has no such products) and takes nothing but matrices.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial of degree five that Jordan iterates."""
ITERATIONS = 5
AT_ONCE = (3, 2)
"""The iterations of wide matrices that are put together: with more of them rounding errors grow."""
RMS_OF_ADAMW = 0.2
"""Root mean square of the updates of AdamW, as Liu et al. observe it."""
STACKED = "stacked"
"""Key of a parameter group: how many matrices one on another each of its parameters is, each of which is made orthogonal by
itself, as queries, keys and values are; 0: they train by AdamW."""


class Muon(torch.optim.Optimizer):
    """Muon for groups of matrices, AdamW for the others.

    Args:
        params: groups, each with `STACKED`.
        lr: learning rate.
        momentum: decay rate of the sum of a matrix's gradients; Nesterov's look ahead is made.
        betas: AdamW's decay rates.
        eps: AdamW's divisor guard.
        weight_decay: decoupled weight decay, for both.
        fused: whether AdamW is fused; the device must have it.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        fused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        # By "fused" in the group torch loads the steps of AdamW to the device.
        super().__init__(params, defaults | {"fused": fused, STACKED: 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss again; torch's optimizers take one.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group[STACKED]:
                for matrix in trained:
                    self._update_matrix(matrix, group)
            elif trained:
                self._update_by_adamw(trained, group)
        return loss

    def _update_matrix(self, matrix: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        momentum, buffer = group["momentum"], state["momentum_buffer"]
        assert matrix.grad is not None
        buffer.mul_(momentum).add_(matrix.grad)
        update = orthogonal(matrix.grad.add(buffer, alpha=momentum), group[STACKED])
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        rows, columns = matrix.shape[:-1].numel() // group[STACKED], matrix.shape[-1]
        matrix.add_(update, alpha=-group["lr"] * RMS_OF_ADAMW * max(rows, columns) ** 0.5)

    def _update_by_adamw(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(
                    (), dtype=torch.float32, device=parameter.device if group["fused"] else "cpu"
                )
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonal(matrix: torch.Tensor, stacked: int = 1) -> torch.Tensor:
    """Return about the nearest matrix with singular values of 1 (here between 0.7 and 1.2), by Newton-Schulz iteration.

    Args:
        matrix: (..., n, m); may be sharded, and is then gathered for it.
        stacked: how many matrices one on another it is, each of which is made orthogonal by itself.

    Returns:
        (..., n, m), in the precision and sharded as `matrix`. On GPUs the products are in bfloat16, as Jordan has it.
    """
    if isinstance(matrix, DTensor):
        whole = orthogonal(matrix.full_tensor(), stacked)
        return distribute_tensor(whole, matrix.device_mesh, matrix.placements, src_data_rank=None)  # each cuts its own
    if stacked > 1:
        parts = matrix.flatten(0, -2).chunk(stacked)
        return torch.cat([orthogonal(part) for part in parts]).view(matrix.shape)
    x = matrix.bfloat16() if matrix.device.type == "cuda" else matrix
    is_tall = x.shape[0] > x.shape[1]
    x = x.t() if is_tall else x
    x = x / (x.norm() + 1e-7)  # no singular value above 1
    is_wide = x.shape[1] >= 2 * x.shape[0]
    x = _iterate_by_squares(x) if is_wide and x.dtype in (torch.float32, torch.float64) else _iterate(x)
    return (x.t() if is_tall else x).to(matrix.dtype)


def _iterate(x: torch.Tensor) -> torch.Tensor:
    """Replace (n, m) by (a + b x xᵀ + c (x xᵀ)²) x, time after time."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_by_squares(x: torch.Tensor) -> torch.Tensor:
    """Do the same with fewer products of (n, m): two thirds of the work where m is 4 n.

    What an iteration multiplies x by is symmetric and commutes with x xᵀ, so x xᵀ becomes factor · x xᵀ · factor, for which x
    need not be there. x xᵀ has the squares of the singular values, of which half precision would keep too little.
    """
    for iterations in AT_ONCE:
        gram = x @ x.t()
        product = factor = _factor(gram)
        for _ in range(iterations - 1):
            gram = factor @ gram @ factor
            factor = _factor(gram)
            product = factor @ product
        x = product @ x
    return x


def _factor(gram: torch.Tensor) -> torch.Tensor:
    """Return a + b x xᵀ + c (x xᵀ)²."""
    a, b, c = COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor
