"""What every family's configuration refuses, in one line that names the field and what it may be."""

from collections.abc import Iterable

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .modeling_pooling import POOLINGS


def check_sizes(config: PreTrainedConfig, *names: str) -> None:
    """Refuse fields below 1, and heads that do not divide the width.

    Args:
        config: has the fields, hidden_size and, where there is attention, num_attention_heads.
        names: of the fields to check; a field that is None passes.

    Raises:
        ValueError: naming the field.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if config.hidden_size % getattr(config, "num_attention_heads", 1):
        raise ValueError(
            f"hidden_size {config.hidden_size} is not a multiple of num_attention_heads {config.num_attention_heads}"
        )


def check_probabilities(config: PreTrainedConfig, *names: str) -> None:
    """Refuse fields outside 0 to 1, 1 not included; a field that is None passes.

    Raises:
        ValueError: naming the field.
    """
    for name in names:
        if not 0 <= (getattr(config, name) or 0) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be at least 0 and below 1")


def check_token_ids(config: PreTrainedConfig, *names: str) -> None:
    """Refuse special tokens outside the vocabulary.

    Args:
        config: has vocab_size and the fields.
        names: of fields that hold a token id, several, or None.

    Raises:
        ValueError: naming the field.
    """
    for name in names:
        value = getattr(config, name)
        for token_id in value if isinstance(value, Iterable) else [value]:
            if token_id is not None and not 0 <= token_id < config.vocab_size:
                raise ValueError(f"{name} is {value}; it must be below vocab_size {config.vocab_size}")


def check_activation(config: PreTrainedConfig) -> None:
    """Refuse an activation that transformers does not know.

    Raises:
        ValueError: naming those it knows.
    """
    if config.hidden_act not in ACT2FN:
        raise ValueError(f"unknown hidden_act {config.hidden_act!r}; choose from {', '.join(ACT2FN)}")


def check_pooling(config: PreTrainedConfig, *, has_pooler: bool = False) -> None:
    """Refuse a pooling that does not exist, or that the family has no part for.

    Args:
        config: has the field.
        has_pooler: whether the family's base model has a pooler, which "cls" reads.

    Raises:
        ValueError: naming those it can have.
    """
    choices = [name for name in POOLINGS if has_pooler or name != "cls"]
    if config.pooling == "cls" and not has_pooler:
        raise ValueError(
            f"pooling is 'cls', but models of type {config.model_type} have no pooler on the first token; choose from "
            f"{', '.join(choices)}"
        )
    if config.pooling not in choices:
        raise ValueError(f"unknown pooling {config.pooling!r}; choose from {', '.join(choices)}")
