"""ELMo's open vocabulary: text to the characters of its words, for models that read words by their characters.

It lies beside the models because it travels with their checkpoints: transformers copies it, and runs it without bertkit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizer

from .modeling_characters import (
    BEGIN_OF_SENTENCE,
    END_OF_SENTENCE,
    PADDING,
    marker_characters,
    word_characters,
)

MARKERS = {"<S>": BEGIN_OF_SENTENCE, "</S>": END_OF_SENTENCE}
SPECIAL_WORDS = ("<pad>", "<S>", "</S>")  # with the token ids 0, 1, 2 in the table of a model without other words


class ElmoCharacterTokenizer(PreTrainedTokenizer):
    """Words are what stands between spaces; each becomes `max_characters` ids of characters instead of one of a word.

    So `input_ids` are (batch, words, characters), which `ElmoModel` takes as they are. Every word has a spelling, and
    none is unknown; `<S>` and `</S>` stand around each text. Texts are best tokenized beforehand as the model's corpus
    was (AllenAI's: punctuation apart). A word given with `is_split_into_words` that has a space inside is two words.

    Args:
        max_characters: ids of a word, its two marks and padding counted; longer words are cut.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 (transformers reads a list)
    padding_side = "right"

    def __init__(
        self,
        max_characters: int = 50,
        pad_token: str = "<pad>",
        bos_token: str = "<S>",
        eos_token: str = "</S>",
        **kwargs: Any,
    ) -> None:
        self.max_characters = max_characters
        settings = {"special_tokens_pattern": "bos_eos", **kwargs}
        super().__init__(
            max_characters=max_characters, pad_token=pad_token, bos_token=bos_token, eos_token=eos_token, **settings
        )

    @property
    def vocab_size(self) -> int:
        """Number of words with an id of their own."""
        return len(SPECIAL_WORDS)

    def get_vocab(self) -> dict[str, int]:
        """Return the words with an id of their own; all others have characters only."""
        return {word: token_id for token_id, word in enumerate(SPECIAL_WORDS)}

    @property
    def pad_token_id(self) -> int:
        """Id of the character that a word of padding is made of."""
        return PADDING

    def tokenize(self, text: str, *args: Any, **kwargs: Any) -> list[str]:
        """Split at white space."""
        return text.split()

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> Any:
        """Spell a word, or a list of words: (characters,) or (words, characters)."""
        return self._spell(tokens) if isinstance(tokens, str) else [self._spell(token) for token in tokens]

    def _spell(self, word: str) -> list[int]:
        if word == self.pad_token:
            return [PADDING] * self.max_characters
        if word in MARKERS:
            return marker_characters(MARKERS[word], self.max_characters)
        return word_characters(word, self.max_characters)

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Read spellings: (characters,) to a word, (words, characters) to a list; a word that was cut may end in "�"."""
        if not len(ids) or isinstance(ids[0], int):
            return self._read(list(ids))
        words = [self._read(characters) for characters in ids]
        return [word for word in words if not (skip_special_tokens and word in SPECIAL_WORDS)]

    def _read(self, characters: list[int]) -> str:
        marker = next((word for word, marker in MARKERS.items() if marker in characters), None)
        if marker is not None:
            return marker
        if all(character == PADDING for character in characters):
            return SPECIAL_WORDS[0]
        return bytes(character for character in characters if character < BEGIN_OF_SENTENCE).decode("utf-8", "replace")

    def pad(self, encoded_inputs: Any, padding: Any = True, return_tensors: Any = None, **kwargs: Any) -> BatchEncoding:  # type: ignore[override]
        """Pad one text or a batch of texts; arguments as transformers has them."""
        words = encoded_inputs["input_ids"] if isinstance(encoded_inputs, Mapping) else None
        if not words or not isinstance(words[0][0], int):
            return super().pad(encoded_inputs, padding, return_tensors=return_tensors, **kwargs)
        # One text, whose words are lists: transformers would take it for a batch of texts.
        padded = super().pad({name: [value] for name, value in encoded_inputs.items()}, padding, **kwargs)
        return BatchEncoding({name: value[0] for name, value in padded.items()}, tensor_type=return_tensors)

    def _pad(self, encoded_inputs: Any, *args: Any, **kwargs: Any) -> Any:
        padded = super()._pad(encoded_inputs, *args, **kwargs)
        words = padded["input_ids"]
        padded["input_ids"] = [self._spell(str(self.pad_token)) if word == PADDING else word for word in words]
        return padded

    def save_vocabulary(self, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write nothing: there is no vocabulary."""
        return ()
