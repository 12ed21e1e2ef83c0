"""A checkpoint of transformers' own, read into a class of bertkit and compared with what transformers makes of it."""

import json
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from bertkit.hub.native import ARCHITECTURES
from bertkit.hub.native.architecture import BASE
from bertkit.hub.native.comparing import differences
from bertkit.hub.native.loading import load_native, load_safetensors, native_auto_class
from bertkit.models import choose


def import_native(
    folder: Path, auto_class: str | None = None
) -> tuple[PreTrainedModel, type[PreTrainedModel], dict[str, float]]:
    """Load a native checkpoint with the head it has.

    Args:
        folder: the checkpoint.
        auto_class: which head, by its Auto class; by default that of the checkpoint. "AutoModel" leaves the head out.

    Returns:
        The model in evaluation mode and single precision, the class of transformers that it was compared with, and the largest
        difference of their outputs by precision.

    Raises:
        ValueError: as `load_native`, a head that the checkpoint has not, or models that do not compute the same.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = choose("model type", config.get("model_type"), ARCHITECTURES)
    saved = native_auto_class(architecture, config)
    wanted = auto_class or saved
    if wanted is None:
        raise ValueError(
            f"{folder} holds a {(config.get('architectures') or ['model without a class'])[0]}, which bertkit has no head for; "
            "give --auto_class AutoModel, which leaves the head out"
        )
    if wanted not in (saved, BASE):
        raise ValueError(f"{folder} holds an {saved} and no weights of an {wanted}; choose from {saved}, {BASE}")
    has_pooler = any("pooler." in name for name in load_safetensors(folder))
    native = getattr(transformers, wanted).from_pretrained(folder, dtype=torch.float32)
    found = differences(
        load_native(folder, wanted),
        native,
        wanted,
        architecture.channels(native.config.hidden_size, native=False),
        with_pooler=has_pooler,
    )
    return load_native(folder, wanted), type(native), found
