"""Masking chooses the asked share of tokens, whatever the unit, as a function of its key."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.objectives.masking import MASKING_UNITS, Candidates, replace_tokens


def candidates(lengths, continuation_share=0.3, epoch=0, seed=0):
    random = np.random.default_rng(seed)
    lengths = np.asarray(lengths)
    example = np.repeat(np.arange(len(lengths)), lengths)
    position = np.concatenate([1 + np.arange(n) for n in lengths])
    starts_word = random.random(len(example)) >= continuation_share
    return Candidates(example, position, starts_word, example * 1000, np.full_like(example, epoch))


def words_of(tokens):
    starts = tokens.starts_word | (np.diff(tokens.example, prepend=-1) != 0)
    return np.cumsum(starts) - 1


@pytest.mark.parametrize("unit", MASKING_UNITS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
@pytest.mark.parametrize("length", [1, 4, 30, 126])
def test_the_rate_holds_on_average_for_short_and_long_examples(unit, rate, length):
    tokens = candidates([length] * (60_000 // length))
    share = MASKING_UNITS[unit](tokens, rate, 0).labelled.mean()
    # Spans stop at the budget and are never cut inside a word: they fall short of it by part of a word.
    slack = {"token": 0.005, "whole_word": 0.006, "span": 0.1 if length < 10 else 0.025}[unit]
    assert rate - slack <= share <= rate + 0.006


@pytest.mark.parametrize("unit", MASKING_UNITS)
def test_no_long_example_is_masked_much_more_than_asked(unit):
    tokens = candidates([126] * 300)
    counts = np.bincount(tokens.example, weights=MASKING_UNITS[unit](tokens, 0.15, 0).labelled)
    longest_word = np.bincount(words_of(tokens)).max()
    assert counts.max() <= np.ceil(126 * 0.15) + (longest_word if unit == "whole_word" else 0)


@pytest.mark.parametrize("unit", ["whole_word", "span"])
@given(st.lists(st.integers(1, 60), min_size=1, max_size=10), st.integers(0, 99))
def test_words_are_masked_whole_or_not_at_all(unit, lengths, seed):
    tokens = candidates(lengths, seed=seed)
    labelled = MASKING_UNITS[unit](tokens, 0.3, seed).labelled
    words = words_of(tokens)
    per_word = np.bincount(words, weights=labelled) / np.bincount(words)
    assert set(per_word) <= {0.0, 1.0}


def test_a_word_that_continues_behind_a_separator_is_another_word():
    tokens = candidates([6], continuation_share=1.0)
    tokens = tokens._replace(position=np.array([1, 2, 3, 5, 6, 7]))  # [SEP] at 4
    shares = {MASKING_UNITS["whole_word"](tokens, 0.5, seed).labelled.sum() for seed in range(40)}
    assert shares == {3}


def test_spans_are_runs_of_several_words_and_share_their_fate():
    tokens = candidates([126] * 200, continuation_share=0.0)
    chosen = MASKING_UNITS["span"](tokens, 0.15, 0)
    runs = np.diff(np.flatnonzero(np.diff(chosen.labelled.astype(int), prepend=0, append=0)))[::2]
    assert 2.5 < runs.mean() < 5  # geometric with p = 0.2, at most 10, cut at the budget
    seen = replace_tokens(
        np.full(len(tokens.example), 9), tokens, chosen, mask_token_id=4, ordinary_token_ids=np.array([7]),
        mask_replace_prob=0.8, random_replace_prob=0.1, seed=0,
    )  # fmt: skip
    for unit in np.unique(chosen.unit[chosen.labelled]):
        assert len(set(seen[chosen.labelled & (chosen.unit == unit)])) == 1


@pytest.mark.parametrize("unit", MASKING_UNITS)
def test_an_example_is_masked_the_same_alone_as_among_others(unit):
    tokens = candidates([20, 30, 25])
    together = MASKING_UNITS[unit](tokens, 0.2, 0).labelled
    alone = Candidates(*(column[20:50] for column in tokens))
    assert (MASKING_UNITS[unit](alone, 0.2, 0).labelled == together[20:50]).all()


@pytest.mark.parametrize("unit", MASKING_UNITS)
def test_another_epoch_or_seed_masks_other_tokens(unit):
    one = MASKING_UNITS[unit](candidates([126] * 50), 0.15, 0).labelled
    for other in (
        MASKING_UNITS[unit](candidates([126] * 50, epoch=1), 0.15, 0).labelled,
        MASKING_UNITS[unit](candidates([126] * 50), 0.15, 1).labelled,
    ):
        assert (one & other).sum() / one.sum() == pytest.approx(0.15, abs=0.06)


def test_labelled_tokens_become_mask_random_and_unchanged_in_the_asked_shares():
    tokens = candidates([100] * 4000)
    true = np.random.default_rng(0).integers(5, 1000, 400_000)
    chosen = MASKING_UNITS["token"](tokens, 0.15, 0)
    seen = replace_tokens(
        true, tokens, chosen, mask_token_id=4, ordinary_token_ids=np.arange(5, 1000),
        mask_replace_prob=0.8, random_replace_prob=0.1, seed=0,
    )  # fmt: skip
    assert (seen[~chosen.labelled] == true[~chosen.labelled]).all()
    seen, true = seen[chosen.labelled], true[chosen.labelled]
    assert (seen == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert (seen == true).mean() == pytest.approx(0.1, abs=0.01)
    random = seen[(seen != 4) & (seen != true)]
    assert random.min() >= 5 and len(np.unique(random)) > 900
