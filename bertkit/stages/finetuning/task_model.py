"""The model of a fine-tuning recipe: a pretrained encoder under a fresh head, or its twin with nothing but fresh weights."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError
from bertkit.stages import model_section, pretrained_embeddings
from bertkit.stages.pretrained_embeddings import StartingEmbeddings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.training.lora import Lora
    from bertkit.training.lora_arguments import LoraArguments

HELP = (
    "`--model.from`, the checkpoint to start from (a folder or a name on the Hub), and any setting of its configuration, "
    "as `--model.hidden_dropout_prob 0`; without it `--model.family` and `--model.preset`, for a model with fresh weights; "
    f"`--model.help true` lists the settings. {pretrained_embeddings.HELP}"
)


def folder_to_start_from(name: str, auto_class: str) -> Path:
    """Return the folder of the checkpoint that `model.from` names, downloaded if it lies on the Hub.

    Args:
        name: a checkpoint's folder, or its name on the Hub.
        auto_class: the head that its model shall get, by its Auto class.

    Raises:
        ConfigError: there is no such checkpoint, or its family has no such head.
    """
    from bertkit.hub.checkpoints import checkpoint_folder, saved_family
    from bertkit.models import FAMILIES

    folder = checkpoint_folder(name)
    family = saved_family(folder)
    if family is not None and auto_class not in FAMILIES[family].auto_classes:
        having = [other for other, table in FAMILIES.items() if auto_class in table.auto_classes]
        raise ConfigError(
            f"model.from: {folder} holds a model of the family {family}, which has no {auto_class}; give a checkpoint of "
            f"the family {' or '.join(having)}"
        )
    return folder


def build_task_model(
    folder: Path,
    settings: Mapping[str, Any],
    auto_class: str,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    from_scratch: bool,
    seed: int,
    say: bool = True,
) -> "PreTrainedModel":
    """Build a model with a checkpoint's encoder and a fresh head.

    Args:
        folder: the checkpoint.
        settings: fields of the configuration that shall differ from the checkpoint's.
        auto_class: which head, by its Auto class.
        tokenizer: what the inputs come from.
        max_length: longest example, in tokens.
        from_scratch: fresh weights everywhere: what the same model learns without having been pretrained. They are drawn as
            the family draws them unless `settings` say otherwise: the checkpoint's way was chosen for pretraining.
        seed: key of the fresh weights.
        say: print how many tokens the vectors cover that the embeddings of a model from scratch start from.

    Raises:
        ConfigError: an unknown setting, one that the checkpoint's weights do not fit, or a checkpoint that does not go
            with the tokenizer or the examples.
    """
    import torch

    from bertkit.data.keyed_random import keyed_seed
    from bertkit.hub.checkpoints import load_checkpoint
    from bertkit.models import FAMILIES, FRESH_WEIGHT_FIELDS, build_config, build_model, family_of

    embeddings, settings = StartingEmbeddings.taken_from(settings)
    if embeddings.source is not None and not from_scratch:
        raise ConfigError(
            f"model.pretrained_embeddings {embeddings.source} would replace those that {folder} was trained with; leave it "
            "out, or train --from_scratch true"
        )
    torch.manual_seed(keyed_seed(seed, "weights"))
    encoder = load_checkpoint(folder, "AutoModel")
    family = family_of(encoder.config)
    assert family is not None
    if (asked := settings.pop("family", family)) != family:
        raise ConfigError(
            f"model.family is {asked!r}, but {folder} holds a model of the family {family!r}; leave it out"
        )
    if (preset := settings.pop("preset", None)) is not None:
        raise ConfigError(
            f"model.preset {preset} and model.from cannot both decide the size; leave one out, and name the "
            "tokenizer by --tokenizer"
        )
    fields = FAMILIES[family].config_class.__annotations__
    kept = [name for name in fields if not (from_scratch and name in FRESH_WEIGHT_FIELDS)]
    config = build_config(family, **{**{name: getattr(encoder.config, name) for name in kept}, **settings})
    if config.vocab_size < len(tokenizer):
        raise ConfigError(
            f"the tokenizer of {tokenizer.name_or_path} has {len(tokenizer)} tokens, but the model of {folder} knows "
            f"{config.vocab_size}; leave --tokenizer out, and the checkpoint's own is used"
        )
    model_section.refuse_unread_characters(tokenizer, config)
    positions = getattr(config, "max_position_embeddings", max_length)  # a recurrent model takes any length
    if positions < max_length:
        raise ConfigError(
            f"task.max_length is {max_length}, but the model of {folder} takes {positions} tokens; lower it"
        )
    model = build_model(config, auto_class)
    if not from_scratch:
        try:
            # A head that reads the mean of the states has no pooler; anything else left over is a mistake.
            ignored = re.compile("|".join(model._keys_to_ignore_on_load_unexpected or ["(?!)"]))
            wanted = model.base_model.state_dict().keys()
            weights = encoder.state_dict()
            model.base_model.load_state_dict({n: w for n, w in weights.items() if n in wanted or not ignored.search(n)})
        except RuntimeError as error:
            changed = [f"model.{name}" for name in fields if name in settings]
            raise ConfigError(
                f"the weights of {folder} do not fit the settings {', '.join(changed)}; leave out those that change the "
                "model's shape, or train it --from_scratch true"
            ) from error
    embeddings.put_into(model, tokenizer, say=say)
    return model


def load_resumed_task_model(checkpoint: Path, settings: Mapping[str, Any], auto_class: str) -> "PreTrainedModel":
    """Load the model of a fine-tuning that goes on; its dropout may change on the way, its labels and shape may not.

    Args:
        checkpoint: where the run goes on from.
        settings: fields of the configuration that the recipe and its task ask for.
        auto_class: which head, by its Auto class.

    Raises:
        ConfigError: other labels or settings than the checkpoint's.
    """
    from bertkit.hub.checkpoints import load_checkpoint

    embeddings, settings = StartingEmbeddings.taken_from(settings)
    model_section.refuse_other_head(checkpoint, auto_class)
    model = load_checkpoint(checkpoint, auto_class)
    for name, value in settings.items():
        saved = getattr(model.config, name, value)
        if name in ("family", "preset") or saved == value:
            continue
        if name in ("id2label", "label2id", "num_labels"):
            had = ", ".join(map(str, model.config.label2id or ()))
            raise ConfigError(
                f"the training data has the labels {', '.join(settings['label2id'])}, but {checkpoint}, which the run goes on "
                f"from, has {had}; give the same data, or another --output_dir"
            )
        if "dropout" not in name:
            raise ConfigError(
                f"model.{name} is {value}, but {checkpoint}, which the run goes on from, has {saved}; leave it as it was, or "
                "start anew with another --output_dir"
            )
    dropout = {name: value for name, value in settings.items() if "dropout" in name}
    if dropout:
        model = load_checkpoint(checkpoint, auto_class, **dropout)
    embeddings.go_on_in(model, checkpoint)
    return model


def add_lora(
    model: "PreTrainedModel",
    arguments: "LoraArguments",
    *,
    freeze: str,
    seed: int,
    start_from: Path | None,
    resume_from: Path | None,
) -> "Lora | None":
    """Put adapters into the layers of a model that is fine-tuned, and freeze all else but the head.

    Args:
        model: with its weights.
        arguments: rank and all; without a rank nothing is done.
        freeze: `training.freeze`.
        seed: key of the fresh adapters.
        start_from: the checkpoint whose encoder it has.
        resume_from: the checkpoint that the run goes on from, if it does; the adapters become those it had.

    Raises:
        ConfigError: peft is not installed, the family has no layers that it adapts, or the checkpoint had other adapters.
    """
    import importlib.util
    import json

    import torch
    from safetensors.torch import load_file

    from bertkit.data.keyed_random import keyed_seed
    from bertkit.models import FAMILIES, family_of
    from bertkit.models.layer_groups import HEAD, layer_groups
    from bertkit.training.lora import ADAPTER_FOLDER, Lora

    had = resume_from is not None and (resume_from / ADAPTER_FOLDER).is_dir()
    if resume_from is not None and had != (arguments.r is not None):
        raise ConfigError(
            f"lora.r is {'null' if arguments.r is None else arguments.r}, but {resume_from}, which the run goes on from, was "
            f"trained with{'' if had else 'out'} adapters; leave it as it was, or start anew with another --output_dir"
        )
    if arguments.r is None:
        return None
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("lora.r needs a package; pip install 'bertkit[lora]'")
    if freeze == "backbone":
        raise ConfigError("training.freeze backbone would freeze the adapters of lora.r, too; leave one out")
    family = family_of(model.config)
    assert family is not None
    targets = arguments.targets or list(FAMILIES[family].lora_targets)
    if not targets:
        adapted = ", ".join(name for name, table in FAMILIES.items() if table.lora_targets)
        raise ConfigError(
            f"lora.r: the layers of the family {family} are recurrent cells, of which peft adapts none; take "
            f"training.freeze backbone or training.gradual_unfreezing, or a model of {adapted}"
        )
    torch.manual_seed(keyed_seed(seed, "adapters"))
    head = layer_groups(model)[HEAD]
    lora = Lora(model, arguments, targets=targets, head=head, base=str(start_from or "fresh weights"))
    if resume_from is not None:
        saved = json.loads((resume_from / ADAPTER_FOLDER / "adapter_config.json").read_text(encoding="utf-8"))
        for name, field in (("r", "r"), ("alpha", "lora_alpha"), ("targets", "target_modules")):
            before, now = saved[field], getattr(lora.config, field)
            if (sorted(before) != sorted(now)) if name == "targets" else before != now:
                raise ConfigError(
                    f"lora.{name} is {now}, but {resume_from}, which the run goes on from, has {before}; leave it as it was, "
                    "or start anew with another --output_dir"
                )
        weights = lora.unmerged(resume_from, load_file(resume_from / "model.safetensors"))
        model.load_state_dict(weights, strict=False)  # of tied weights the file holds one
    return lora


def refuse_foreign_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path, *, remedy: str) -> None:
    """Make sure that token ids mean to a checkpoint's weights what they mean to a tokenizer.

    Args:
        tokenizer: what the inputs come from.
        folder: the checkpoint.
        remedy: what would do, for the message.

    Raises:
        ConfigError: the checkpoint has a tokenizer with another vocabulary.
    """
    from bertkit.tokenization import load_tokenizer

    if not (folder / "tokenizer.json").is_file():
        return
    own = load_tokenizer(folder).get_vocab()
    if tokenizer.get_vocab() != own:
        raise ConfigError(
            f"--tokenizer {tokenizer.name_or_path} is not the one that {folder} was trained with ({len(tokenizer):,} tokens "
            f"beside {len(own):,}, or others under the same ids); {remedy}"
        )
