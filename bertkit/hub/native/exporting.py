"""A checkpoint of bertkit, written as one of transformers' own classes, which anybody loads without our code."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import GenerationConfig

from bertkit.hub.checkpoints import load_checkpoint, read_config
from bertkit.hub.contained_heads import contained_head
from bertkit.hub.native import counterpart
from bertkit.hub.native.architecture import BASE, NativeArchitecture
from bertkit.hub.native.comparing import differences
from bertkit.hub.native.loading import load_safetensors
from bertkit.models import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from what it was written from."""

    auto_class: str
    """The Auto class that loads it."""
    native_class: str
    """The class of transformers that it then is."""
    parameters: int
    max_length: int | None
    """The longest row in tokens that it takes; None: any."""
    padding_side: str | None
    """Where its tokenizer must pad; None: wherever it does."""
    differences: dict[str, float]
    """Precision -> largest difference of the outputs on a padded batch."""
    notes: list[str]
    """What whoever uses it should know."""


def export_native(folder: Path, output: Path, auto_class: str | None = None) -> Exported:
    """Write a checkpoint's model as one of transformers' own classes, and compare what both compute.

    Args:
        folder: a checkpoint of bertkit.
        output: an empty folder, which gets config, weights and generation config.
        auto_class: which head, by its Auto class; by default that of the checkpoint. "AutoModel" leaves the head out.

    Raises:
        ValueError: transformers has no class that computes the same, or the written model computes something else.
    """
    model_type = read_config(folder).get("model_type")
    if model_type not in [family.config_class.model_type for family in FAMILIES.values()]:
        raise ValueError(
            f"{folder} is no checkpoint of bertkit: it holds a model of type {model_type!r}; use it as it is"
        )
    config: PreTrainedConfig = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    auto_class = contained_head(folder, auto_class)
    architecture = counterpart(config)
    architecture.refuse_inexpressible(config, auto_class)
    weights = load_safetensors(folder)
    native = _native_model(architecture, config, weights, auto_class)
    if (folder / "generation_config.json").is_file() and native.can_generate():
        native.generation_config = GenerationConfig.from_pretrained(folder)
    native.save_pretrained(output)
    loaded = getattr(transformers, auto_class).from_pretrained(output, dtype=torch.float32)  # as anybody would
    return Exported(
        auto_class=auto_class,
        native_class=type(native).__name__,
        parameters=native.num_parameters(),
        max_length=getattr(config, "max_position_embeddings", None),
        padding_side=architecture.padding_side(auto_class),
        differences=differences(
            load_checkpoint(folder, auto_class, dtype=torch.float32),
            loaded,
            auto_class,
            architecture.channels(native.config.hidden_size, native=False),
            with_pooler=any("pooler." in name for name in weights),
        ),
        notes=architecture.notes(weights, auto_class),
    )


def _native_model(
    architecture: NativeArchitecture,
    config: "PreTrainedConfig",
    weights: dict[str, torch.Tensor],
    auto_class: str,
) -> "PreTrainedModel":
    """Build the native model of a checkpoint's weights, in their precision."""
    native_class = architecture.heads[auto_class].native_class
    translated = architecture.to_native(weights, auto_class)
    options: dict[str, Any] = {}
    if auto_class == BASE and "pooler.dense" in architecture.may_be_missing and "pooler.dense.weight" not in translated:
        options["add_pooling_layer"] = False
    native_config = architecture.native_config(config, auto_class)
    with torch.device("meta"):
        expected = native_class(native_config, **options).state_dict().keys()
    loaded: Any = native_class.from_pretrained(
        None,
        config=native_config,
        state_dict={name: tensor for name, tensor in translated.items() if name in expected},
        dtype=next(iter(weights.values())).dtype,
        output_loading_info=True,
        **options,
    )
    model: PreTrainedModel = loaded[0]
    report: dict[str, Any] = loaded[1]
    computed = [name for name in report["missing_keys"] if "embed_positions" not in name]
    if misfits := [*computed, *report["unexpected_keys"]]:
        raise ValueError(
            f"the weights of the checkpoint do not fill transformers' {native_class.__name__}: {len(misfits)} are missing or "
            f"left over, one of them {min(misfits)!r}; is its config.json the one it was saved with?"
        )
    return model
