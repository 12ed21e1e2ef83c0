"""Where a process finds its examples: places in the endless stream, by the numbers of the step and the micro-batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bertkit.training.batch_sizes import BatchSizes


@dataclass(frozen=True)
class Places:
    """Where the examples of a process's micro-batches are in the stream; sent to the processes that prepare batches.

    Args:
        sizes: the global batch size of every step.
        rank: which process.
        processes: of how many.
        micro_batch_size: most examples a process computes at once; None: all of its share.
        max_steps: steps of the training, unless a time budget decides.
        share_of_time: share of that budget that is spent, in memory shared with the processes that prepare batches.
    """

    sizes: BatchSizes
    rank: int
    processes: int
    micro_batch_size: int | None
    max_steps: int | None
    share_of_time: torch.Tensor

    def micro_batches(self, step: int) -> int:
        """Return the micro-batches of a step: equally many in every process, none of them empty."""
        size = self.sizes.of(step)
        share = -(-size // self.processes)  # of the process that has most
        micro_batch_size = min(self.micro_batch_size or share, share)
        return min(-(-share // micro_batch_size), size // self.processes)

    def bounds(self, step: int, micro: int) -> tuple[int, int]:
        """Return the places of the first example of a micro-batch and behind its last."""
        size, before, micro_batches = self.sizes.of(step), self.sizes.before(step), self.micro_batches(step)
        first = before + self.rank * size // self.processes
        length = before + (self.rank + 1) * size // self.processes - first
        return first + micro * length // micro_batches, first + (micro + 1) * length // micro_batches

    def bounds_of(self, number: tuple[int, int]) -> tuple[int, int]:
        """Return the bounds of the micro-batch that has this number of step and micro-batch."""
        return self.bounds(*number)

    def progress_of(self, number: tuple[int, int]) -> float:
        """Return how far the training is at the step of the micro-batch that has this number."""
        return self.progress(number[0])

    def from_step(self, step: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of step and micro-batch from a step on, to the end of the training."""
        while self.max_steps is None or step < self.max_steps:
            yield from ((step, micro) for micro in range(self.micro_batches(step)))
            step += 1

    def progress(self, step: int) -> float:
        """Return how far the training is at a step, from 0 to 1."""
        if self.max_steps is None:
            return self.share_of_time.item()
        return min(step / self.max_steps, 1.0)
