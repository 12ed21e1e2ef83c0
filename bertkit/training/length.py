"""How long a training is: so many steps, or so much time."""

import math
from dataclasses import dataclass

from bertkit.training.arguments import TrainingArguments
from bertkit.training.checkpointing import TrainerState


@dataclass(frozen=True)
class Length:
    """The length of a training; exactly one of the two is given.

    Args:
        max_steps: steps.
        time_budget: seconds.
    """

    max_steps: int | None
    time_budget: float | None

    @classmethod
    def of(cls, arguments: TrainingArguments, *, tokens_per_example: int, num_examples: int) -> "Length":
        """Return the length that the settings ask for.

        Args:
            arguments: the settings.
            tokens_per_example: length of a row, for a batch size given in tokens.
            num_examples: examples in an epoch.

        Raises:
            ValueError: they ask for none.
        """
        if arguments.num_train_epochs is not None:
            sizes = arguments.batch_sizes(tokens_per_example)
            return cls(sizes.steps_for(math.ceil(arguments.num_train_epochs * num_examples)), None)
        if arguments.max_steps is None and arguments.max_time is None:
            raise ValueError(
                "how long to train? give training.max_steps, training.num_train_epochs or training.max_time"
            )
        return cls(arguments.max_steps, arguments.time_budget)

    @property
    def unit(self) -> str:
        """What is counted."""
        return "s" if self.max_steps is None else "step"

    @property
    def total(self) -> int:
        """How many of them there are."""
        return round(self.time_budget or 0) if self.max_steps is None else self.max_steps

    def done(self, state: TrainerState) -> int:
        """Return how many of them are done."""
        return int(state.elapsed_seconds) if self.max_steps is None else state.global_step

    def progress(self, state: TrainerState) -> float:
        """Return how far the training is, from 0 to 1."""
        if self.max_steps is not None:
            return min(state.global_step / self.max_steps, 1.0)
        assert self.time_budget
        return min(state.elapsed_seconds / self.time_budget, 1.0)
