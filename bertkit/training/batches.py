"""What the Trainer draws from: batches that are computed from the places of their examples in an endless stream."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from bertkit.data.keyed_random import keyed_bits

Number = TypeVar("Number")

FindEdges = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]

IGNORED_LABEL = -100
EDGES = "cu_seq_lens_q"
"""What a model with flash attention calls the edges of the examples, as transformers does."""


class Evaluation(Protocol):
    """What an evaluation adds up, batch by batch."""

    totals: dict[str, torch.Tensor]
    """Tensors in the host's memory that are summed over the processes before `compute`."""

    def add(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> None:
        """Add a batch whose losses were computed as sums."""

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""


class Batches(Protocol):
    """Examples without end, epoch after epoch."""

    loss_terms: tuple[str, ...]
    """Fields of the model's output that add up to its loss; the first is the one that `loss_floor` bounds."""
    metric_names: tuple[str, ...]
    """What an evaluation gives; the first one names the best checkpoint unless the user names another."""
    tokens_per_example: int
    """Tokens of an example, at most: what a batch size given in tokens is divided by."""
    carried_rows: int
    """Rows of a step, where each goes on with what the row of its number had in the step before, and the model with the state
    it ended in; 0 where examples have nothing to do with each other."""

    floor_name: str
    """What the loss of the best guess that ignores the input is, as `unigram entropy of the labels`."""
    loss_unit: str
    """The unit of the loss, as `nats`; empty where it has none."""

    @property
    def label_counts(self) -> Mapping[str, str]:
        """Argument of the model's forward -> batch entry whose labels it counts; the losses are divided by these numbers."""

    @property
    def loss_floor(self) -> float:
        """Loss of the best guess that ignores the input."""

    @property
    def bits_per_nat(self) -> Mapping[str, tuple[str, float]]:
        """Metric in bits a byte of the text -> the loss it is of, and how many a nat is; empty where there is none."""

    def __len__(self) -> int:
        """Examples in an epoch."""

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Compute the batch of the examples at places `start` to `stop` of the stream.

        Besides what the model's forward takes, `example_ids` (labels,) may say which example each label belongs to.
        `progress` says how far the training is, from 0 to 1.
        """

    def num_tokens(self, batch: Mapping[str, torch.Tensor]) -> int:
        """Return the real tokens of a batch, padding not counted."""

    def evaluation(self) -> Evaluation:
        """Begin an evaluation."""


class MicroBatches(Dataset[dict[str, torch.Tensor]], Generic[Number]):
    """The micro-batches of one process, by number.

    Args:
        batches: where they come from.
        bounds: places of the first example of a micro-batch and behind its last.
        progress: how far the training is at a micro-batch.
        find_edges: `position_ids` and `attention_mask` of packed rows -> where their examples begin and end, for a model that
            asks; else None.
    """

    def __init__(
        self,
        batches: Batches,
        *,
        bounds: Callable[[Number], tuple[int, int]],
        progress: Callable[[Number], float],
        find_edges: FindEdges | None = None,
    ) -> None:
        self.batches = batches
        self.bounds = bounds
        self.progress = progress
        self.find_edges = find_edges

    def __getitem__(self, number: Number) -> dict[str, torch.Tensor]:
        start, stop = self.bounds(number)
        arrays = self.batches.batch(start, stop, self.progress(number))
        batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        if self.find_edges is not None and "position_ids" in batch:
            batch[EDGES] = self.find_edges(batch["position_ids"], batch.get("attention_mask"))
        return batch


def digest(batch: Mapping[str, torch.Tensor], label_counts: Mapping[str, str]) -> int:
    """Sum up what a batch asks of the model in 64 bits: its tokens, where they stand in their examples, and its labels.

    The digests of the parts of a batch add up (modulo 2**64) to the digest of the whole, however it was divided.

    Args:
        batch: a micro-batch.
        label_counts: as `Batches.label_counts`.
    """
    input_ids = batch["input_ids"].numpy()  # (rows, seq), or (rows, seq, characters)
    rows, seq = input_ids.shape[:2]
    columns = np.broadcast_to(np.arange(seq), (rows, seq))
    positions = batch["position_ids"].numpy() if "position_ids" in batch else columns
    real = batch["attention_mask"].numpy() != 0 if "attention_mask" in batch else np.ones((rows, seq), dtype=bool)
    numbers = input_ids[real].reshape(int(real.sum()), -1).T  # (1 or characters, tokens)
    hashes = [keyed_bits(*numbers, positions[real])]
    for name in label_counts.values():
        labels = batch[name].numpy()
        counted = labels != IGNORED_LABEL
        # In their examples: where these lie in a row depends on how the batch was divided, and so do places in a list.
        is_by_token = labels.shape == positions.shape and labels.dtype.kind == "i"
        places = [positions[counted]] if is_by_token else np.nonzero(counted)[1:]
        hashes.append(keyed_bits(name, labels[counted], *places))
    return sum(int(bits.sum(dtype=np.uint64)) for bits in hashes) % 2**64
