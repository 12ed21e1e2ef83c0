"""Which function computes attention, by its name in transformers."""

from transformers import PreTrainedModel
from transformers.utils.generic import is_flash_attention_requested

from bertkit.training.arguments import AttentionName

DROPS_WEIGHTS = ("eager", "sdpa", "flash_attention_2")
"""Those that can drop attention weights in training."""


def set_attention(model: PreTrainedModel, name: AttentionName | None, *, precision: str) -> None:
    """Let a model compute attention by another function than torch's scaled_dot_product_attention.

    Args:
        model: not wrapped.
        name: of the function; None leaves the model as it is.
        precision: of the arithmetic: "no", "fp16" or "bf16".

    Raises:
        ValueError: the model has no such attention, the precision or the dropout is none that it takes, or it is not installed.
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
    if model.config.attention_probs_dropout_prob and name not in DROPS_WEIGHTS:
        raise ValueError(
            f"{setting}, which drops no attention weights; give model.attention_probs_dropout_prob 0, or choose from "
            f"{', '.join(DROPS_WEIGHTS)}"
        )
    try:
        model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{setting}, which cannot be used here: {' '.join(str(error).split())}") from error
