"""Minimal pairs: does a model hold the acceptable sentence of a pair for likelier than the one that breaks a rule?

Warstadt et al. 2020 (BLiMP), https://arxiv.org/abs/1912.00582. The pairs come as its jsonl files, with `sentence_good` and
`sentence_bad` in every record. A sentence is scored once however often it stands in the data, so that equal sentences have
equal scores, and a pair whose scores are equal is a tie: half right, and counted.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertkit.data.errors import DataError
from bertkit.data.records import Record, read_file, read_records

GOOD, BAD = "sentence_good", "sentence_bad"


class Pair(NamedTuple):
    """A minimal pair."""

    good: str
    bad: str
    paradigm: str
    """The rule it is about: its record's `UID`, or the name of its file."""


class Paradigm(NamedTuple):
    """How a model does on the pairs of one rule."""

    name: str
    pairs: int
    ties: int
    accuracy: float
    """Share of the pairs whose good sentence is likelier, ties as a half."""


def read_pairs(source: str | Path) -> list[Pair]:
    """Read the pairs of a file, or of all `.jsonl` files of a folder.

    Args:
        source: a file or a folder.

    Raises:
        DataError: no such file, no pairs, or a line that is none; named by file and line.
    """
    source = Path(source)
    files = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    records = (
        (path, record) for path in files for record in read_records(path, ".jsonl", read_file(path), (GOOD, BAD))
    )
    pairs = [_pair(record, path) for path, record in records]
    if not pairs:
        raise DataError(f"{source} has no minimal pairs; give a .jsonl file whose records have {GOOD} and {BAD}")
    return pairs


def _pair(record: Record, path: Path) -> Pair:
    good, bad = record.fields.get(GOOD), record.fields.get(BAD)
    if not isinstance(good, str) or not isinstance(bad, str):
        has = ", ".join(record.fields)
        raise DataError(f"{record.place}: a record needs the texts {GOOD} and {BAD}; it has {has}")
    return Pair(good, bad, str(record.fields.get("UID", path.stem)))


def compare_pairs(pairs: Sequence[Pair], score: Callable[[list[str]], np.ndarray]) -> list[Paradigm]:
    """Compare the sentences of every pair by their scores.

    Args:
        pairs: the pairs.
        score: gives the log likelihoods (texts,) of texts; they are compared as float32.

    Returns:
        The results of each paradigm, in the order they come in.
    """
    texts = sorted({text for pair in pairs for text in (pair.good, pair.bad)})
    scores = dict(zip(texts, score(texts).astype(np.float32).tolist(), strict=True))
    by_paradigm: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_paradigm.setdefault(pair.paradigm, []).append(pair)
    results = []
    for name, some in by_paradigm.items():
        right = sum(scores[pair.good] > scores[pair.bad] for pair in some)
        ties = sum(scores[pair.good] == scores[pair.bad] for pair in some)
        results.append(Paradigm(name, len(some), ties, (right + ties / 2) / len(some)))
    return results
