"""What follows when the loss or the gradient of a step goes wrong: the run ends, makes no update, or goes back."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bertkit.training.arguments import TrainingArguments
from bertkit.training.checkpointing import TrainerState
from bertkit.training.losses import SPIKE_MEMORY, LossWindow, StepLosses, what_is_wrong


@dataclass(frozen=True)
class BadStep:
    """A step that went wrong."""

    step: int
    """Counted from 1."""
    wrong: str
    """What, in words."""


class LossPolicy:
    """Reads the losses of the steps in their order, judges them, and says what follows.

    Args:
        arguments: which policy, and what counts as wrong.
        names: fields of the model's output that are losses, the whole one first.
        state: where the training stands.
        add_up: adds up numbers over all processes.
        is_scaled: a loss scaler of fp16 takes care of gradients that are not finite.
    """

    def __init__(
        self,
        arguments: TrainingArguments,
        names: list[str],
        state: TrainerState,
        *,
        add_up: Callable[[torch.Tensor], torch.Tensor],
        is_scaled: bool,
    ) -> None:
        self.arguments = arguments
        self.names = names
        self.add_up = add_up
        self.is_scaled = is_scaled
        self.unread: deque[StepLosses] = deque()  # of the last steps, perhaps still on their way to the host
        self.grad_norm: float | None = None
        """Of the last step that was read."""
        self.start_from(state)

    def start_from(self, state: TrainerState) -> None:
        """Forget what was not read, and go on with the losses since the last log entry that a state has."""
        self.unread.clear()
        self.window = LossWindow(self.names, state.window_sums, state.window_steps)

    def read(self, state: TrainerState, *, but: int) -> BadStep | None:
        """Read what the steps' losses were, all of them `but` the newest, up to the first that went wrong.

        Args:
            state: its `recent_losses` are what a spike is measured against, and are added to.
            but: steps to leave unread.

        Returns:
            The step that went wrong, if one did.
        """
        while len(self.unread) > but:
            losses = self.unread.popleft()
            values = self.add_up(torch.tensor(losses.read(), dtype=torch.float64)).tolist()
            grad_norm = None if losses.grad_norm is None else float(losses.grad_norm)
            wrong = what_is_wrong(values[0], state.recent_losses, self.arguments.loss_spike_factor)
            if wrong is None and grad_norm is not None and not math.isfinite(grad_norm) and not self.is_scaled:
                wrong = f"the gradient's norm is {grad_norm}"
            if wrong is not None:
                return BadStep(losses.step, wrong)
            self.window.add(values)
            state.recent_losses = [*state.recent_losses, values[0]][-SPIKE_MEMORY:]
            self.grad_norm = grad_norm
        return None

    def go_back_to(self, bad: BadStep, state: TrainerState, newest_whole: Callable[[], Path | None]) -> Path | None:
        """Say where the run goes back to after a step that went wrong.

        Args:
            bad: the step.
            state: knows the steps that were passed over already.
            newest_whole: finds the last whole checkpoint, for which it reads it.

        Returns:
            The last whole checkpoint; None where the policy is to make no update and go on.

        Raises:
            FloatingPointError: the policy is to stop, too many steps went wrong, or there is no checkpoint.
        """
        policy, count = self.arguments.loss_policy, len(state.passed_over) + 1
        goes_on = policy != "stop" and count <= self.arguments.max_bad_steps
        if goes_on and policy == "skip":
            return None
        folder = newest_whole()
        if goes_on and folder is not None:
            return folder
        so_far = f", the {count}th step that went wrong" if policy != "stop" else ""
        go_on = f"go on from {folder}" if folder else "start again"
        raise FloatingPointError(
            f"{bad.wrong} at step {bad.step}{so_far}; {go_on} with a lower training.learning_rate, or with "
            "training.loss_policy skip or rollback"
        )
