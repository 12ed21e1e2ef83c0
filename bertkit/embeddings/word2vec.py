"""word2vec: vectors that tell a word from those around it, or those around it from the word, trained by gensim.

Mikolov et al. 2013, https://arxiv.org/abs/1301.3781 (CBOW and skip-gram) and https://arxiv.org/abs/1310.4546 (negative
sampling, subsampling of frequent words).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tqdm import tqdm

from bertkit.data.errors import DataError
from bertkit.embeddings.word_vectors import WordVectors

_LONGEST_TEXT = 10_000  # words; gensim would pass over the rest in silence


@dataclass(kw_only=True)
class Word2VecArguments:
    """How word2vec trains; the defaults are gensim's, but for skip-gram, which small corpora ask for.

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    architecture: Literal["skipgram", "cbow"] = "skipgram"
    """skipgram predicts each word around a word from it; cbow predicts a word from the mean of those around it, faster."""
    loss: Literal["negative_sampling", "hierarchical_softmax"] = "negative_sampling"
    """Against what the right word is learned: some random words, or the forks of a Huffman tree over all."""
    vector_size: int = 100
    """Numbers in a vector."""
    window: int = 5
    """How far apart two words are at most, on either side; at each word a smaller window is drawn, so that near words count
    more."""
    min_count: int = 5
    """Words that occur less often are left out, as if they did not stand in the text."""
    negative: int = 5
    """Negative sampling: random words beside each right one."""
    subsampling: float = 0.001
    """Words with a larger share of the text are passed over at random, the more often the more frequent; 0 passes over none."""
    learning_rate: float = 0.025
    """First learning rate; it falls evenly."""
    min_learning_rate: float = 0.0001
    """Last learning rate."""
    epochs: int = 5
    """How often the text is walked through."""
    seed: int = 1
    """Key of the first numbers and of all that is drawn."""
    workers: int = 1
    """Threads that train. One gives the same vectors each time, several are faster and do not."""

    def __post_init__(self) -> None:
        for name in ("vector_size", "window", "min_count", "negative", "epochs", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"word2vec.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.min_learning_rate <= self.learning_rate or self.learning_rate == 0:
            raise ValueError(
                f"word2vec.learning_rate is {self.learning_rate} and min_learning_rate {self.min_learning_rate}; the first "
                "must be above 0, and the last between 0 and it"
            )
        if self.subsampling < 0:
            raise ValueError(f"word2vec.subsampling is {self.subsampling}; it must be 0 or above")


def require_gensim() -> None:
    """Make sure that gensim is there.

    Raises:
        DataError: it is not; says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("gensim") is None:
        raise DataError("word2vec is trained by gensim, which is not installed; pip install 'bertkit[embed]'")


def train_word2vec(
    texts: Callable[[], Iterable[np.ndarray]],
    tokens: list[str],
    left_out: set[str],
    arguments: Word2VecArguments,
    *,
    num_tokens: int,
    quiet: bool = True,
) -> WordVectors:
    """Train on texts that are read anew for every epoch; equal texts and settings give equal bits with one worker.

    Args:
        texts: gives the texts, arrays (tokens,) of token ids.
        tokens: the token of each id.
        left_out: tokens that get no vector, and count as unknown words do.
        arguments: how to train.
        num_tokens: tokens of all texts, for the progress bar.
        quiet: no progress bar.

    Returns:
        The vectors of all other tokens that occur often enough, the most frequent first.

    Raises:
        DataError: gensim is not installed, or no token occurs so often.
    """
    require_gensim()
    from gensim.models import Word2Vec
    from gensim.utils import RULE_DEFAULT, RULE_DISCARD

    hierarchical = arguments.loss == "hierarchical_softmax"
    model = Word2Vec(
        sg=int(arguments.architecture == "skipgram"),
        hs=int(hierarchical),
        negative=0 if hierarchical else arguments.negative,
        vector_size=arguments.vector_size,
        window=arguments.window,
        min_count=arguments.min_count,
        sample=arguments.subsampling,
        alpha=arguments.learning_rate,
        min_alpha=arguments.min_learning_rate,
        epochs=arguments.epochs,
        seed=arguments.seed,
        workers=arguments.workers,
    )
    with tqdm(
        desc="Training", total=num_tokens * (1 + arguments.epochs), unit=" tokens", unit_scale=True, disable=quiet
    ) as bar:
        corpus = _Corpus(texts, tokens, bar)
        model.build_vocab(
            corpus, trim_rule=lambda word, count, min_count: RULE_DISCARD if word in left_out else RULE_DEFAULT
        )
        if not model.wv.index_to_key:
            raise DataError(
                f"no token of the text occurs {arguments.min_count} times; give more text, or a lower min_count"
            )
        model.train(
            corpus, total_examples=model.corpus_count, total_words=model.corpus_total_words, epochs=arguments.epochs
        )
    return WordVectors(model.wv.index_to_key, model.wv.vectors)


class _Corpus:
    """Texts as lists of words, as often as gensim asks for them."""

    def __init__(self, texts: Callable[[], Iterable[np.ndarray]], tokens: list[str], bar: tqdm) -> None:
        self._texts = texts
        self._tokens = tokens
        self._bar = bar

    def __iter__(self) -> Iterator[list[str]]:
        tokens = self._tokens
        for text in self._texts():
            for start in range(0, len(text), _LONGEST_TEXT):
                some = text[start : start + _LONGEST_TEXT].tolist()
                yield [tokens[number] for number in some]
                self._bar.update(len(some))
