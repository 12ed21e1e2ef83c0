import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.evaluation.ngram import MAX_ORDER, NgramModel, discounts_of

VOCAB, END = 6, 5  # token 4 is never in a training text
TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=6)
CONTEXTS = st.lists(st.integers(0, 4), max_size=8)


class ByTheEquations:
    """Modified Kneser-Ney out of dictionaries, as Chen and Goodman write it."""

    def __init__(self, texts, order):
        self.order = order
        rows = [("begin", *text, END) for text in texts]
        occurs = Counter()
        before = defaultdict(set)
        for row in rows:
            for length in range(1, order + 1):
                for start in range(len(row) - length + 1):
                    ngram = row[start : start + length]
                    occurs[ngram] += 1
                    if start:
                        before[ngram].add(row[start - 1])
        self.counts = {
            ngram: count if len(ngram) == order or ngram[0] == "begin" else len(before[ngram])
            for ngram, count in occurs.items()
            if ngram != ("begin",)
        }
        of_order = defaultdict(list)
        for ngram, count in self.counts.items():
            of_order[len(ngram)].append(count)
        self.discounts = {length: discounts_of(np.array(counts)) for length, counts in of_order.items()}

    def probability(self, context, token):
        lower = self.probability(context[1:], token) if context else 1 / VOCAB
        followers = {
            ngram[-1]: count
            for ngram, count in self.counts.items()
            if len(ngram) == len(context) + 1 and ngram[:-1] == context
        }
        if not followers:
            return lower
        discounts = self.discounts[len(context) + 1]
        total = sum(followers.values())
        own = max(followers[token] - discounts[min(followers[token], 3)], 0) / total if token in followers else 0.0
        num = [sum(min(count, 3) == size for count in followers.values()) for size in range(4)]
        left = sum(discount * number for discount, number in zip(discounts[1:], num[1:], strict=True)) / total
        return own + left * lower

    def log_probability(self, text, place):
        """Of the token at a place of a text, which may be its end."""
        row = ("begin", *text, END)
        return math.log(self.probability(row[max(place + 2 - self.order, 0) : place + 1], row[place + 1]))


def build(texts, order):
    return NgramModel(texts, order=order, vocab_size=VOCAB, eos_token_id=END)


def next_token(model, context):
    """Return the distribution of the token behind a context that begins a text: (vocab,)."""
    scores = model.log_probabilities([[*context, token] for token in range(VOCAB)])
    return np.exp(scores.reshape(VOCAB, len(context) + 2)[:, len(context)])


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, MAX_ORDER), st.lists(CONTEXTS, min_size=1, max_size=3))
def test_every_token_of_any_text_has_the_probability_of_the_equations(texts, order, others):
    model, oracle = build(texts, order), ByTheEquations(texts, order)
    asked = [*others, *texts]
    expected = [oracle.log_probability(text, place) for text in asked for place in range(len(text) + 1)]
    np.testing.assert_allclose(model.log_probabilities(asked), expected, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, MAX_ORDER), CONTEXTS)
def test_probabilities_behind_any_context_are_positive_and_sum_to_one(texts, order, context):
    shares = next_token(build(texts, order), context)
    assert (shares > 0).all()
    assert shares.sum() == pytest.approx(1, abs=1e-9)


def test_sums_are_one_where_the_discounts_are_estimated_from_the_text():
    generator = np.random.default_rng(0)
    texts = [np.minimum(generator.geometric(0.4, size=40) - 1, 4) for _ in range(8)]
    model = build(texts, 4)
    assert len({tuple(discounts) for discounts in model.discounts}) > 2
    for context in ([], [0], [0, 1, 2, 3], [4, 4, 4, 4], list(texts[0][:7])):
        assert next_token(model, context).sum() == pytest.approx(1, abs=1e-9)


def test_bigrams_of_a_text_that_can_be_counted_by_hand():
    # Tokens 0 1 0 1 and the end: bigrams (begin 0) once, (0 1) twice, (1 0) once, (1 end) once; too few to estimate discounts.
    model = build([[0, 1, 0, 1]], 2)
    # Before 0 stand begin and 1, before 1 stands 0, before the end stands 1: continuation counts 2, 1, 1 of 4.
    lowest = (0.5 + 0.5 + 1.0) / 4 / VOCAB
    zero, one, end = (2 - 1.0) / 4 + lowest, (1 - 0.5) / 4 + lowest, (1 - 0.5) / 4 + lowest
    assert np.exp(model.log_probabilities([[0, 1]])) == pytest.approx(
        [(1 - 0.5) / 1 + 0.5 * zero, (2 - 1.0) / 2 + 0.5 * one, (1 - 0.5) / 2 + 0.5 * end]
    )


def test_the_discounts_are_chen_and_goodmans():
    ones, twos, threes, fours = 50, 20, 9, 6
    share = ones / (ones + 2 * twos)
    expected = [0, 1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes]
    counts = np.repeat([0, 1, 2, 3, 4, 7], [3, ones, twos, threes, fours, 2])
    assert discounts_of(counts) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("numbers", [(0, 3, 3, 3), (3, 0, 3, 3), (3, 3, 0, 0), (2, 1, 40, 1), (4, 4, 2, 400)])
def test_discounts_that_the_counts_cannot_give_are_those_of_small_texts(numbers):
    assert discounts_of(np.repeat([1, 2, 3, 4], numbers)).tolist() == [0.0, 0.5, 1.0, 1.5]


def test_a_texts_likelihood_counts_its_tokens_and_its_end_and_not_the_texts_beside_it():
    model = build([[0, 1, 2, 0, 1, 3], [1, 1, 2]], 3)
    texts = [[0, 1, 2], [], [3, 3]]
    together = model.likelihoods(texts)
    assert together.tokens.tolist() == [4, 1, 3]
    alone = [model.likelihoods([text]) for text in texts]
    assert together.nats == pytest.approx(np.array([score.nats[0] for score in alone]))
    assert together.nats.sum() == pytest.approx(model.log_probabilities(texts).sum())


def test_more_context_makes_a_text_that_repeats_itself_likelier():
    texts = [[0, 1, 2, 0, 1, 3] * 20]
    nats = [build(texts, order).likelihoods(texts).nats[0] for order in (1, 2, 3, 4)]
    assert nats == sorted(nats) and nats[0] < 3 * nats[-1]


@pytest.mark.parametrize(
    ("texts", "order", "message"), [([[1]], 0, "from 1 to 6"), ([[1]], 7, "7"), ([], 2, "no text")]
)
def test_what_cannot_be_counted_is_refused(texts, order, message):
    with pytest.raises(ValueError, match=message):
        build(texts, order)
