"""Token ids by the word, for tokenizers that see no further than one: most words of a text were met before.

WordPiece behind BERT's normaliser and splitter takes what stands between two spaces alone, so the ids of a text are those of
its words, one behind the other. To look them up takes a tenth of the time of taking them apart again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

MAX_WORDS = 1 << 17
"""Words that are remembered, at most: some 40 MB. Then it starts anew."""

_JOINING = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"  # spaces to Python, but BERT's normaliser drops them and joins what they part


class Encoded(NamedTuple):
    """The tokens of texts."""

    token_ids: np.ndarray
    """(tokens,) of all texts."""
    lengths: np.ndarray
    """(texts,) int64 tokens of each."""


def is_word_by_word(tokenizer_json: str) -> bool:
    """Return whether a tokenizer takes the words of a text alone.

    Args:
        tokenizer_json: the tokenizer, as `Tokenizer.to_str` gives it. Its special tokens are taken for text.
    """
    spec = json.loads(tokenizer_json)
    kinds = [(spec[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and all(
        token["special"] for token in spec["added_tokens"]
    )


class WordIds:
    """Encodes texts by looking up their words.

    Args:
        tokenizer: one that `is_word_by_word`.
        dtype: of the ids.
    """

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype) -> None:
        self._tokenizer, self._dtype = tokenizer, dtype
        self._ids: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> Encoded | None:
        """Encode texts without special tokens.

        Args:
            texts: any texts.

        Returns:
            Their tokens; None where a character joins the words that Python would part at it.
        """
        whole = " ".join(texts)
        if any(character in whole for character in _JOINING):
            return None
        words = [text.split() for text in texts]
        types = set(chain.from_iterable(words))
        if len(self._ids) + len(types) > MAX_WORDS:
            self._ids.clear()
        new = [word for word in types if word not in self._ids]
        encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        self._ids.update(zip(new, (encoding.ids for encoding in encodings), strict=True))
        ids = list(map(self._ids.__getitem__, chain.from_iterable(words)))
        token_ends = np.fromiter(map(len, ids), np.int64, len(ids)).cumsum()  # (words,)
        word_ends = np.fromiter(map(len, words), np.int64, len(words)).cumsum()  # (texts,)
        ends = np.concatenate([[0], token_ends])[word_ends]  # (texts,) in tokens
        token_ids = np.fromiter(chain.from_iterable(ids), self._dtype, token_ends[-1] if len(ids) else 0)
        return Encoded(token_ids, np.diff(ends, prepend=0))
