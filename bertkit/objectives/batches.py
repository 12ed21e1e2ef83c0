"""The batches of an objective over a TokenStore: each computed from its place in the endless stream of rows."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

import numpy as np

from bertkit.data.token_store import TokenStore
from bertkit.objectives.objective import Objective, Rows, Stream
from bertkit.objectives.perplexity import perplexity

if TYPE_CHECKING:
    import torch

EVAL_SEED = 0  # evaluation asks every run the same questions, whatever the run's own seed


class ObjectiveBatches(Generic[Rows]):
    """What the Trainer draws from: rows of a corpus, prepared by an objective.

    Args:
        objective: plans and collates.
        store: the corpus.
        batch_size: rows of a step, over all processes.
        seed: key of every random choice; evaluation always uses `EVAL_SEED`.
        training: shuffled anew each epoch; else in order, with masks that never change.
    """

    def __init__(
        self, objective: Objective[Rows], store: TokenStore, *, batch_size: int, seed: int = 0, training: bool
    ) -> None:
        self.objective = objective
        self.store = store
        self.batch_size = batch_size
        self.seed = seed if training else EVAL_SEED
        self.training = training
        self.label_counts = objective.label_counts
        self.loss_terms = objective.loss_terms
        self.metric_names = objective.metric_names
        self.tokens_per_example = objective.tokens_per_example
        self.floor_name, self.loss_unit = "unigram entropy of the labels", "nats"
        self.carried_rows = batch_size if objective.carries_state else 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the stream: a process that prepares batches lays out the rows itself, by the same arithmetic."""
        return {name: value for name, value in vars(self).items() if name != "_stream"}

    @cached_property
    def _stream(self) -> Stream[Rows]:
        return self.objective.stream(self.store, batch_size=self.batch_size, seed=self.seed, shuffle=self.training)

    def __len__(self) -> int:
        """Rows in an epoch."""
        return self._stream.rows_per_epoch

    @cached_property
    def loss_floor(self) -> float:
        """Unigram entropy of the labels in nats: what a model scores that knows how frequent each token is, and no more."""
        return self.objective.loss_floor(self.store)

    @cached_property
    def bits_per_nat(self) -> Mapping[str, tuple[str, float]]:
        """Metric in bits a byte of the text -> the loss it is of, and how many a nat is."""
        return self.objective.bits_per_nat(self.store)

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Compute the batch of the rows at places `start` to `stop`.

        Args:
            start: first row, counted over all epochs.
            stop: end of the rows.
            progress: how far the training is, from 0 to 1, for what is scheduled.
        """
        return self.objective.collate(
            self.store,
            self._stream.rows(start, stop),
            num_rows=stop - start,
            progress=progress,
            training=self.training,
            seed=self.seed,
        )

    def num_tokens(self, batch: Mapping[str, "torch.Tensor"]) -> int:
        """Return the real tokens of a batch, padding not counted."""
        return self.objective.num_tokens(batch)

    def evaluation(self) -> "SumEvaluation":
        """Begin an evaluation."""
        return SumEvaluation(self.objective, self.store)


class SumEvaluation:
    """Metrics that are sums over batches divided by counts over batches.

    Args:
        objective: gives the sum and the count of each metric for a batch.
        store: the corpus.
    """

    def __init__(self, objective: Objective[Any], store: TokenStore) -> None:
        self.objective = objective
        self.store = store
        self.totals: dict[str, torch.Tensor] = {}

    def add(self, outputs: Any, batch: Mapping[str, "torch.Tensor"]) -> None:
        """Add a batch whose losses were computed as sums."""
        import torch

        for name, (total, count) in self.objective.metrics(outputs, batch, self.store).items():
            pair = torch.stack([total.cpu().double(), count.cpu().double()])
            self.totals[name] = self.totals.get(name, 0) + pair

    def compute(self) -> dict[str, float]:
        """Return each metric's mean, and the exponentials of those that have a perplexity."""
        means = {name: float(total / count) for name, (total, count) in self.totals.items()}
        return means | {name: perplexity(means[loss]) for name, loss in self.objective.perplexities.items()}
