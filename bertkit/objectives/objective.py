"""What an objective is to the rest of bertkit: how a corpus becomes batches, and which models learn from them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from bertkit.data.health import Finding
from bertkit.data.token_store import TokenStore

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Rows = TypeVar("Rows")
Rows_co = TypeVar("Rows_co", covariant=True)


class Stream(Protocol[Rows_co]):
    """The rows of every epoch, end to end: what stands at a place is found by arithmetic, not by walking there."""

    rows_per_epoch: int
    """Rows of an epoch, the same in each."""

    def rows(self, start: int, stop: int) -> Rows_co:
        """Return what the rows at places `start` to `stop` consist of; no token is read."""


class Objective(Protocol[Rows]):
    """How unlabelled text becomes batches; the loss itself is the model's.

    Whatever is random about a row is keyed by seed, epoch and its place, and never drawn from a generator that remembers.
    """

    families: ClassVar[tuple[str, ...]]
    """The model families that are pretrained by it."""
    arguments_class: ClassVar[type]
    """Dataclass of its settings, the `objective` section of a recipe."""
    data_class: ClassVar[type]
    """Dataclass of what it reads, the `data` section of a recipe."""
    pipeline_tag: ClassVar[str]
    """What the Hub calls models trained so."""

    def __init__(self, arguments: Any, tokenizer: "PreTrainedTokenizerBase") -> None: ...

    @property
    def label_counts(self) -> Mapping[str, str]:
        """Argument of the model's forward -> batch entry whose labels it counts; the losses are divided by these numbers."""

    @property
    def perplexities(self) -> Mapping[str, str]:
        """Metric -> the metric, a mean loss in nats, whose exponential it is."""

    @property
    def auto_class(self) -> str:
        """The Auto class whose models it trains."""

    @property
    def config_settings(self) -> Mapping[str, Any]:
        """Fields of the model's configuration that must fit the batches; set where the family has them."""

    @property
    def max_positions(self) -> int | None:
        """Tokens of the longest example, for which a model must have positions; None: there is no longest."""

    @property
    def tokens_per_example(self) -> int:
        """Tokens of a row, at most: what a batch size given in tokens is divided by."""

    @property
    def carries_state(self) -> bool:
        """Whether a row continues the row of the same number in the step before."""

    @property
    def loss_terms(self) -> tuple[str, ...]:
        """Fields of the model's output that add up to its loss; the first is the one that `loss_floor` bounds."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation gives, the first one what names the best checkpoint."""

    def stream(self, store: TokenStore, *, batch_size: int, seed: int, shuffle: bool) -> Stream[Rows]:
        """Lay out the rows of every epoch.

        Args:
            store: the corpus.
            batch_size: rows of a step, over all processes.
            seed: key of every choice.
            shuffle: a new order each epoch, for training; else the corpus's own.

        Raises:
            ValueError: the corpus cannot give what is asked of it.
        """

    def collate(
        self, store: TokenStore, rows: Rows, *, num_rows: int, progress: float, training: bool, seed: int
    ) -> dict[str, np.ndarray]:
        """Read the rows' tokens and make a batch of them: what the model's forward takes.

        Args:
            store: the corpus.
            rows: what the stream gave.
            num_rows: rows of the batch.
            progress: how far the training is, from 0 to 1, for what is scheduled.
            training: or else evaluation, which asks every run the same questions.
            seed: key of every choice.
        """

    def num_tokens(self, batch: Mapping[str, "torch.Tensor"]) -> int:
        """Return the real tokens of a batch, padding not counted."""

    def metrics(
        self, outputs: Any, batch: Mapping[str, "torch.Tensor"], store: TokenStore
    ) -> dict[str, tuple["torch.Tensor", "torch.Tensor"]]:
        """Return what evaluation reports of a batch, each as a sum and the count it is divided by.

        Args:
            outputs: the model's output for `batch`, computed with every count set to 1, so that its losses are sums.
            batch: as `collate` made it.
            store: the corpus.
        """

    def checkpoint_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
        """Return the tokenizer that checkpoints hold: it gives a text as the model takes it.

        Args:
            tokenizer: the one the run was given.
        """

    def bits_per_nat(self, store: TokenStore) -> Mapping[str, tuple[str, float]]:
        """Return which losses also count in bits a byte of the text: metric -> the loss, and how many a nat of it is.

        Args:
            store: the corpus; how many labels there are to its bytes is an average over all of it.
        """

    def loss_floor(self, store: TokenStore) -> float:
        """Return the loss in nats of a model that knows how frequent each label is, and no more."""

    def checks(self, store: TokenStore) -> list[Finding]:
        """Return what the store's numbers tell of whether it serves this objective."""
