"""The losses of the steps: read without making the device wait, averaged for the log, and judged.

The losses of a step are read when the step after it has been handed to the device, so that reading them makes no device wait.
"""

import math
import statistics
from typing import Any

import torch
from torch.distributed.tensor import DTensor

SPIKE_MEMORY = 100  # losses that a spike is measured against
SPIKE_PATIENCE = 20  # losses there must be before anything is called a spike


class StepLosses:
    """One process's losses of one step.

    Args:
        names: fields of the model's output to read.
        step: which step, counted from 1.
    """

    def __init__(self, names: list[str], *, step: int) -> None:
        self.names = names
        self.step = step
        self.sums: torch.Tensor | None = None  # (names,), on the device
        self.grad_norm: torch.Tensor | None = None
        self._copied: torch.Event | None = None

    def add(self, outputs: Any) -> None:
        """Add the losses of a micro-batch, each already divided by the step's count."""
        losses = torch.stack([outputs[name].detach().float() for name in self.names])
        self.sums = losses if self.sums is None else self.sums + losses

    def send(self) -> None:
        """Start to copy the losses and the norm to the host, behind what the device has been given so far."""
        assert self.sums is not None
        if isinstance(self.grad_norm, DTensor):  # of a sharded model
            self.grad_norm = self.grad_norm.full_tensor()
        if self.sums.device.type != "cpu":
            self.sums = self.sums.to("cpu", non_blocking=True)
            self.grad_norm = None if self.grad_norm is None else self.grad_norm.to("cpu", non_blocking=True)
            self._copied = torch.Event()
            self._copied.record()

    def read(self) -> list[float]:
        """Return the losses; waits for those on their way."""
        assert self.sums is not None
        if self._copied is not None:
            self._copied.synchronize()
        return self.sums.tolist()


class LossWindow:
    """The losses since the last entry of the log; part of what a checkpoint keeps, so that a resumed run logs the same.

    Args:
        names: what the losses are called.
        sums: (names,) sums so far.
        steps: steps so far.
    """

    def __init__(self, names: list[str], sums: list[float], steps: int) -> None:
        self.names = names
        self.sums = sums or [0.0] * len(names)
        self.steps = steps

    def add(self, losses: list[float]) -> None:
        """Add the losses of a step, over all processes."""
        self.sums = [total + loss for total, loss in zip(self.sums, losses, strict=True)]
        self.steps += 1

    def means(self) -> dict[str, float]:
        """Return the mean losses of a step; nothing if every step was passed over."""
        return {
            f"train_{name}": total / self.steps for name, total in zip(self.names, self.sums, strict=True) if self.steps
        }


def what_is_wrong(loss: float, recent: list[float], spike_factor: float | None) -> str | None:
    """Say what is wrong with the loss of a step, if anything.

    Args:
        loss: in nats.
        recent: the losses of the steps before, at most `SPIKE_MEMORY`.
        spike_factor: how many times their median is a spike; None: nothing is.

    >>> what_is_wrong(9.0, [3.0] * 20, 2.5), what_is_wrong(9.0, [3.0] * 20, None)
    ('the loss is 9.0000, more than 2.5 times 3.0000, the median of the last 20 steps', None)
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if spike_factor is not None and len(recent) >= SPIKE_PATIENCE:
        median = statistics.median(recent)
        if loss > spike_factor * median:
            typical = f"{median:.4f}, the median of the last {len(recent)} steps"
            return f"the loss is {loss:.4f}, more than {spike_factor:g} times {typical}"
    return None
