"""Keyed random numbers are a function of their key, and random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.keyed_random import (
    keyed_bits,
    keyed_integers,
    keyed_permutation,
    keyed_seed,
    keyed_uniform,
)

keys = st.lists(st.one_of(st.integers(-(2**40), 2**40), st.text(max_size=8)), min_size=1, max_size=4)


@given(keys)
def test_the_same_key_gives_the_same_number_in_an_array_as_alone(key):
    alone = keyed_bits(*key, 7)
    in_array = keyed_bits(*key, np.arange(20))
    assert in_array[7] == alone


@given(st.lists(st.integers(), max_size=4), st.lists(st.integers(), max_size=4))
def test_different_keys_give_different_numbers(one, other):
    one, other = ([key % 2**64 - 2**63 for key in keys] for keys in (one, other))
    if one != other:
        assert keyed_bits(*one) != keyed_bits(*other)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_numbers_are_uniform_and_uncorrelated_whichever_key_counts(position):
    key = [3, "purpose", 5]
    key[position] = np.arange(200_000)
    numbers = keyed_uniform(*key)
    counts, _ = np.histogram(numbers, bins=100, range=(0, 1))
    chi_squared = ((counts - 2000) ** 2 / 2000).sum()
    assert 60 < chi_squared < 150  # 99 degrees of freedom: mean 99, deviation 14
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers, keyed_uniform(*key, "other"))[0, 1]) < 0.01


@given(st.integers(1, 300), st.integers())
def test_a_permutation_holds_every_number_once(length, seed):
    assert sorted(keyed_permutation(length, seed % 2**60)) == list(range(length))


def test_first_places_of_permutations_are_uniform():
    firsts = np.bincount([keyed_permutation(5, seed)[0] for seed in range(5000)], minlength=5)
    assert firsts.min() > 880 and firsts.max() < 1120


@given(st.integers(1, 10**12), st.integers(0, 2**40))
def test_integers_stay_below_their_bound(high, seed):
    drawn = keyed_integers(high, seed, np.arange(100))
    assert drawn.min() >= 0 and drawn.max() < high


def test_numbers_do_not_change_from_release_to_release():
    assert keyed_seed(0, "dropout", 1, 2) == 5181822313627682209
