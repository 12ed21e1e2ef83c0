"""Which function computes attention, by its name in transformers, and what it asks of the batches."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging
from transformers.utils.generic import is_flash_attention_requested

from bertkit.training.arguments import AttentionName
from bertkit.training.batches import FindEdges

DROPS_WEIGHTS = ("eager", "sdpa", "flash_attention_2")
"""Those that can drop attention weights in training."""
_OLDEST = (8, 0)
"""Compute capability of the first GPUs that the kernels are made for (Ampere)."""


def set_attention(
    model: PreTrainedModel, name: AttentionName | None, *, precision: str | None, device: torch.device
) -> None:
    """Let a model compute attention by another function than torch's scaled_dot_product_attention.

    Args:
        model: not wrapped.
        name: of the function; None leaves the model as it is.
        precision: of the arithmetic: "no", "fp16" or "bf16".
        device: where it is computed.

    Raises:
        ValueError: the model has no such attention, it does not take the precision, dropout or device, or is not installed.
    """
    if name is None:
        return
    setting, kind = f"training.attn_implementation is {name}", model.config.model_type
    if not model._supports_sdpa:
        raise ValueError(f"{setting}, but {kind} has no attention to choose; leave it out")
    if is_flash_attention_requested(requested_attention_implementation=name):
        if not model._supports_flash_attn:
            raise ValueError(f"{setting}, which {kind} does not take; choose from eager, sdpa")
        if precision not in ("fp16", "bf16"):
            raise ValueError(f"{setting}, which computes in half precision; give training.mixed_precision bf16 or fp16")
        refuse_device(setting, device)
    if model.config.attention_probs_dropout_prob and name not in DROPS_WEIGHTS:
        raise ValueError(
            f"{setting}, which drops no attention weights; give model.attention_probs_dropout_prob 0, or choose from "
            f"{', '.join(DROPS_WEIGHTS)}"
        )
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it warns of weights in float32 that are not on the GPU yet: they will be
    try:
        model.set_attn_implementation(name)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{setting}, which cannot be used here: {' '.join(str(error).split())}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def refuse_device(setting: str, device: torch.device) -> None:
    """Make sure that there are kernels for a device.

    Args:
        setting: what was asked for, as the message begins.
        device: where attention is computed.

    Raises:
        ValueError: there are none.
    """
    if device.type == "cpu":
        raise ValueError(f"{setting}, which needs a GPU, and this runs on CPUs; leave it out")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _OLDEST:
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        raise ValueError(
            f"{setting}, which needs a GPU of compute capability {_OLDEST[0]}.{_OLDEST[1]} or above, and {name} has "
            f"{capability[0]}.{capability[1]}; leave it out"
        )


def edge_finder(model: nn.Module) -> FindEdges | None:
    """Return what finds the examples of packed rows on the host, for a model that would have to wait for its device.

    Args:
        model: not wrapped.
    """
    is_flash = is_flash_attention_requested(getattr(model, "config", None))
    return getattr(model, "example_edges", None) if is_flash else None
