"""Word similarity: do vectors hold for alike what people hold for alike?

Finkelstein et al. 2002 (WordSim-353), Hill et al. 2015 (SimLex-999), https://arxiv.org/abs/1408.3456. The figure is Spearman's
correlation of the cosines of pairs of words with the scores that people gave them. A pair of which a word has no vector says
nothing and is left out; how many are left says how much the figure is worth.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertkit.data.errors import DataError, read_errors


class ScoredPair(NamedTuple):
    """Two words, and how alike people find them."""

    first: str
    second: str
    score: float


class Similarity(NamedTuple):
    """How vectors do on scored pairs."""

    spearman: float
    """From -1 to 1; not a number where fewer than two different pairs are covered."""
    covered: int
    pairs: int


def read_scored_pairs(path: str | Path) -> list[ScoredPair]:
    """Read lines of a word, a word and a score, parted by tabs, commas or spaces.

    A first line whose third field is no number is a header; lines that begin with # are comments. Fields behind the third are
    not read.

    Args:
        path: the file.

    Raises:
        DataError: it cannot be read, holds no pair, or a line is none; named by file and line.
    """
    pairs: list[ScoredPair] = []
    is_first = True
    for number, line in enumerate(read_lines(Path(path)), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t") if "\t" in line else line.split("," if "," in line else None)
        fields = [field.strip() for field in fields]
        pair = _pair(fields)
        if pair is not None:
            pairs.append(pair)
        elif not is_first or len(fields) < 3:
            raise DataError(
                f"{path}, line {number}: a word, a word and a score should stand here, not {line.strip()[:60]!r}"
            )
        is_first = False
    if not pairs:
        raise DataError(f"{path} holds no pairs; give a file of lines word, word, score")
    return pairs


def _pair(fields: Sequence[str]) -> ScoredPair | None:
    try:
        first, second, score = fields[:3]
        return ScoredPair(first, second, float(score)) if first and second else None
    except ValueError:
        return None


def read_lines(path: Path) -> list[str]:
    """Read the lines of a small file.

    Args:
        path: the file, UTF-8.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    with read_errors(path):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); write it anew") from error


def word_similarity(
    pairs: Sequence[ScoredPair], row_of: Callable[[str], int | None], directions: np.ndarray
) -> Similarity:
    """Correlate the cosines of pairs with their scores.

    Args:
        pairs: the pairs.
        row_of: gives the row of a word, None where it has no vector.
        directions: (words, width) vectors of length 1, or 0.
    """
    from scipy.stats import spearmanr

    firsts, seconds, covered_scores = [], [], []
    for pair in pairs:
        first, second = row_of(pair.first), row_of(pair.second)
        if first is not None and second is not None:
            firsts.append(first)
            seconds.append(second)
            covered_scores.append(pair.score)
    if not firsts:
        return Similarity(float("nan"), 0, len(pairs))
    cosines = np.einsum("pn,pn->p", directions[firsts], directions[seconds])  # (covered,)
    scores = np.array(covered_scores)
    varied = len(np.unique(cosines)) > 1 and len(np.unique(scores)) > 1
    return Similarity(float(spearmanr(cosines, scores).statistic) if varied else float("nan"), len(firsts), len(pairs))
