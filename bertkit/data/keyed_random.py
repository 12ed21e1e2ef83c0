"""Random numbers computed from a key, not drawn from a stream.

A stream must be replayed to reach its millionth number; a keyed number is a hash of what it is for, as in
`keyed_uniform(seed, "mask", epoch, example, position)`. So a batch does not depend on the batches before it, on the
process that makes it, or on how often the run was interrupted.

The hash is the finalizer of SplitMix64 (Steele et al. 2014, https://doi.org/10.1145/2660193.2660195), applied once a key.
"""

import zlib
from typing import TypeAlias

import numpy as np

Key: TypeAlias = int | str | np.ndarray

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def keyed_bits(*keys: Key) -> np.ndarray:
    """Hash the keys to 64 random bits.

    Args:
        keys: integers, words, or integer arrays; arrays broadcast against each other.

    Returns:
        uint64 array of the keys' broadcast shape (0-d for scalars).
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        bits = np.zeros((), dtype=np.uint64)
        for key in keys:
            number = zlib.crc32(key.encode()) if isinstance(key, str) else key
            # The int64 step lets Python's negative integers and numpy's wrap alike.
            bits = _mix(bits + (np.asarray(number).astype(np.int64).astype(np.uint64) + np.uint64(1)) * _GOLDEN_GAMMA)
        return bits


def keyed_uniform(*keys: Key) -> np.ndarray:
    """Return float64 numbers in [0, 1), one for each key of the broadcast `keys`."""
    return (keyed_bits(*keys) >> np.uint64(11)) * 2.0**-53


def keyed_integers(high: int | np.ndarray, *keys: Key) -> np.ndarray:
    """Return int64 numbers in [0, high), one for each key of the broadcast `keys` and `high`."""
    return (keyed_uniform(*keys) * high).astype(np.int64)


def keyed_permutation(length: int, *keys: Key) -> np.ndarray:
    """Return the numbers 0 to length − 1, int64, in an order that only `keys` decide."""
    return np.argsort(keyed_bits(*keys, np.arange(length)), kind="stable")


def keyed_seed(*keys: Key) -> int:
    """Return a seed for another library's generator, in [0, 2**63)."""
    return int(keyed_bits(*keys) >> np.uint64(1))
