"""Checkpoints of transformers' own architectures, read into bertkit's classes."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from transformers import GenerationConfig, PreTrainedModel

from bertkit.hub.native import ARCHITECTURES
from bertkit.hub.native.architecture import NativeArchitecture
from bertkit.models import FAMILIES, choose, no_safetensors


def load_native(path: str | os.PathLike[str], auto_class_name: str = "AutoModel", **settings: Any) -> PreTrainedModel:
    """Load a checkpoint of transformers' BERT, GPT-2, OpenAI GPT or Marian into a class of bertkit, in float32.

    Args:
        path: folder with config.json and safetensors weights, in one file or in shards.
        auto_class_name: which head, by its Auto class. One that the checkpoint was not saved with starts fresh, and
            transformers reports it.
        settings: fields of bertkit's configuration that shall differ from the checkpoint's, as dropout.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: another architecture, a setting that the family does not have, or weights that do not fit.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a checkpoint of transformers")
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES.get(saved.get("model_type"))
    if architecture is None:
        raise ValueError(
            f"{folder} has model_type {saved.get('model_type')!r}; of transformers' own "
            f"{', '.join(ARCHITECTURES)} can be loaded"
        )
    model_class = choose("Auto class", auto_class_name, FAMILIES[architecture.family].auto_classes)
    weights = load_safetensors(folder)
    try:
        config = architecture.our_config(architecture.config_class.from_pretrained(folder), weights)
    except StrictDataclassError as error:
        raise ValueError(f"{folder}: {error.__cause__}") from error
    except ValueError as error:
        raise ValueError(f"{folder} has {error}") from error
    for name, value in settings.items():
        setattr(config, name, value)
    try:
        state_dict = architecture.to_ours(weights, auto_class_name)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    model, report = model_class.from_pretrained(
        None,
        config=config,
        state_dict=state_dict,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # so that they come back in the report, and are refused below in one line
        output_loading_info=True,
    )
    as_saved = auto_class_name == native_auto_class(architecture, saved)
    lost = [name for name in report["missing_keys"] if as_saved or architecture.is_required(name)]
    misfits = [*lost, *report["unexpected_keys"], *(name for name, *_ in report["mismatched_keys"])]
    if misfits:
        raise ValueError(
            f"the weights of {folder} do not fit its config.json: {len(misfits)} are missing, left over or of another "
            f"shape, one of them {min(misfits)!r}"
        )
    if (folder / "generation_config.json").is_file() and model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.name_or_path = model.config.name_or_path = str(folder)
    return model


def native_auto_class(architecture: NativeArchitecture, config: dict[str, Any]) -> str | None:
    """Return the Auto class whose model a native checkpoint holds, None for one that is not known.

    Args:
        architecture: of the checkpoint.
        config: what its config.json says.
    """
    classes = {head.native_class.__name__: auto_class for auto_class, head in architecture.heads.items()}
    return classes.get((config.get("architectures") or [""])[0])


def load_safetensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint folder, from model.safetensors or from the shards its index lists.

    Args:
        folder: the checkpoint.

    Returns:
        Weights by name.

    Raises:
        ValueError: neither file is there.
    """
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise ValueError(no_safetensors(folder))
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return {name: tensor for shard in shards for name, tensor in load_file(folder / shard).items()}
