"""GloVe: vectors whose products are the logarithms of how often words stand near each other.

Pennington et al. 2014, https://nlp.stanford.edu/pubs/glove.pdf. Over all pairs of words that were seen together, least squares
of w·w̃ + b + b̃ − log X, each weighted by min(1, X / x_max)^alpha, by AdaGrad; a word's vector is w + w̃. Kept from the authors'
program (https://github.com/stanfordnlp/GloVe) are its defaults and what the paper leaves open: numbers start evenly within
± 0.5 / width, sums of squares at 1; the squares are those of gradients already multiplied by the rate, which is 1 for the
biases; a gradient is cut at ± 100 for each number; pairs come in random order.

One step is taken a pair, as there, and not one a batch: pairs without a common word do not see each other's steps, so they are
taken at once, in the groups that `cooccurrence` has sorted them into.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from bertkit.embeddings.cooccurrence import Cooccurrences

_CLIP = 100.0
_PAIRS_AT_ONCE = 512  # of a group: what they touch stays in the processor's cache


@dataclass(kw_only=True)
class GloveArguments:
    """How GloVe counts and trains; the defaults are those of the authors' program, but for the iterations.

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    vector_size: int = 50
    """Numbers in a vector."""
    window: int = 15
    """How far apart two words are at most, on either side."""
    distance_weighting: bool = True
    """A word at distance d counts 1/d; false counts each as 1, which says more of what words are about."""
    min_count: int = 5
    """Words that occur less often are left out, as if they did not stand in the text."""
    x_max: float = 100.0
    """Pairs counted at least so often weigh fully; for a small corpus 10."""
    alpha: float = 0.75
    """Rarer pairs weigh their share of `x_max` to this power."""
    epochs: int = 25
    """How often all pairs are walked through."""
    learning_rate: float = 0.05
    """AdaGrad's first rate."""
    max_pairs: int = 4_194_304
    """Pairs held in memory while they are counted; more are sorted and written to disk. Each takes some 50 bytes."""
    seed: int = 0
    """Key of the first numbers and of the order of the pairs."""

    def __post_init__(self) -> None:
        for name in ("vector_size", "window", "min_count", "epochs", "max_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"glove.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("x_max", "alpha", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"glove.{name} is {getattr(self, name)}; it must be above 0")


class Glove:
    """The numbers that GloVe learns, and its steps.

    Args:
        vocab_size: number of words.
        arguments: how to train.
    """

    def __init__(self, vocab_size: int, arguments: GloveArguments) -> None:
        self.arguments = arguments
        width = arguments.vector_size
        generator = np.random.default_rng(arguments.seed)
        # Of a word as the one in the middle, and as one beside it; the last number is the bias.
        self.words, self.contexts = (
            ((generator.random((vocab_size, width + 1), dtype=np.float32) - 0.5) / width).astype(np.float32)
            for _ in range(2)
        )
        self.word_squares, self.context_squares = np.ones_like(self.words), np.ones_like(self.contexts)

    def vectors(self) -> np.ndarray:
        """Return (vocab, width) float32, the sum of both vectors of each word."""
        return self.words[:, :-1] + self.contexts[:, :-1]

    def step(self, rows: np.ndarray, columns: np.ndarray, counts: np.ndarray) -> float:
        """Take the steps of some pairs that have no word in common in the same place.

        Args:
            rows: (pairs,) words, all different.
            columns: (pairs,) words beside them, all different.
            counts: (pairs,) float32, above 0.

        Returns:
            The sum of the losses before the steps, half the weighted squares.
        """
        arguments = self.arguments
        words, contexts = self.words.take(rows, axis=0), self.contexts.take(columns, axis=0)  # (pairs, width + 1)
        errors = np.einsum("pn,pn->p", words[:, :-1], contexts[:, :-1])
        errors += words[:, -1]
        errors += contexts[:, -1]
        errors -= np.log(counts)
        weighted = np.minimum(counts / np.float32(arguments.x_max), 1) ** np.float32(arguments.alpha) * errors
        word_gradients = self._gradients(weighted, contexts)
        context_gradients = self._gradients(weighted, words)
        _adagrad(self.words, self.word_squares, rows, words, word_gradients)
        _adagrad(self.contexts, self.context_squares, columns, contexts, context_gradients)
        return 0.5 * float(weighted @ errors)

    def _gradients(self, weighted: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return (pairs, width + 1): of the vectors cut and multiplied by the rate, of the biases as they are."""
        gradients = others * weighted[:, None]
        np.clip(gradients, -_CLIP, _CLIP, out=gradients)
        gradients *= np.float32(self.arguments.learning_rate)
        gradients[:, -1] = weighted
        return gradients


def _adagrad(
    numbers: np.ndarray, squares: np.ndarray, places: np.ndarray, before: np.ndarray, gradients: np.ndarray
) -> None:
    sums = squares.take(places, axis=0)
    roots = np.sqrt(sums)
    np.divide(gradients, roots, out=roots)
    numbers[places] = np.subtract(before, roots, out=roots)
    np.multiply(gradients, gradients, out=gradients)
    squares[places] = np.add(sums, gradients, out=gradients)


def train_glove(
    cooccurrences: Cooccurrences,
    arguments: GloveArguments,
    *,
    quiet: bool = True,
    after_epoch: Callable[[int, float], None] | None = None,
) -> np.ndarray:
    """Train on a counted corpus; the same counts and settings give the same bits.

    Args:
        cooccurrences: the matrix.
        arguments: how to train.
        quiet: no progress bar.
        after_epoch: told the number of each epoch that ends, from 1, and the mean loss of its pairs.

    Returns:
        (vocab, vector_size) float32.
    """
    glove = Glove(cooccurrences.vocab_size, arguments)
    generator = np.random.default_rng([arguments.seed, 1])
    # Plain arrays on the same memory map: a slice of one costs a tenth of the map's own.
    rows, columns, counts = (
        np.asarray(part) for part in (cooccurrences.rows, cooccurrences.columns, cooccurrences.counts)
    )
    starts = cooccurrences.group_starts.tolist()
    total = len(cooccurrences) * arguments.epochs
    with tqdm(desc="Training", total=total, unit=" pairs", unit_scale=True, disable=quiet) as bar:
        for epoch in range(1, arguments.epochs + 1):
            loss = 0.0
            for group in generator.permutation(cooccurrences.vocab_size).tolist():
                for start in range(starts[group], starts[group + 1], _PAIRS_AT_ONCE):
                    some = slice(start, min(start + _PAIRS_AT_ONCE, starts[group + 1]))
                    loss += glove.step(rows[some], columns[some], counts[some])
                bar.update(starts[group + 1] - starts[group])
            mean = loss / len(cooccurrences)
            bar.set_postfix(loss=f"{mean:.4f}")
            if after_epoch is not None:
                after_epoch(epoch, mean)
    return glove.vectors()
