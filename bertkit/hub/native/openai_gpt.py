"""transformers' OpenAI GPT, which is the family `gpt` with norms after each sum."""

from typing import Any

from transformers import (
    OpenAIGPTConfig,
    OpenAIGPTForSequenceClassification,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
    PreTrainedConfig,
)

from bertkit.hub.native.architecture import Head, Row
from bertkit.hub.native.gpt2 import CAUSAL_LM, FIELDS, LAYER_ROWS, SCORE, NativeGpt

# Its name of an activation -> transformers' everywhere else.
_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}


class NativeOpenAIGpt(NativeGpt):
    """The first GPT."""

    config_class = OpenAIGPTConfig
    base_rows = (
        Row("embeddings.word_embeddings", ("tokens_embed",)),
        Row("embeddings.position_embeddings", ("positions_embed",)),
        *LAYER_ROWS,
    )
    heads = {  # noqa: RUF012
        "AutoModel": Head(OpenAIGPTModel),
        "AutoModelForCausalLM": Head(OpenAIGPTLMHeadModel, CAUSAL_LM),
        "AutoModelForSequenceClassification": Head(OpenAIGPTForSequenceClassification, SCORE),
    }
    fields = FIELDS

    def computes(self, config: PreTrainedConfig) -> bool:
        """Tell whether norms come after."""
        return not config.norm_first

    def refuse_inexpressible(self, config: PreTrainedConfig, auto_class: str) -> None:
        """Refuse a feed-forward part of another width or activation than the class is written for."""
        super().refuse_inexpressible(config, auto_class)
        if config.intermediate_size != 4 * config.hidden_size:
            raise ValueError(
                f"intermediate_size is {config.intermediate_size}, and transformers' {self.model_type} only has 4 times its "
                f"hidden_size {config.hidden_size}; use the checkpoint itself, whose code travels with it"
            )
        if config.hidden_act not in (*_ACTIVATIONS.values(), "swish"):
            raise ValueError(
                f"hidden_act is {config.hidden_act!r}, and transformers' {self.model_type} only has "
                f"{', '.join(dict.fromkeys(_ACTIVATIONS.values()))}; use the checkpoint itself, whose code travels with it"
            )

    def native_values(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Say the same."""
        names = {name: native for native, name in reversed(_ACTIVATIONS.items())}
        return super().native_values(ours) | {"afn": names.get(ours["hidden_act"], ours["hidden_act"])}

    def our_values(self, native: dict[str, Any]) -> dict[str, Any]:
        """Say the same."""
        return super().our_values(native) | {
            "norm_first": False,
            "hidden_act": _ACTIVATIONS.get(native["afn"], native["afn"]),
            "intermediate_size": 4 * native["n_embd"],
        }
