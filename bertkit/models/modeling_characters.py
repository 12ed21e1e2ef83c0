"""Words read by their characters: convolutions over the bytes of a word, highway layers, a projection.

Papers: Kim et al. 2016, https://arxiv.org/abs/1508.06615 (the network); Peters et al. 2018,
https://arxiv.org/abs/1802.05365 (ELMo's). A word is its UTF-8 bytes between two marks, filled up to a fixed length; the
numbers are those of AllenAI's bilm-tf.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

BEGIN_OF_SENTENCE = 256  # stands in for the bytes of the word that begins a sentence
END_OF_SENTENCE = 257
BEGIN_OF_WORD = 258
END_OF_WORD = 259
PADDING = 260
NUM_CHARACTERS = 261


def word_characters(word: str, max_characters: int) -> list[int]:
    """Spell a word: its mark, as many of its UTF-8 bytes as there is room for, its other mark, padding.

    >>> word_characters("né", max_characters=8)
    [258, 110, 195, 169, 259, 260, 260, 260]
    """
    return _between_marks(word.encode("utf-8")[: max_characters - 2], max_characters)


def marker_characters(marker: int, max_characters: int) -> list[int]:
    """Spell one of the two words that begin and end a sentence.

    >>> marker_characters(BEGIN_OF_SENTENCE, max_characters=5)
    [258, 256, 259, 260, 260]
    """
    return _between_marks([marker], max_characters)


def _between_marks(characters: Sequence[int], max_characters: int) -> list[int]:
    return [BEGIN_OF_WORD, *characters, END_OF_WORD] + [PADDING] * (max_characters - 2 - len(characters))


def character_table(
    words: Sequence[str],
    max_characters: int,
    pad_token_id: int | None = None,
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
) -> torch.Tensor:
    """Spell a vocabulary.

    Args:
        words: the word, or piece of one, of every token id.
        max_characters: length of a spelling.
        pad_token_id: the id that is padding and has no characters.
        bos_token_id: the id that begins a sentence.
        eos_token_id: the id that ends one.

    Returns:
        (vocab, max_characters) int16.
    """
    table = [word_characters(word, max_characters) for word in words]
    if pad_token_id is not None:
        table[pad_token_id] = [PADDING] * max_characters
    for token_id, marker in ((bos_token_id, BEGIN_OF_SENTENCE), (eos_token_id, END_OF_SENTENCE)):
        if token_id is not None:
            table[token_id] = marker_characters(marker, max_characters)
    return torch.tensor(table, dtype=torch.int16)


class Highway(nn.Module):
    """A layer that a gate lets through or leads past: gate * act(W x) + (1 - gate) * x (Srivastava et al. 2015)."""

    def __init__(self, size: int, act: str) -> None:
        super().__init__()
        self.gate = nn.Linear(size, size)
        self.transform = nn.Linear(size, size)
        self.activation = ACT2FN[act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (..., size) to (..., size)."""
        transformed = self.activation(self.transform(hidden_states))
        return torch.lerp(hidden_states, transformed, self.gate(hidden_states).sigmoid())


class CharacterEncoder(nn.Module):
    """Characters of a word to its vector; token ids are spelled by a table, which the checkpoint holds.

    Args:
        config: vocab_size, max_characters, character_embedding_size, character_filters, character_act,
            num_highway_layers; pad_token_id, bos_token_id and eos_token_id for the table.
        output_size: width of a word's vector.
    """

    characters: torch.Tensor

    def __init__(self, config: PreTrainedConfig, output_size: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("characters", self.spell_by_number())
        self.character_embeddings = nn.Embedding(NUM_CHARACTERS, config.character_embedding_size)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.character_embedding_size, number, width) for width, number in config.character_filters
        )
        num_filters = sum(number for _, number in config.character_filters)
        self.activation = ACT2FN[config.character_act]
        self.highways = nn.ModuleList(
            Highway(num_filters, config.character_act) for _ in range(config.num_highway_layers)
        )
        self.projection = nn.Linear(num_filters, output_size)

    def spell(self, words: Sequence[str]) -> torch.Tensor:
        """Make the table for a vocabulary: the word of every token id -> (vocab, max_characters) int16."""
        special = {name: getattr(self.config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        return character_table(words, self.config.max_characters, **special)

    def spell_by_number(self) -> torch.Tensor:
        """Make the table of a model that no vocabulary was read into: every id is spelled by its number, none like another."""
        return self.spell([str(token_id) for token_id in range(self.config.vocab_size)])

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Encode words.

        Args:
            input_ids: (batch, seq) token ids of the table, or (batch, seq, max_characters) characters.

        Returns:
            (batch, seq, output).
        """
        # A batch has each of its words many times; the network reads it once.
        if input_ids.dim() == 3:
            words, places = input_ids.flatten(0, 1).unique(dim=0, return_inverse=True)
            return self.encode(words)[places.view(input_ids.shape[:2])]
        words, places = input_ids.unique(return_inverse=True)
        return self.encode(self.characters[words].long())[places]

    def encode(self, characters: torch.Tensor) -> torch.Tensor:
        """Encode (words, max_characters) to (words, output)."""
        # One window of padding alone stands for all: columns that only add more of these are left out.
        widest = max(width for width, _ in self.config.character_filters)
        used = (characters != PADDING).any(dim=0).sum() + widest
        return self.encode_whole(characters[:, : int(used)])

    def encode_whole(self, characters: torch.Tensor) -> torch.Tensor:
        """Encode words as `encode` does, with all columns of padding; sizes do not depend on what the words are."""
        embedded = self.character_embeddings(characters).mT  # (words, embedding, characters)
        pooled = [convolution(embedded).max(dim=-1).values for convolution in self.convolutions]
        hidden_states = self.activation(torch.cat(pooled, dim=-1))  # (words, filters)
        for highway in self.highways:
            hidden_states = highway(hidden_states)
        return self.projection(hidden_states)
