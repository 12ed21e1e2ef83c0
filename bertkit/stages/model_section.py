"""The `model` section of a recipe: a family, a size, and any setting of the family's configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, choose
from bertkit.stages import pretrained_embeddings
from bertkit.stages.pretrained_embeddings import StartingEmbeddings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SIZES = ("model.from", "model.preset")
"""The settings of which one says what size a model has."""
HELP = (
    "`--model.family`, `--model.preset` and any setting of the family's configuration, as `--model.hidden_size 256`; "
    "`--model.help true` lists them. Or `--model.from`, a checkpoint of the same objective (a folder or a name on the Hub) "
    f"whose weights are trained further, and settings that may differ from its own, as dropout. {pretrained_embeddings.HELP}"
)


def build_fresh_model(
    section: Mapping[str, Any],
    auto_class: str,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_positions: int | None,
    seed: int,
    say: bool = True,
) -> "PreTrainedModel":
    """Build a model with fresh weights for a tokenizer; its token embeddings may start from vectors.

    Args:
        section: the recipe's `model` section.
        auto_class: which head, by its Auto class.
        tokenizer: gives the vocabulary size and the padding token.
        max_positions: tokens of the longest example; None: there is no longest.
        seed: key of the weights.
        say: print how many tokens the vectors cover.

    Raises:
        ValueError: as `fresh_config`; or vectors that do not fit.
    """
    embeddings, section = StartingEmbeddings.taken_from(section)
    config = fresh_config(section, auto_class, tokenizer, max_positions=max_positions)
    model = draw_model(config, auto_class, tokenizer, seed=seed)
    embeddings.put_into(model, tokenizer, token_counts=None, say=say)
    return model


def fresh_config(
    section: Mapping[str, Any],
    auto_class: str,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_positions: int | None,
    wanted: Mapping[str, Any] | None = None,
) -> "PreTrainedConfig":
    """Make the configuration of a new model for a tokenizer.

    Args:
        section: the recipe's `model` section.
        auto_class: which head, by its Auto class.
        tokenizer: gives the vocabulary size and the padding token.
        max_positions: tokens of the longest example; None: there is no longest.
        wanted: fields of the configuration that fit the batches, for families that have them.

    Raises:
        ValueError: an unknown family, preset or setting, a family without the head, or a model too small for the tokenizer or
            the examples.
    """
    from bertkit.models import FAMILIES
    from bertkit.tokenization import spells_words

    family = section.get("family", "bert")
    heads = choose("model family", family, FAMILIES).auto_classes
    if auto_class not in heads:
        having = [name for name, other in FAMILIES.items() if auto_class in other.auto_classes]
        raise ConfigError(
            f"model.family {family} has no {auto_class}, which is what is trained here; choose from {', '.join(having)}"
        )
    padding = None if tokenizer.pad_token is None else tokenizer.get_vocab().get(str(tokenizer.pad_token))
    settings = {"vocab_size": len(tokenizer), "pad_token_id": padding}
    if spells_words(tokenizer):
        characters = {"token_input": "characters", "max_characters": getattr(tokenizer, "max_characters", None)}
        settings |= _fields_of(family, characters)
    config = _build_config({**settings, **_fields_of(family, wanted), **section})
    refuse_unread_characters(tokenizer, config)
    if config.vocab_size < len(tokenizer):
        raise ConfigError(
            f"model.vocab_size is {config.vocab_size}, but the tokenizer has {len(tokenizer)} tokens; leave it out"
        )
    _refuse_long_rows(config, max_positions, remedy="raise model.max_position_embeddings or lower the row length")
    return config


def draw_model(
    config: "PreTrainedConfig", auto_class: str, tokenizer: "PreTrainedTokenizerBase", *, seed: int
) -> "PreTrainedModel":
    """Build a model with fresh weights.

    Args:
        config: as `fresh_config` makes it.
        auto_class: which head, by its Auto class.
        tokenizer: tells a model of characters how its tokens are spelled.
        seed: key of the weights.
    """
    import torch

    from bertkit.data.keyed_random import keyed_seed
    from bertkit.models import build_model
    from bertkit.tokenization import spells_words

    torch.manual_seed(keyed_seed(seed, "weights"))
    model = build_model(config, auto_class)
    reads_characters = getattr(config, "token_input", None) == "characters"
    if reads_characters and not spells_words(tokenizer):  # then the model spells token ids itself
        reader: Any = model
        reader.read_vocabulary(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    return model


def refuse_unread_characters(tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> None:
    """Make sure that a tokenizer that spells words goes with a model that reads as many characters.

    Args:
        tokenizer: any; others are let through.
        config: the model's.

    Raises:
        ConfigError: the model reads token ids, or spellings of another length.
    """
    from bertkit.tokenization import spells_words

    if not spells_words(tokenizer):
        return
    given = getattr(tokenizer, "max_characters", None)
    read = config.max_characters if getattr(config, "token_input", None) == "characters" else 0
    if read != given:
        what = f"{read} characters a word" if read else "token ids"
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} spells each word by {given} characters, but the model reads {what}; "
            "give another --tokenizer, or a model of the family elmo with token_input characters and as many max_characters"
        )


def load_to_train_further(
    section: Mapping[str, Any], auto_class: str, *, max_positions: int | None, wanted: Mapping[str, Any]
) -> "PreTrainedModel":
    """Load the model of a checkpoint, head and all, to train it on another corpus.

    Args:
        section: the recipe's `model` section: the checkpoint is its `from`, and the rest shall differ from the checkpoint's.
        auto_class: what is trained, by its Auto class.
        max_positions: tokens of the longest example; None: there is no longest.
        wanted: fields of the configuration that fit the batches, for families that have them.

    Raises:
        ConfigError: there is no such checkpoint, it was made for something else, or it does not fit the settings.
    """
    from bertkit.hub.checkpoints import checkpoint_folder, load_checkpoint, saved_auto_class
    from bertkit.models import FAMILIES, build_config, build_model, family_of

    folder = checkpoint_folder(section["from"])
    settings = {name: value for name, value in section.items() if name not in ("from", "family")}
    if (preset := settings.pop("preset", None)) is not None:
        raise ConfigError(f"model.preset {preset} and model.from cannot both decide the size; leave one out")
    saved = saved_auto_class(folder)
    if saved != auto_class:
        with_sentences = {"AutoModelForMaskedLM": "false", "AutoModelForPreTraining": "true"}
        if saved in with_sentences and auto_class in with_sentences:
            remedy = f"give --objective.next_sentence {with_sentences[saved]}, which trains such a model"
        else:
            remedy = "give a checkpoint of the same objective"
        raise ConfigError(
            f"model.from: {folder} is of {saved or 'no class that is known'}, and {auto_class} is what is trained here, head "
            f"and all; {remedy}"
        )
    model = load_checkpoint(folder, auto_class)
    family = family_of(model.config)
    assert family is not None
    if (asked := section.get("family", family)) != family:
        raise ConfigError(
            f"model.family is {asked!r}, but {folder} holds a model of the family {family!r}; leave it out"
        )
    own = {name: getattr(model.config, name) for name in FAMILIES[family].config_class.__annotations__}
    config = build_config(family, **{**own, **_fields_of(family, wanted), **settings})
    _refuse_long_rows(config, max_positions, remedy="lower the row length")
    changed = build_model(config, auto_class)
    try:
        changed.load_state_dict(model.state_dict())
    except RuntimeError as error:
        names = [f"model.{name}" for name in settings]
        raise ConfigError(
            f"the weights of {folder} do not fit the settings {', '.join(names)}; leave out those that change the model's shape"
        ) from error
    return changed


def resumed_dropout(
    checkpoint: Path, section: Mapping[str, Any], auto_class: str, *, wanted: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what differs in the model of a run that goes on; its dropout may change on the way, its shape may not.

    Args:
        checkpoint: where the run goes on from.
        section: the recipe's `model` section.
        auto_class: which head, by its Auto class.
        wanted: fields of the configuration that fit the batches, for families that have them.

    Returns:
        Fields of the configuration to load the checkpoint with.

    Raises:
        ValueError: an unknown family, preset or setting, or one that differs from the checkpoint's.
    """
    from transformers import AutoConfig

    from bertkit.models import FAMILIES, family_of

    _, section = StartingEmbeddings.taken_from(section)
    saved = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    settings = {"vocab_size": saved.vocab_size, "pad_token_id": saved.pad_token_id}
    family = section.get("family", "bert")
    if section.get("from") is not None:  # then what the section does not name is the checkpoint's own
        family = family_of(saved) or family
        settings = {name: getattr(saved, name) for name in FAMILIES[family].config_class.__annotations__}
        section = {"family": family, **{name: value for name, value in section.items() if name != "from"}}
    asked = _build_config({**settings, **_fields_of(family, wanted), **section})
    if asked.model_type != saved.model_type:
        raise ConfigError(
            f"model.family: {checkpoint} holds a {saved.model_type}, and the recipe asks for {asked.model_type}; go on by "
            "the recipe of the checkpoint, or start anew with another --output_dir"
        )
    refuse_other_head(checkpoint, auto_class)
    dropout = {}
    for name in type(asked).__annotations__:
        value = getattr(asked, name)
        if json.loads(json.dumps(value)) == json.loads(json.dumps(getattr(saved, name))):  # a saved tuple is a list
            continue
        if "dropout" not in name:
            raise ConfigError(
                f"model.{name} is {value}, but {checkpoint}, which the run goes on from, has {getattr(saved, name)}; leave it "
                "as it was, or start anew with another --output_dir"
            )
        dropout[name] = value
    return dropout


def _refuse_long_rows(config: "PreTrainedConfig", max_positions: int | None, *, remedy: str) -> None:
    positions = getattr(config, "max_position_embeddings", None)  # a recurrent model counts none
    if max_positions is not None and positions is not None and positions < max_positions:
        raise ConfigError(f"rows of {max_positions} tokens do not fit a model of {positions} positions; {remedy}")


def _build_config(settings: dict[str, Any]) -> "PreTrainedConfig":
    from bertkit.models import build_config

    settings.pop("from", None)  # null: the model is a fresh one
    return build_config(settings.pop("family", "bert"), settings.pop("preset", None), **settings)


def _fields_of(family: str, wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return those of the wanted settings that the family's configuration declares."""
    from bertkit.models import FAMILIES

    declared = choose("model family", family, FAMILIES).config_class.__annotations__
    return {name: value for name, value in (wanted or {}).items() if name in declared}


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
    print(pretrained_embeddings.HELP)
    for field in describe_config(family):
        print(f"model.{field.name} ({field.type}, default {field.default}): {field.doc}")
