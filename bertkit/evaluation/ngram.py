"""An n-gram language model with modified Kneser-Ney smoothing: what a text's likelihood comes to by counting.

Chen and Goodman 1999, https://doi.org/10.1006/csla.1999.0128, interpolated: of every count a discount is taken, which
depends on whether the count is 1, 2 or more, and what is taken goes to the distribution behind one token less of context. An
n-gram that is not of the highest order counts not how often it occurs, but behind how many different tokens. One that
begins a text has none before it and keeps its own count (Heafield et al. 2013, https://aclanthology.org/P13-2121).

The n-grams of an order are a sorted array of whole numbers, each made of the place of its context among those of the
order below and of its last token; so training is sorting, and looking up is binary search.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertkit.evaluation.likelihood import Likelihoods, TokenIds

MAX_ORDER = 6
_DISCOUNTS_OF_SMALL_TEXTS = np.array([0.0, 0.5, 1.0, 1.5])


class _Order(NamedTuple):
    """The n-grams of one order that training has seen."""

    keys: np.ndarray
    """(n-grams,) int64, sorted: place of the context in the order below x (vocabulary + 1) + last token."""
    probabilities: np.ndarray
    """(n-grams,) of the last token behind the others, the orders below mixed in."""
    passed_down: np.ndarray
    """(n-grams of the order below,) share that such a context leaves to the order below; 1 where nothing followed it."""


class NgramModel:
    """A distribution of the next token by the tokens before it.

    Every text begins behind a marker of its own, which is never predicted, and its end is predicted as `eos_token_id`. The
    lowest order is mixed with the uniform distribution of the vocabulary: no token is impossible.

    Args:
        texts: token ids of each, without special tokens.
        order: most tokens of an n-gram, the predicted one included.
        vocab_size: tokens there are.
        eos_token_id: stands behind every text.

    Raises:
        ValueError: an order that is not from 1 to 6, or no text.
    """

    def __init__(self, texts: Sequence[TokenIds], *, order: int, vocab_size: int, eos_token_id: int) -> None:
        if not 1 <= order <= MAX_ORDER:
            raise ValueError(f"the order of the n-grams is {order}; it must be from 1 to {MAX_ORDER}")
        if not len(texts):
            raise ValueError("there is no text to count n-grams in")
        self.vocab_size = vocab_size
        self.eos_token_id = eos_token_id
        self.orders: list[_Order] = []
        self.discounts: list[np.ndarray] = []  # of each order: (4,) what is taken of a count of 0, 1, 2, and 3 or more
        tokens, ages = self._stream(texts)
        self._estimate(*self._count(tokens, ages, order))

    def likelihoods(self, texts: Sequence[TokenIds]) -> Likelihoods:
        """Score texts from end to end, their ends included.

        Args:
            texts: token ids of each, without special tokens.
        """
        lengths = np.array([len(text) + 1 for text in texts])
        nats = np.add.reduceat(self.log_probabilities(texts), np.cumsum(lengths) - lengths)
        return Likelihoods(nats, lengths)

    def log_probabilities(self, texts: Sequence[TokenIds]) -> np.ndarray:
        """Return the log probability of every token of texts and of their ends, one text behind another, in nats.

        Args:
            texts: token ids of each, without special tokens.

        Returns:
            (predicted tokens,) float64.
        """
        tokens, ages = self._stream(texts)
        probabilities = self.orders[0].probabilities[tokens]
        places = tokens  # of the n-gram that ends at each token, among those of an order; −1 for one never seen
        for number, order in enumerate(self.orders[1:], 1):
            contexts = np.where(ages >= number, np.roll(places, 1), -1)
            keys = contexts * self._base + tokens
            found = np.minimum(np.searchsorted(order.keys, keys), len(order.keys) - 1)
            places = np.where((contexts >= 0) & (order.keys[found] == keys), found, -1)
            lower = np.where(contexts >= 0, order.passed_down[contexts], 1.0) * probabilities
            probabilities = np.where(places >= 0, order.probabilities[places], lower)
        return np.log(probabilities[ages > 0])

    @property
    def _base(self) -> int:
        return self.vocab_size + 1  # the marker before every text is one more

    def _stream(self, texts: Sequence[TokenIds]) -> tuple[np.ndarray, np.ndarray]:
        """Return all texts with their markers, one behind another, and how many tokens of its text precede each: (stream,)."""
        lengths = np.array([len(text) + 2 for text in texts])
        starts = np.cumsum(lengths) - lengths
        tokens = np.full(lengths.sum(), self.vocab_size, dtype=np.int64)
        tokens[starts + lengths - 1] = self.eos_token_id
        ages = np.arange(len(tokens)) - np.repeat(starts, lengths)
        inside = (ages > 0) & (ages < np.repeat(lengths, lengths) - 1)
        tokens[inside] = np.concatenate(texts)
        return tokens, ages

    def _count(
        self, tokens: np.ndarray, ages: np.ndarray, order: int
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Find the n-grams of every order.

        Returns:
            By order: keys as in `_Order`; counts, (n-grams,), adjusted as Kneser and Ney do below the highest order; and the
            places in the order below of the n-grams without their first token, (n-grams,), empty for the lowest.
        """
        # The lowest order has every token, seen or not, so that a token is its own place there.
        keys = [np.arange(self._base)]
        counts = [np.bincount(tokens, minlength=self._base)]
        endings = [np.zeros(0, dtype=np.int64)]
        places = tokens
        for number in range(1, order):
            ends = np.flatnonzero(ages >= number)  # where n-grams of this order end
            if not len(ends):  # no text is as long
                break
            seen, first, of_stream, count = np.unique(
                places[ends - 1] * self._base + tokens[ends], return_index=True, return_inverse=True, return_counts=True
            )
            ending = places[ends[first]]
            begins_text = np.zeros(len(keys[-1]), dtype=bool)
            begins_text[places[ages == number - 1]] = True
            preceding = np.bincount(ending, minlength=len(keys[-1]))
            counts[-1] = np.where(begins_text, counts[-1], preceding)
            keys.append(seen)
            counts.append(count)
            endings.append(ending)
            places = np.full(len(tokens), -1)
            places[ends] = of_stream
        counts[0][self.vocab_size] = 0  # the marker is context and is never predicted
        return keys, counts, endings

    def _estimate(self, keys: list[np.ndarray], counts: list[np.ndarray], endings: list[np.ndarray]) -> None:
        """Turn counts, as `_count` gives them, into probabilities, the lowest order first."""
        below = np.full(1, 1 / self.vocab_size)
        for of_order, count, ending in zip(keys, counts, endings, strict=True):
            num_contexts = len(self.orders[-1].keys) if self.orders else 1
            contexts = of_order // self._base
            discounts = discounts_of(count)
            taken = discounts[np.minimum(count, 3)]
            total = np.bincount(contexts, weights=count, minlength=num_contexts)
            passed_down = np.bincount(contexts, weights=taken, minlength=num_contexts)
            passed_down = np.divide(passed_down, total, out=np.ones(num_contexts), where=total > 0)
            below = below[ending] if self.orders else np.full(len(of_order), below[0])
            below = (count - taken) / total[contexts] + passed_down[contexts] * below
            self.discounts.append(discounts)
            self.orders.append(_Order(of_order, below, passed_down))


def discounts_of(counts: np.ndarray) -> np.ndarray:
    """Return what is taken of counts of 0, 1, 2, and 3 or more, (4,).

    That is Chen and Goodman's estimate from how many n-grams have counts of 1 to 4. Of a text so small, or so odd, that the
    estimate is nothing or less, or cannot be made, 0.5, 1 and 1.5 are taken.

    Args:
        counts: (n-grams,) of one order.

    >>> discounts_of(np.repeat([1, 2, 3, 4], [8, 4, 2, 1])).tolist()
    [0.0, 0.5, 1.25, 2.0]
    """
    _, one, two, three, four = (int(number) for number in np.bincount(np.minimum(counts, 5), minlength=6)[:5])
    if not (one and two and three):
        return _DISCOUNTS_OF_SMALL_TEXTS
    share = one / (one + 2 * two)
    discounts = np.array([0, 1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three])
    return discounts if (discounts[1:] > 0).all() else _DISCOUNTS_OF_SMALL_TEXTS
