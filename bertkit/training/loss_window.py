"""The losses and the speed between two entries of the log, left on the device until they are read."""

import time
from typing import Any

import torch
from accelerate import Accelerator


class LossWindow:
    """The losses and the speed since the last entry of the log.

    Args:
        loss_terms: fields of the model's output that add up to its loss.
        tokens_seen: real tokens trained on before the window.
    """

    def __init__(self, loss_terms: tuple[str, ...], tokens_seen: int) -> None:
        self.names = ["loss", *(term for term in loss_terms if term != "loss")]
        self.sums: torch.Tensor | None = None  # (names,), on the device: it is read only when it is logged
        self.steps = 0
        self.first_tokens = tokens_seen
        self.started = time.monotonic()

    def add(self, outputs: Any) -> None:
        """Add the losses of a micro-batch, each already divided by the step's count."""
        losses = torch.stack([outputs[name].detach().float() for name in self.names])
        self.sums = losses if self.sums is None else self.sums + losses

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the losses of a step over all processes, averaged since the last entry; to be called by each of them."""
        assert self.sums is not None
        means = (accelerator.reduce(self.sums, reduction="sum") / self.steps).tolist()
        return {f"train_{name}": mean for name, mean in zip(self.names, means, strict=True)}

    def tokens_per_second(self, tokens_seen: int) -> float:
        """Return the real tokens trained on in a second of wall-clock time."""
        return (tokens_seen - self.first_tokens) / max(time.monotonic() - self.started, 1e-9)
