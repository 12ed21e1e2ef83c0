"""Where a process finds its examples: places in the endless stream, by the number of the micro-batch."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Places:
    """Where the examples of a process's micro-batches are in the stream; sent to the processes that prepare batches.

    Args:
        batch_size: examples in a step over all processes.
        rank: which process.
        processes: of how many.
        accumulation: micro-batches in a step.
        max_steps: steps of the training, unless a time budget decides.
        share_of_time: share of that budget that is spent, in memory shared with the processes that prepare batches.
    """

    batch_size: int
    rank: int
    processes: int
    accumulation: int
    max_steps: int | None
    share_of_time: torch.Tensor

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the places of the first example of a micro-batch and behind its last, by its number in the run."""
        step, micro = divmod(number, self.accumulation)
        first = self.rank * self.batch_size // self.processes
        last = (self.rank + 1) * self.batch_size // self.processes
        start = first + micro * (last - first) // self.accumulation
        stop = first + (micro + 1) * (last - first) // self.accumulation
        return step * self.batch_size + start, step * self.batch_size + stop

    def progress(self, number: int) -> float:
        """Return how far the training is at a micro-batch, from 0 to 1."""
        if self.max_steps is None:
            return self.share_of_time.item()
        return min(number // self.accumulation / self.max_steps, 1.0)
