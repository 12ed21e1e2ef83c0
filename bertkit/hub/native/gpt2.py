"""transformers' GPT-2, which is the family `gpt` with norms first."""

from collections.abc import Mapping
from typing import Any

from transformers import (
    GPT2Config,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedConfig,
)

from bertkit.hub.native.architecture import Head, Layout, NativeArchitecture, Row

CAUSAL_LM = (Row("lm_head", ("lm_head",)),)
SCORE = (Row("score", ("score",)),)
LAYER_ROWS = (
    Row("layers.{}.attention_norm", ("h.{}.ln_1",)),
    Row("layers.{}.attention.qkv", ("h.{}.attn.c_attn",), Layout.TRANSPOSED),
    Row("layers.{}.attention.output", ("h.{}.attn.c_proj",), Layout.TRANSPOSED),
    Row("layers.{}.feed_forward_norm", ("h.{}.ln_2",)),
    Row("layers.{}.feed_forward.intermediate", ("h.{}.mlp.c_fc",), Layout.TRANSPOSED),
    Row("layers.{}.feed_forward.output", ("h.{}.mlp.c_proj",), Layout.TRANSPOSED),
)
FIELDS: Mapping[str, tuple[str, ...]] = {
    "vocab_size": ("vocab_size",),
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "hidden_dropout_prob": ("resid_pdrop", "embd_pdrop"),
    "attention_probs_dropout_prob": ("attn_pdrop",),
    "max_position_embeddings": ("n_positions",),
    "initializer_range": ("initializer_range",),
    "layer_norm_eps": ("layer_norm_epsilon",),
    "pad_token_id": ("pad_token_id",),
    "bos_token_id": ("bos_token_id",),
    "eos_token_id": ("eos_token_id",),
    "tie_word_embeddings": ("tie_word_embeddings",),
}


class NativeGpt(NativeArchitecture):
    """What GPT-2 and OpenAI GPT share: the layers of a decoder, and a head that reads the last token."""

    family = "gpt"
    prefix = "transformer."
    not_weights = r"h\.\d+\.attn\.(masked_)?bias|positions?_ids"  # masks and 0, 1, 2, ... as older versions saved them

    def refuse_inexpressible(self, config: PreTrainedConfig, auto_class: str) -> None:
        """Refuse classification of anything but the last token, or of one that the native class takes for padding."""
        super().refuse_inexpressible(config, auto_class)
        if auto_class != "AutoModelForSequenceClassification":
            return
        native, instead = (
            self.heads[auto_class].native_class.__name__,
            "give --auto_class AutoModel, which leaves the head out",
        )
        if config.pooling != "last":
            raise ValueError(
                f"pooling is {config.pooling!r}, and transformers' {native} only reads the last token; fine-tune with "
                f"--model.pooling last, or {instead}"
            )
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        if config.pad_token_id is None or config.pad_token_id in (config.bos_token_id, *ends):
            raise ValueError(
                f"pad_token_id is {config.pad_token_id}, and transformers' {native} finds the last token by a padding token "
                f"that is no other's; fine-tune with a tokenizer that has one, or {instead}"
            )

    def native_values(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Say the same; transformers wants floats in two fields that take whole numbers here."""
        values = super().native_values(ours)
        return values | {name: float(values[name]) for name in ("initializer_range", "layer_norm_epsilon")}


class NativeGpt2(NativeGpt):
    """GPT-2."""

    config_class = GPT2Config
    base_rows = (
        Row("embeddings.word_embeddings", ("wte",)),
        Row("embeddings.position_embeddings", ("wpe",)),
        *LAYER_ROWS,
        Row("final_norm", ("ln_f",)),
    )
    heads = {  # noqa: RUF012
        "AutoModel": Head(GPT2Model),
        "AutoModelForCausalLM": Head(GPT2LMHeadModel, CAUSAL_LM),
        "AutoModelForSequenceClassification": Head(GPT2ForSequenceClassification, SCORE),
        "AutoModelForTokenClassification": Head(GPT2ForTokenClassification, (Row("score", ("classifier",)),)),
        "AutoModelForQuestionAnswering": Head(GPT2ForQuestionAnswering, (Row("qa_outputs", ("qa_outputs",)),)),
    }
    fields = {**FIELDS, "hidden_act": ("activation_function",), "use_cache": ("use_cache",)}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }

    def computes(self, config: PreTrainedConfig) -> bool:
        """Tell whether norms come first."""
        return bool(config.norm_first)

    def padding_side(self, auto_class: str) -> str | None:
        """Leave padding where it is for `generate`, which makes positions from the mask and goes on behind the last token."""
        return None if auto_class == "AutoModelForCausalLM" else super().padding_side(auto_class)

    def native_values(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Say the same; 4 times the width goes without saying."""
        width = ours["intermediate_size"]
        values = super().native_values(ours) | {"n_inner": None if width == 4 * ours["hidden_size"] else width}
        dropout = ours["classifier_dropout"]
        return values if dropout is None else values | {"classifier_dropout": dropout}

    def our_values(self, native: dict[str, Any]) -> dict[str, Any]:
        """Say the same."""
        return super().our_values(native) | {
            "norm_first": True,
            "intermediate_size": native["n_inner"] or 4 * native["n_embd"],
            "classifier_dropout": native.get("classifier_dropout"),
        }
