"""How often words stand near each other, counted over a corpus larger than memory.

Pennington et al. 2014 (GloVe), https://nlp.stanford.edu/pubs/glove.pdf: every word sees the words up to a window away on both
sides, in its own text only, and a word at distance d counts 1/d, unless asked otherwise. Words outside the vocabulary are taken
out before distances are counted, as in the authors' program.

Pairs are held until memory's share is full, then sorted, added up and written to disk as a run; at the end the runs are merged,
a block of each at a time. The order they are sorted in is the one GloVe trains in. A pair (row, column) has the group
(row's place + column's place) mod vocabulary, the places being random permutations; so within a group no row stands twice, and
no column, and the steps of a group can be taken at once without one seeing another's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bertkit.data.errors import DataError

_BLOCK = 1 << 20  # entries of all runs together that are merged at once
_TOKENS_AT_ONCE = 1 << 18  # tokens whose pairs are made at once


@dataclass(frozen=True)
class Cooccurrences:
    """A matrix of weighted counts, symmetric and sparse, on disk and memory-mapped.

    Args:
        rows: (entries,) int32 words.
        columns: (entries,) int32 words beside them.
        counts: (entries,) float32, all above 0.
        group_starts: (vocab + 1,) int64, where each group of entries without a common row or column begins.
    """

    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    group_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def vocab_size(self) -> int:
        """Number of words."""
        return len(self.group_starts) - 1


def count_cooccurrences(
    texts: Iterator[np.ndarray],
    vocab_size: int,
    folder: Path,
    *,
    window: int = 15,
    distance_weighting: bool = True,
    seed: int = 0,
    max_pairs: int = 1 << 22,
    num_tokens: int | None = None,
    quiet: bool = True,
) -> Cooccurrences:
    """Count which words stand near each other.

    Args:
        texts: arrays (tokens,) of word numbers below `vocab_size`, -1 for words outside the vocabulary; no window reaches from
            one array into the next.
        vocab_size: number of words.
        folder: where runs and the matrix are written; it must exist. They are gone when it is removed.
        window: how far apart two words are at most.
        distance_weighting: a word at distance d counts 1/d, else 1.
        seed: key of the order in which the pairs are later walked.
        max_pairs: pairs held in memory before they are written; each takes some 50 bytes for the time of the sorting.
        num_tokens: tokens of all texts, for the progress bar.
        quiet: no progress bar.

    Returns:
        The matrix, memory-mapped from `folder`.

    Raises:
        DataError: there are no two words near each other.
    """
    if vocab_size**2 * window >= 2**63:
        raise DataError(f"{vocab_size:,} words are too many to count pairs of; raise the minimum count")
    generator = np.random.default_rng(seed)
    places = np.stack([generator.permutation(vocab_size), generator.permutation(vocab_size)])  # (2, vocab)
    held: list[np.ndarray] = []
    num_held = 0
    runs: list[Path] = []

    def spill() -> None:
        nonlocal held, num_held
        if num_held:
            runs.append(folder / f"run-{len(runs)}")
            _write_run(runs[-1], held, window, distance_weighting)
        held, num_held = [], 0

    with tqdm(desc="Counting pairs", total=num_tokens, unit=" tokens", unit_scale=True, disable=quiet) as bar:
        for tokens, numbers, length in _blocks(texts):
            for pairs in _pairs(tokens, numbers, window, places):
                held.append(pairs)
                num_held += len(pairs)
                if num_held >= max_pairs:
                    spill()
            bar.update(length)
    spill()
    if not runs:
        raise DataError(
            "no two words of the vocabulary stand near each other, so there is nothing to count; give more text"
        )
    return _merge(runs, folder, places, quiet=quiet)


def _blocks(texts: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield the known words of some texts end to end, the number of the text of each, and how many tokens these texts have."""
    some: list[np.ndarray] = []
    length = 0
    for text in texts:
        some.append(text)
        length += len(text)
        if length >= _TOKENS_AT_ONCE:
            yield *_known(some), length
            some, length = [], 0
    if some:
        yield *_known(some), length


def _known(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.concatenate(texts).astype(np.int64)
    numbers = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    return tokens[tokens >= 0], numbers[tokens >= 0]


def _pairs(tokens: np.ndarray, numbers: np.ndarray, window: int, places: np.ndarray) -> Iterator[np.ndarray]:
    """Yield for every distance the pairs in both orders, each as one number: group, row and distance."""
    vocab_size = places.shape[1]
    for distance in range(1, min(window, len(tokens) - 1) + 1):
        near = numbers[distance:] == numbers[:-distance]
        left, right = tokens[:-distance][near], tokens[distance:][near]
        rows, columns = np.concatenate([left, right]), np.concatenate([right, left])
        groups = (places[0][rows] + places[1][columns]) % vocab_size
        yield (groups * vocab_size + rows) * window + distance - 1


_ENTRY = np.dtype([("key", "<i8"), ("count", "<f8")])


def _write_run(path: Path, held: list[np.ndarray], window: int, distance_weighting: bool) -> None:
    """Sort pairs, add up those that are equal, and write what is left; `held` is emptied on the way."""
    pairs = np.concatenate(held)
    held.clear()
    pairs.sort()
    keys, distances = np.divmod(pairs, window)
    del pairs
    weights = 1 / (distances + 1.0) if distance_weighting else np.ones(len(keys))
    _summed(keys, weights).tofile(path)


def _summed(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return one entry for every key of sorted ones, its counts added up."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    entries = np.empty(len(starts), _ENTRY)
    entries["key"] = keys[starts]
    entries["count"] = np.add.reduceat(counts, starts)
    return entries


def _merge(runs: list[Path], folder: Path, places: np.ndarray, *, quiet: bool) -> Cooccurrences:
    vocab_size = places.shape[1]
    columns_at = np.argsort(places[1])  # place -> column
    sizes = np.zeros(vocab_size, dtype=np.int64)
    files = {name: (folder / name).open("wb") for name in ("rows", "columns", "counts")}
    total = sum(run.stat().st_size for run in runs) // _ENTRY.itemsize
    with tqdm(desc="Merging", total=total, unit=" pairs", unit_scale=True, disable=quiet) as bar:
        for entries, read in _merged(runs):
            groups, rows = np.divmod(entries["key"], vocab_size)
            columns = columns_at[(groups - places[0][rows]) % vocab_size]
            sizes += np.bincount(groups, minlength=vocab_size)
            files["rows"].write(rows.astype("<i4").tobytes())
            files["columns"].write(columns.astype("<i4").tobytes())
            files["counts"].write(entries["count"].astype("<f4").tobytes())
            bar.update(read)
    for file in files.values():
        file.close()
    for run in runs:
        run.unlink()
    return Cooccurrences(
        rows=np.memmap(folder / "rows", "<i4", "r"),
        columns=np.memmap(folder / "columns", "<i4", "r"),
        counts=np.memmap(folder / "counts", "<f4", "r"),
        group_starts=np.concatenate([[0], np.cumsum(sizes)]),
    )


def _merged(runs: Sequence[Path]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the entries of all runs in order, equal keys added up, a block at a time; and how many entries were read for it."""
    # Each block is read and its file closed again: there may be more runs than a process may have files open, and what is
    # mapped would count as the process's memory.
    sizes = [run.stat().st_size // _ENTRY.itemsize for run in runs]
    at = [0] * len(runs)
    length = max(_BLOCK // len(runs), 1)
    while at != sizes:
        blocks = [
            np.fromfile(run, _ENTRY, count=length, offset=position * _ENTRY.itemsize)
            for run, position in zip(runs, at, strict=True)
        ]
        # Whatever lies up to the first end of a block is complete: what follows in every run is behind it.
        last = min(int(block["key"][-1]) for block in blocks if len(block))
        taken = [block[: np.searchsorted(block["key"], last, side="right")] for block in blocks]
        at = [position + len(block) for position, block in zip(at, taken, strict=True)]
        some = np.concatenate(taken)
        order = np.argsort(some["key"], kind="stable")
        yield _summed(some["key"][order], some["count"][order]), len(some)
