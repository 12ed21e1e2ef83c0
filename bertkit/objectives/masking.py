"""Which tokens a masked language model must predict, and what it sees in their place.

Devlin et al. 2019 (https://arxiv.org/abs/1810.04805): 15 % of the tokens, of these 80 % shown as [MASK], 10 % as a random
token, 10 % unchanged. The unit is a token, a whole word, or a span of words as in SpanBERT (Joshi et al. 2020,
https://arxiv.org/abs/1907.10529): lengths geometric with p = 0.2, at most 10 words, replaced all in one way.

Every choice is keyed by (seed, epoch, example, position), so a batch is masked the same wherever and whenever it is made.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bertkit.data.keyed_random import keyed_uniform

SPAN_GEOMETRIC_P = 0.2
SPAN_MAX_WORDS = 10


class Candidates(NamedTuple):
    """The tokens that may be masked, one entry a token, each example's tokens in order and together."""

    example: np.ndarray
    """(tokens,) number of the example in the batch, ascending."""
    position: np.ndarray
    """(tokens,) position in the example."""
    starts_word: np.ndarray
    """(tokens,) bool, False for a piece that continues a word."""
    example_key: np.ndarray
    """(tokens,) what identifies the example in its epoch."""
    epoch: np.ndarray
    """(tokens,) the epoch of the example."""

    def uniform(self, seed: int, purpose: str) -> np.ndarray:
        """Return (tokens,) keyed numbers in [0, 1)."""
        return keyed_uniform(seed, purpose, self.epoch, self.example_key, self.position)


class Chosen(NamedTuple):
    """The outcome of a choice of tokens."""

    labelled: np.ndarray
    """(tokens,) bool: the model must predict this token."""
    unit: np.ndarray
    """(tokens,) index of the token whose key decides the replacement: the token itself, or the first of its span."""


def _budgets(candidates: Candidates, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each example's first token (examples,) and number of tokens to choose (examples,).

    rate × length is rounded up or down at random, so that short examples are masked at the same rate as long ones.
    """
    first = np.flatnonzero(np.diff(candidates.example, prepend=-1))
    lengths = np.diff(np.append(first, len(candidates.example)))
    keys = Candidates(*(column[first] for column in candidates))
    return first, np.floor(rate * lengths + keys.uniform(seed, "mask budget")).astype(np.int64)


def _rank_in_example(example: np.ndarray, priority: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order entries by example, then by priority; return the order and, in that order, the place in the example."""
    order = np.lexsort((priority, example))
    first = np.flatnonzero(np.diff(example[order], prepend=-1))
    counts = np.diff(np.append(first, len(order)))
    return order, np.arange(len(order)) - np.repeat(first, counts)


def choose_tokens(candidates: Candidates, rate: float, seed: int) -> Chosen:
    """Choose single tokens.

    Args:
        candidates: the tokens of a batch that may be chosen.
        rate: share of each example's tokens to choose, in [0, 1].
        seed: key of the choice.
    """
    _, budgets = _budgets(candidates, rate, seed)
    order, rank = _rank_in_example(candidates.example, candidates.uniform(seed, "mask"))
    labelled = np.zeros(len(order), dtype=bool)
    examples = np.cumsum(np.diff(candidates.example, prepend=-1) != 0) - 1  # dense: 0, 1, … whatever the numbers
    labelled[order] = rank < budgets[examples[order]]
    return Chosen(labelled, np.arange(len(order)))


def _words(candidates: Candidates) -> np.ndarray:
    """Return the first token of each word: (words,)."""
    new_example = np.diff(candidates.example, prepend=-1) != 0
    gap = np.diff(candidates.position, prepend=-1) != 1  # a [SEP] between two segments parts words too
    return np.flatnonzero(candidates.starts_word | new_example | gap)


def choose_whole_words(candidates: Candidates, rate: float, seed: int) -> Chosen:
    """Choose whole words in random order until the example's share of tokens is reached.

    The word that would exceed the share is taken with the probability that keeps the expected number exact.
    Arguments as in `choose_tokens`.
    """
    _, budgets = _budgets(candidates, rate, seed)
    word_starts = _words(candidates)
    lengths = np.diff(np.append(word_starts, len(candidates.example)))
    words = Candidates(*(column[word_starts] for column in candidates))
    order, rank = _rank_in_example(words.example, words.uniform(seed, "mask"))
    taken = np.cumsum(lengths[order])
    before_example = (taken - lengths[order])[rank == 0]
    example = np.cumsum(rank == 0) - 1
    before_word = taken - lengths[order] - before_example[example]
    share_left = (budgets[example] - before_word) / lengths[order]
    chosen_words = np.zeros(len(order), dtype=bool)
    chosen_words[order] = words.uniform(seed, "last word")[order] < share_left
    labelled = np.repeat(chosen_words, lengths)
    return Chosen(labelled, np.arange(len(labelled)))


def choose_spans(candidates: Candidates, rate: float, seed: int) -> Chosen:
    """Choose spans of words until the example's share of tokens is reached; arguments as in `choose_tokens`."""
    first_tokens, budgets = _budgets(candidates, rate, seed)
    word_starts = _words(candidates)
    words = Candidates(*(column[word_starts] for column in candidates))
    # The inverse of the geometric distribution function turns a uniform number into a span length.
    geometric = np.log1p(-words.uniform(seed, "span length")) / np.log1p(-SPAN_GEOMETRIC_P)
    span_words = np.minimum(1 + geometric.astype(np.int64), SPAN_MAX_WORDS)
    order, rank = _rank_in_example(words.example, words.uniform(seed, "mask"))

    ends = np.append(word_starts[1:], len(candidates.example))  # the token after each word
    example_ends = np.append(first_tokens[1:], len(candidates.example))
    labelled = np.zeros(len(candidates.example), dtype=bool)
    unit = np.arange(len(labelled))
    example = -1
    budget = 0
    for word, place in zip(order.tolist(), rank.tolist(), strict=True):
        if place == 0:
            example += 1
            budget = int(budgets[example])
        anchor = int(word_starts[word])
        for inner in range(word, min(word + int(span_words[word]), len(word_starts))):
            start, end = int(word_starts[inner]), int(ends[inner])
            if start >= example_ends[example] or labelled[start] or end - start > budget:
                break
            labelled[start:end] = True
            unit[start:end] = anchor
            budget -= end - start
    return Chosen(labelled, unit)


MASKING_UNITS: dict[str, Callable[[Candidates, float, int], Chosen]] = {
    "token": choose_tokens,
    "whole_word": choose_whole_words,
    "span": choose_spans,
}


def replace_tokens(
    token_ids: np.ndarray,
    candidates: Candidates,
    chosen: Chosen,
    *,
    mask_token_id: int,
    ordinary_token_ids: np.ndarray,
    mask_replace_prob: float,
    random_replace_prob: float,
    seed: int,
) -> np.ndarray:
    """Return what the model sees in place of each candidate.

    Args:
        token_ids: (tokens,) the true tokens.
        candidates: what identifies them.
        chosen: which of them are labelled.
        mask_token_id: shown for a share `mask_replace_prob` of the labelled tokens.
        ordinary_token_ids: (ordinary,) tokens that a random one is drawn from.
        mask_replace_prob: in [0, 1].
        random_replace_prob: share of labelled tokens shown as a random token; with `mask_replace_prob` at most 1.
        seed: key of the choice.

    Returns:
        (tokens,) token ids.
    """
    fate = candidates.uniform(seed, "replace")[chosen.unit]
    drawn = (candidates.uniform(seed, "random token") * len(ordinary_token_ids)).astype(np.int64)
    masked = chosen.labelled & (fate < mask_replace_prob)
    random = chosen.labelled & ~masked & (fate < mask_replace_prob + random_replace_prob)
    return np.where(masked, mask_token_id, np.where(random, ordinary_token_ids[drawn], token_ids))
