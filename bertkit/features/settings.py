"""What a vector is: of which layers, of a text, a word or a token, and how the states of its tokens become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

Layer: TypeAlias = int | Literal["mix"]
Level: TypeAlias = Literal["text", "word", "token"]
Pooling: TypeAlias = Literal["cls", "mean", "max", "last", "concat"]
WordPooling: TypeAlias = Literal["mean", "first", "last"]
Words: TypeAlias = Literal["tokenizer", "spaces"]

_CHOICES = {"level": Level, "pooling": Pooling, "word_pooling": WordPooling, "words": Words}


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """What a vector is.

    Raises:
        ValueError: a value that a field does not take, or one that says nothing at this level.
    """

    layers: Layer | Sequence[Layer] = -1
    """One layer or several, whose vectors are then joined in this order: 0 is the embeddings, 1 the first layer, -1 the
    last. "mix" is the scalar mix of all, embeddings counted (Peters et al. 2018): as a task has learned it, if the model was
    fine-tuned so, else their mean."""
    level: Level = "text"
    """What gets a vector: a text, a word, or a token (special tokens included)."""
    pooling: Pooling = "mean"
    """How the token states of a text become one vector: "cls" takes the first token's, "last" the last one's, "mean" and
    "max" go over all its tokens, special tokens included, and "concat" joins last, max and mean."""
    word_pooling: WordPooling = "mean"
    """How the token states of a word become one vector."""
    words: Words = "tokenizer"
    """What a word is: what the tokenizer cuts a text into before it looks into its vocabulary (punctuation apart, as a
    rule), or what stands between spaces, for text that was cut into words before."""
    max_length: int | None = None
    """Longest text (or pair) in tokens, special tokens included; by default what model and tokenizer take."""
    batch_tokens: int = 4096
    """Tokens computed at a time, at most; one text may be longer. It decides on memory and speed only."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(get_args(choices))}")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; give 1 or more")
        if isinstance(self.layers, str) and self.layers != "mix":
            raise ValueError(f"unknown layers {self.layers!r}; give numbers, or mix")
        says_nothing = {"text": ("word_pooling", "words"), "word": ("pooling",), "token": tuple(_CHOICES)[1:]}
        defaults = {field.name: field.default for field in fields(self)}
        for name in says_nothing[self.level]:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} says nothing to vectors of each {self.level}; leave it out")

    @property
    def layer_list(self) -> list[Layer]:
        """The layers as a list, also where there is one."""
        return [self.layers] if isinstance(self.layers, int | str) else list(self.layers)
