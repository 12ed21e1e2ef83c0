"""Words that a tokenizer spells, under one number each, so that whatever lays out tokens need not know of characters."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = re.compile(r"\S+")
_STAND_IN = "a"  # what a text is, where only what stands around it is asked for


class _Token(NamedTuple):
    """A word of a text, or one that the tokenizer sets around it."""

    word_id: int
    text: int | None = None
    """Which text it is of; None for what the tokenizer sets around them."""
    number: int | None = None
    """Which word of its text, or of the list of words that was given."""
    span: tuple[int, int] = (0, 0)
    """Where it begins and ends in its text, or in its word of the list, in characters."""


class SpeltEncoding(dict[str, Any]):
    """What a fast tokenizer returns of a text or a pair, as far as tasks read it: `input_ids` and `offset_mapping`."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        super().__init__(input_ids=[token.word_id for token in tokens], offset_mapping=[token.span for token in tokens])
        self._tokens = tokens

    def word_ids(self) -> list[int | None]:
        """Return for each token which word of its text it is."""
        return [token.number for token in self._tokens]

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return for each token whether it is of the first text or the second; None where it is of neither."""
        return [token.text for token in self._tokens]


class SpeltWords:
    """A tokenizer that spells words, asked like a fast one: each word that differs from all before gets the next number.

    The numbers mean something together with `spellings` only. No model sees them: it is given the characters that they
    stand for.

    Args:
        tokenizer: splits texts at white space and makes of a word a list of characters, `ElmoCharacterTokenizer`.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer: Any = tokenizer
        self._word_ids: dict[str, int] = {}
        self.pad_token_id = self._word_id(str(tokenizer.pad_token))
        """Number of padding."""
        self.unk_token_id = self._word_id("")
        """Number of the word without a character, which stands where a list of words has an empty one."""

    @property
    def spellings(self) -> np.ndarray:
        """(words, characters) int16 the characters of every number that was given so far."""
        spell = self._tokenizer.convert_tokens_to_ids
        return np.stack([np.array(spell(word), dtype=np.int16) for word in self._word_ids])

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        is_split_into_words: bool = False,
        return_offsets_mapping: bool = True,
        verbose: bool = True,
    ) -> dict[str, Any]:
        """Number the words of a text, a pair of texts or several texts.

        Args:
            text: the text; with `is_split_into_words` its words, each of which may hold several or none; else a list is
                several texts.
            text_pair: the second text.
            add_special_tokens: set what the tokenizer sets around texts.
            is_split_into_words: see `text`.
            return_offsets_mapping: offsets are given in any case, as nothing else is known of a fast tokenizer's arguments.
            verbose: there is nothing to say.

        Returns:
            A `SpeltEncoding`; of several texts their `input_ids`.
        """
        if not isinstance(text, str) and not is_split_into_words:
            return {"input_ids": [self(one, add_special_tokens=add_special_tokens)["input_ids"] for one in text]}
        texts = [text] if text_pair is None else [text, text_pair]
        tokens = [[*self._tokens(one, number)] for number, one in enumerate(texts)]
        return SpeltEncoding([*self._framed(tokens)] if add_special_tokens else [*chain.from_iterable(tokens)])

    def _tokens(self, text: str | Sequence[str], number: int) -> Iterator[_Token]:
        if isinstance(text, str):
            for place, match in enumerate(_WORD.finditer(text)):
                yield _Token(self._word_id(match[0]), number, place, match.span())
        else:
            for place, word in enumerate(text):
                for match in _WORD.finditer(word):
                    yield _Token(self._word_id(match[0]), number, place, match.span())

    def _framed(self, texts: Sequence[Sequence[_Token]]) -> Iterator[_Token]:
        """Yield the tokens of a text or a pair, among those that the tokenizer sets around them."""
        example = self._tokenizer(*[_STAND_IN] * len(texts))["input_ids"]
        rest = iter(texts)
        for word in self._tokenizer.convert_ids_to_tokens(example):
            if word == _STAND_IN:
                yield from next(rest)
            else:
                yield _Token(self._word_id(word))

    def _word_id(self, word: str) -> int:
        return self._word_ids.setdefault(word, len(self._word_ids))
