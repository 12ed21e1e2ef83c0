"""The recurrent state that rows carry from step to step, in truncated backpropagation through time.

Every row of the global batch has a state of its own, which the row of the same number goes on from in the next step, whichever
process and micro-batch it then lies in. So checkpoints keep the states by row, over all processes.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from bertkit.training.checkpointing import CARRIED_STATE_FILE


class CarriedState:
    """The states of the rows that this process computes.

    A model whose state can be carried returns it as `past_key_values`, of a class that takes itself apart by `tensors()` into
    (rows, width) tensors; the model names that class by `state_class`, and it puts a state together by `from_tensors`.

    Args:
        model: the model, not wrapped.
        num_rows: rows of a step, over all processes; 0 where nothing is carried, and then nothing here does anything.
        accelerator: says which of the rows are this process's.

    Raises:
        ValueError: the model has no state to carry, or there are fewer rows than processes.
    """

    def __init__(self, model: Any, *, num_rows: int, accelerator: Accelerator) -> None:
        self.num_rows = num_rows
        self.accelerator = accelerator
        self.first, self.last = self._rows_of(accelerator.process_index)
        self._tensors: list[torch.Tensor] = []  # (rows of this process, width) each; none before the first step
        self._new: list[list[torch.Tensor]] = []  # of the micro-batches so far of the running step, (rows, width) each
        if not num_rows:
            return
        self._state_class: Any = getattr(model, "state_class", None)
        if self._state_class is None:
            raise ValueError(
                f"{type(model).__name__} has no recurrent state to carry from step to step; choose a recurrent "
                "model.family, or set objective.carry_state false"
            )
        if num_rows < accelerator.num_processes:
            raise ValueError(
                f"{num_rows} rows that go on from step to step cannot be shared by {accelerator.num_processes} processes; "
                "give each at least one"
            )

    def _rows_of(self, process: int) -> tuple[int, int]:
        """Return the first row of a process, and the one behind its last, as `Places` shares them out."""
        processes = self.accelerator.num_processes
        return process * self.num_rows // processes, (process + 1) * self.num_rows // processes

    def arguments(self, start: int, stop: int) -> dict[str, Any]:
        """Return what the model's forward takes beside a batch.

        Args:
            start: place of the batch's first row in the endless stream of rows.
            stop: place behind its last row.
        """
        if not self.num_rows:
            return {}
        if not self._tensors:
            return {"use_cache": True}
        row = start % self.num_rows - self.first
        rows = [tensor[row : row + stop - start] for tensor in self._tensors]
        return {"use_cache": True, "past_key_values": self._state_class.from_tensors(rows)}

    def add(self, outputs: Any) -> None:
        """Take the states that a micro-batch ended in; those of a step are given in order of their rows."""
        if self.num_rows:
            self._new.append([tensor.detach() for tensor in outputs.past_key_values.tensors()])

    def step(self, *, keep: bool = True) -> None:
        """End a step: the next one goes on from the states added, or, as if it had not been, from those before."""
        if keep and self._new:
            self._tensors = [torch.cat(of_rows) for of_rows in zip(*self._new, strict=True)]
        self._new = []

    def gather(self) -> dict[str, torch.Tensor]:
        """Return the states of all rows, (rows of the step, width) each, on every process; nothing before the first step."""
        shares = [self._rows_of(process) for process in range(self.accelerator.num_processes)]
        longest = max(last - first for first, last in shares)
        gathered = {}
        for number, tensor in enumerate(self._tensors):
            padded = torch.cat([tensor, tensor.new_zeros(longest - len(tensor), *tensor.shape[1:])])
            together = self.accelerator.gather(padded).cpu().split(longest)
            parts = [part[: last - first] for part, (first, last) in zip(together, shares, strict=True)]
            gathered[f"{number:04d}"] = torch.cat(parts).contiguous()
        return gathered

    def forget(self) -> None:
        """Go on as before the first step."""
        self._tensors, self._new = [], []

    def load(self, folder: Path) -> None:
        """Go on from the states that a checkpoint holds, or from none where it holds none."""
        path = folder / "state" / CARRIED_STATE_FILE
        states = load_file(path) if self.num_rows and path.is_file() else {}
        self._new = []
        self._tensors = [states[name][self.first : self.last].to(self.accelerator.device) for name in sorted(states)]
