"""How large the batch of each step is."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class BatchSizes:
    """The global batch size of every step, and how many examples come before it: arithmetic, so no step is walked to.

    Args:
        final: examples in a step.
        first: examples in the first step, while the batch grows.
        growing_steps: steps over which it grows in a line from `first` to `final`.

    >>> sizes = BatchSizes(final=8, first=4, growing_steps=4)
    >>> [sizes.of(step) for step in range(6)], [sizes.before(step) for step in range(6)], sizes.steps_for(23)
    ([4, 5, 6, 7, 8, 8], [0, 4, 9, 15, 22, 30], 5)
    """

    final: int
    first: int
    growing_steps: int

    def of(self, step: int) -> int:
        """Return the examples in a step over all processes."""
        if step >= self.growing_steps:
            return self.final
        return self.first + step * (self.final - self.first) // self.growing_steps

    def before(self, step: int) -> int:
        """Return the examples in all steps before one."""
        growing = min(step, self.growing_steps)
        return self._growing_ends[growing] + (step - growing) * self.final

    def steps_for(self, examples: int) -> int:
        """Return the steps it takes to train on a number of examples."""
        rest = examples - self._growing_ends[-1]
        if rest > 0:
            return self.growing_steps + -(-rest // self.final)
        return bisect_left(self._growing_ends, examples)

    @cached_property
    def _growing_ends(self) -> list[int]:
        """Examples before each step in which the batch grows, and before the first in which it does not."""
        return list(accumulate(map(self.of, range(self.growing_steps)), initial=0))
