"""The `model` section of a recipe: a family, a size, and any setting of the family's configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HELP = (
    "`--model.family`, `--model.preset` and any setting of the family's configuration, as `--model.hidden_size 256`; "
    "`--model.help true` lists them."
)


def build_fresh_model(
    section: Mapping[str, Any], auto_class: str, tokenizer: "PreTrainedTokenizerBase", *, block_size: int, seed: int
) -> "PreTrainedModel":
    """Build a model with fresh weights for a tokenizer.

    Args:
        section: the recipe's `model` section.
        auto_class: which head, by its Auto class.
        tokenizer: gives the vocabulary size and the padding token.
        block_size: longest example, in tokens.
        seed: key of the weights.

    Raises:
        ValueError: an unknown family, preset or setting, or a model too small for the tokenizer or the examples.
    """
    import torch

    from bertkit.data.keyed_random import keyed_seed
    from bertkit.models import build_config, build_model

    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **section}
    config = build_config(settings.pop("family", "bert"), settings.pop("preset", None), **settings)
    if config.vocab_size < len(tokenizer):
        raise ConfigError(
            f"model.vocab_size is {config.vocab_size}, but the tokenizer has {len(tokenizer)} tokens; leave it out"
        )
    if config.max_position_embeddings < block_size:
        raise ConfigError(
            f"rows of {block_size} tokens do not fit a model of {config.max_position_embeddings} positions; raise "
            "model.max_position_embeddings or lower the row length"
        )
    torch.manual_seed(keyed_seed(seed, "weights"))
    return build_model(config, auto_class)


def load_resumed_model(checkpoint: Path, section: Mapping[str, Any], auto_class: str) -> "PreTrainedModel":
    """Load the model of a run that goes on; its dropout may change on the way, its shape may not.

    Args:
        checkpoint: where the run goes on from.
        section: the recipe's `model` section.
        auto_class: which head, by its Auto class.

    Raises:
        ValueError: an unknown family, preset or setting, or one that differs from the checkpoint's.
    """
    from transformers import AutoConfig

    from bertkit.models import build_config, load_model

    saved = AutoConfig.from_pretrained(checkpoint)
    settings = {"vocab_size": saved.vocab_size, "pad_token_id": saved.pad_token_id, **section}
    asked = build_config(settings.pop("family", "bert"), settings.pop("preset", None), **settings)
    if asked.model_type != saved.model_type:
        raise ConfigError(
            f"model.family: {checkpoint} holds a {saved.model_type}, and the recipe asks for {asked.model_type}"
        )
    refuse_other_head(checkpoint, auto_class)
    dropout = {}
    for name in type(asked).__annotations__:
        if (value := getattr(asked, name)) == getattr(saved, name):
            continue
        if "dropout" not in name:
            raise ConfigError(
                f"model.{name} is {value}, but {checkpoint}, which the run goes on from, has {getattr(saved, name)}; leave it "
                "as it was, or start anew with another --output_dir"
            )
        dropout[name] = value
    return load_model(checkpoint, auto_class, **dropout)


def refuse_other_head(checkpoint: Path, auto_class: str) -> None:
    """Make sure that a checkpoint holds what a run that goes on from it trains.

    Args:
        checkpoint: where the run goes on from.
        auto_class: what it trains, by its Auto class.

    Raises:
        ConfigError: the checkpoint was made for something else.
    """
    from bertkit.hub.checkpoints import saved_auto_class

    saved = saved_auto_class(checkpoint)
    if saved not in (None, auto_class):
        raise ConfigError(
            f"{checkpoint}, which the run would go on from, is of {saved} and not of {auto_class}; go on from a checkpoint of "
            "the same objective or task, or fine-tune it by --model.from"
        )


def print_settings(section: Mapping[str, Any]) -> None:
    """Print the settings of the section's family, as `--model.help true` asks."""
    from bertkit.models import FAMILIES, describe_config

    family = section.get("family", "bert")
    choose("model family", family, FAMILIES)
    print(f"model.family: {', '.join(FAMILIES)}")
    print(f"model.preset of {family}: {', '.join(FAMILIES[family].presets)}")
    for field in describe_config(family):
        print(f"model.{field.name} ({field.type}, default {field.default}): {field.doc}")
