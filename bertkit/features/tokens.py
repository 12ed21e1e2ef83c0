"""Texts as token ids, and which tokens each vector is made of."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bertkit.features.settings import FeatureSettings

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEXTS_AT_ONCE = 1000  # given to the tokenizer together


@dataclass(frozen=True)
class TokenizedTexts:
    """Tokenized texts, one after the other."""

    token_ids: np.ndarray
    """(tokens,) int32, or (tokens, characters) where a token is spelt."""
    token_type_ids: np.ndarray | None
    """(tokens,) int32, where the tokenizer gives them."""
    vector_of: np.ndarray
    """(tokens,) int32 which vector of its text a token is for, −1 where it is for none."""
    lengths: np.ndarray
    """(texts,) int64 tokens of each text."""
    counts: np.ndarray
    """(texts,) int64 vectors of each text."""
    words: list[list[str]] | None
    """What each vector of each text is of, where it is of less than the text."""
    num_cut: int
    """Texts that were cut."""

    @property
    def starts(self) -> np.ndarray:
        """(texts,) int64 place of the first token of each text."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def offsets(self) -> np.ndarray:
        """(texts + 1,) int64 place of the first vector of each text, and behind the last one's last."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def without_token(self) -> np.ndarray:
        """Return (vectors,) bool, which of them no token is for."""
        offsets = self.offsets
        missing = np.ones(offsets[-1], dtype=bool)
        places = np.repeat(offsets[:-1], self.lengths) + self.vector_of
        missing[places[self.vector_of >= 0]] = False
        return missing


class _Text(NamedTuple):
    """One tokenized text."""

    token_ids: Any
    token_type_ids: Any
    vector_of: np.ndarray
    num_vectors: int
    words: list[str]
    is_cut: bool


def choose_max_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None, *, pairs: bool
) -> int:
    """Return the longest text in tokens.

    Args:
        model: the model.
        tokenizer: the model's.
        max_length: what was asked for.
        pairs: whether texts come in pairs.

    Raises:
        ValueError: more than the model takes, or too little for a token beside the special ones.
    """
    most = getattr(model.config, "max_position_embeddings", sys.maxsize)  # a recurrent model takes any length
    least = tokenizer.num_special_tokens_to_add(pair=pairs) + 1
    if max_length is None:
        return min(most, tokenizer.model_max_length)
    if not least <= max_length <= most:
        raise ValueError(
            f"max_length is {max_length}; give {least} (special tokens and one more) to {most} (what the model takes)"
        )
    return max_length


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    settings: FeatureSettings,
    *,
    max_length: int,
    numbers: range,
    quiet: bool,
) -> TokenizedTexts:
    """Tokenize texts and find out which tokens each vector is made of.

    Args:
        tokenizer: a fast tokenizer, or one that spells words.
        texts: the texts.
        text_pairs: the second text of each pair.
        settings: what a vector is.
        max_length: longest text in tokens.
        numbers: the numbers of the texts, from 0, for messages.
        quiet: no progress bar.

    Raises:
        ValueError: a text without any token, of which a vector is asked for.
    """
    from tqdm import tqdm

    with_types = "token_type_ids" in tokenizer.model_input_names
    done: list[_Text] = []
    with tqdm(total=len(texts), desc="Tokenizing", unit=" texts", unit_scale=True, disable=quiet) as bar:
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            some = slice(first, first + _TEXTS_AT_ONCE)
            pairs = None if text_pairs is None else list(text_pairs[some])
            done += _tokenize_some(tokenizer, list(texts[some]), pairs, settings, max_length)
            bar.update(len(done) - first)
    lengths = np.array([len(text.token_ids) for text in done], dtype=np.int64)
    if settings.level == "text" and not lengths.all():
        raise ValueError(f"text {numbers[int(np.argmin(lengths))] + 1} has no token; leave empty texts out")

    def joined(arrays: Sequence[Any]) -> np.ndarray:
        filled = [np.asarray(array, dtype=np.int32) for array in arrays if len(array)]
        return np.concatenate(filled) if filled else np.zeros(0, dtype=np.int32)

    return TokenizedTexts(
        token_ids=joined([text.token_ids for text in done]),
        token_type_ids=joined([text.token_type_ids for text in done]) if with_types else None,
        vector_of=joined([text.vector_of for text in done]),
        lengths=lengths,
        counts=np.array([text.num_vectors for text in done], dtype=np.int64),
        words=None if settings.level == "text" else [text.words for text in done],
        num_cut=sum(text.is_cut for text in done),
    )


def _tokenize_some(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    text_pairs: list[str] | None,
    settings: FeatureSettings,
    max_length: int,
) -> list[_Text]:
    if not tokenizer.is_fast:
        seconds = [None] * len(texts) if text_pairs is None else text_pairs
        return [_spell(tokenizer, *pair, settings, max_length) for pair in zip(texts, seconds, strict=True)]
    by_spaces = settings.words == "spaces"
    given: Sequence[str | list[str]] = [text.split() for text in texts] if by_spaces else texts
    batch = tokenizer(
        given, text_pairs, is_split_into_words=by_spaces, truncation="longest_first", max_length=max_length
    )
    return [
        _Text(
            np.array(encoding.ids, dtype=np.int32),
            np.array(encoding.type_ids, dtype=np.int32),
            *_parts(encoding, text, settings),
            bool(encoding.overflowing),
        )
        for encoding, text in zip(batch.encodings or (), given, strict=True)
    ]


def _spell(
    tokenizer: PreTrainedTokenizerBase, text: str, text_pair: str | None, settings: FeatureSettings, max_length: int
) -> _Text:
    """Tokenize a text or a pair by a tokenizer that spells the words between spaces, which are its tokens."""
    is_pair = text_pair is not None
    words, second = text.split(), (text_pair or "").split()
    room = max_length - tokenizer.num_special_tokens_to_add(pair=is_pair)
    keep = min(len(words), max(room - len(second), (room + 1) // 2))  # of a pair the longer text is cut
    spelt: Any = tokenizer(" ".join(words[:keep]), " ".join(second[: room - keep]) if is_pair else None)["input_ids"]
    of_token = np.arange(-1, len(spelt) - 1, dtype=np.int32)  # a token stands before the first word and behind the last
    of_token[-1] = -1
    is_cut = len(words) + len(second) > room
    types = np.zeros(len(spelt), dtype=np.int32)
    if settings.level == "text":
        return _Text(spelt, types, np.zeros(len(spelt), dtype=np.int32), 1, [], is_cut)
    if settings.level == "token":
        tokens: Any = tokenizer.convert_ids_to_tokens(spelt)
        return _Text(spelt, types, np.arange(len(spelt), dtype=np.int32), len(spelt), tokens, is_cut)
    if settings.words == "tokenizer":
        words = words[:keep]
    return _Text(spelt, types, of_token, len(words), words, is_cut)


def _parts(encoding: Encoding, text: str | list[str], settings: FeatureSettings) -> tuple[np.ndarray, int, list[str]]:
    """Return (tokens,) which vector each token is for, the number of vectors, and what they are of."""
    length = len(encoding.ids)
    if settings.level == "text":
        return np.zeros(length, dtype=np.int32), 1, []
    if settings.level == "token":
        return np.arange(length, dtype=np.int32), length, encoding.tokens
    of_token = np.array([-1 if word is None else word for word in encoding.word_ids], dtype=np.int32)
    if isinstance(text, list):
        return of_token, len(text), text
    # Numbers of words may have gaps, and where words lie in the text is known by their tokens.
    spans = {}
    for word, pieces in itertools.groupby(zip(of_token.tolist(), encoding.offsets, strict=True), lambda pair: pair[0]):
        if word >= 0:
            places = [place for _, place in pieces]
            spans[word] = text[places[0][0] : places[-1][1]]
    renumbered = np.searchsorted(np.fromiter(spans, dtype=np.int32, count=len(spans)), of_token)
    return np.where(of_token < 0, -1, renumbered).astype(np.int32), len(spans), [*spans.values()]
