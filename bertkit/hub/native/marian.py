"""transformers' Marian, which is the family `transformer` with norms after each sum.

Its positions have all sines first and then all cosines, where the paper's come in turns: each channel of the residual stream is
another one there, and every weight that reads or writes channels is laid out anew.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import MarianConfig, MarianModel, MarianMTModel, PreTrainedConfig

from bertkit.hub.native.architecture import BASE, Head, Layout, NativeArchitecture, Row

_STACKS = ("encoder", "decoder")
_BIAS, _OUR_BIAS = "final_logits_bias", "lm_head.bias"
_EMBEDDINGS, _OUR_EMBEDDINGS = "{}.embed_tokens.weight", "{}.embeddings.word_embeddings.weight"


def _rows(stack: str) -> tuple[Row, ...]:
    ours, native = f"{stack}.layers.{{}}.", f"{stack}.layers.{{}}."
    writes, reads = Layout.WRITES_CHANNELS, Layout.READS_CHANNELS
    attention = Row(f"{ours}attention.qkv", tuple(f"{native}self_attn.{part}_proj" for part in "qkv"), reads)
    return (
        Row(f"{stack}.embeddings.word_embeddings", (f"{stack}.embed_tokens",), reads),
        attention,
        Row(f"{ours}attention.output", (f"{native}self_attn.out_proj",), writes),
        Row(f"{ours}attention_norm", (f"{native}self_attn_layer_norm",), writes),
        Row(f"{ours}feed_forward.intermediate", (f"{native}fc1",), reads),
        Row(f"{ours}feed_forward.output", (f"{native}fc2",), writes),
        Row(f"{ours}feed_forward_norm", (f"{native}final_layer_norm",), writes),
    )


def _cross_rows() -> tuple[Row, ...]:
    place = "decoder.layers.{}."
    writes, reads = Layout.WRITES_CHANNELS, Layout.READS_CHANNELS
    return (
        Row(f"{place}cross_attention.query", (f"{place}encoder_attn.q_proj",), reads),
        Row(f"{place}cross_attention.key_value", tuple(f"{place}encoder_attn.{part}_proj" for part in "kv"), reads),
        Row(f"{place}cross_attention.output", (f"{place}encoder_attn.out_proj",), writes),
        Row(f"{place}cross_attention_norm", (f"{place}encoder_attn_layer_norm",), writes),
    )


class NativeMarian(NativeArchitecture):
    """Marian."""

    family = "transformer"
    config_class = MarianConfig
    prefix = "model."
    base_rows = (*_rows("encoder"), *_rows("decoder"), *_cross_rows())
    heads = {  # noqa: RUF012
        "AutoModel": Head(MarianModel),
        "AutoModelForSeq2SeqLM": Head(MarianMTModel, (Row("lm_head", ("lm_head",), Layout.READS_CHANNELS),)),
    }
    not_weights = r"(encoder|decoder)\.embed_positions\.weight"  # computed
    fields = {  # noqa: RUF012
        **{name: (name,) for name in ("vocab_size", "max_position_embeddings", "use_cache", "tie_word_embeddings")},
        **{name: (name,) for name in ("decoder_layers", "share_encoder_decoder_embeddings")},
        **{name: (name,) for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")},
        "hidden_size": ("d_model",),
        "num_hidden_layers": ("encoder_layers",),
        "num_attention_heads": ("encoder_attention_heads", "decoder_attention_heads"),
        "intermediate_size": ("encoder_ffn_dim", "decoder_ffn_dim"),
        "hidden_act": ("activation_function",),
        "hidden_dropout_prob": ("dropout",),
        "attention_probs_dropout_prob": ("attention_dropout",),
        "initializer_range": ("init_std",),
    }
    # The last three are of files older than the class, which does not read them.
    fixed = {  # noqa: RUF012
        "scale_embedding": True,
        "is_decoder": False,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
    }

    def refuse_inexpressible(self, config: PreTrainedConfig, auto_class: str) -> None:
        """Refuse norms before each part, and what no target can begin or be padded with."""
        super().refuse_inexpressible(config, auto_class)
        itself = "use the checkpoint itself, whose code travels with it"
        if config.norm_first:
            raise ValueError(
                f"norm_first is True, and transformers' {self.model_type} only normalises after each sum; train with "
                f"--model.norm_first false, or {itself}"
            )
        if config.layer_norm_eps != 1e-5:
            raise ValueError(
                f"layer_norm_eps is {config.layer_norm_eps}, and transformers' {self.model_type} only has 1e-05; {itself}"
            )
        if config.decoder_start_token_id is None and config.bos_token_id is None:
            raise ValueError(
                f"decoder_start_token_id and bos_token_id are both None, and transformers' {self.model_type} must know what a "
                "target begins with; set one in the checkpoint's config.json"
            )
        if config.pad_token_id is None:
            raise ValueError(
                f"pad_token_id is None, and transformers' {self.model_type} must know what a target is padded with; set it in "
                "the checkpoint's config.json"
            )

    def notes(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> list[str]:
        """Say that states have another order."""
        return ["the channels of its states come in another order than the checkpoint's"] if auto_class == BASE else []

    def native_values(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Say the same; a Marian whose output layer is its own cannot share its embeddings, so it has them twice."""
        values = super().native_values(ours)
        if values["decoder_start_token_id"] is None:
            values["decoder_start_token_id"] = values["bos_token_id"]
        return values | {
            "decoder_vocab_size": ours["vocab_size"],
            "init_std": float(values["init_std"]),
            "scale_embedding": True,
            "share_encoder_decoder_embeddings": ours["share_encoder_decoder_embeddings"]
            and ours["tie_word_embeddings"],
            "forced_eos_token_id": None,
        }

    def our_config(self, native: PreTrainedConfig, weights: Mapping[str, torch.Tensor]) -> PreTrainedConfig:
        """Translate a native config; one vocabulary only, and embeddings that are shared as ours are."""
        if native.decoder_vocab_size != native.vocab_size:
            raise ValueError(
                f"vocab_size {native.vocab_size} and decoder_vocab_size {native.decoder_vocab_size}; bertkit's {self.family} "
                "only takes one for both"
            )
        if native.share_encoder_decoder_embeddings and not native.tie_word_embeddings:
            raise ValueError(
                "share_encoder_decoder_embeddings True with tie_word_embeddings False, which transformers takes for embeddings "
                f"that are not shared; bertkit's {self.family} takes share_encoder_decoder_embeddings False"
            )
        return super().our_config(native, weights)

    def values_of_weights(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Tell whether the output layer has a bias; transformers keeps one of zeros where there is none."""
        return {"output_bias": _BIAS in weights and bool(weights[_BIAS].any())}

    def to_ours(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> dict[str, torch.Tensor]:
        """Rename and lay out anew; embeddings by both their names, and the output layer's bias if it has one."""
        weights = dict(weights)
        bias = weights.pop(_BIAS, None)
        prefix = "" if "shared.weight" in weights else self.prefix
        shared = weights.pop(f"{prefix}shared.weight", None)
        if shared is not None:
            weights |= {prefix + _EMBEDDINGS.format(stack): shared for stack in _STACKS}
        ours = super().to_ours(weights, auto_class)
        if bias is not None and bias.any() and auto_class != BASE:
            ours[_OUR_BIAS] = bias.flatten()
        return ours

    def to_native(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> dict[str, torch.Tensor]:
        """Rename and lay out anew; embeddings by all their names, and a bias also where there is none."""
        weights = dict(weights)
        bias = weights.pop(_OUR_BIAS, None)
        prefix = "model." if any(name.startswith("model.") for name in weights) else ""
        source, target = (prefix + _OUR_EMBEDDINGS.format(stack) for stack in _STACKS)
        for name, other in ((source, target), (target, source)):  # of shared ones a file holds one
            if name not in weights and other in weights:
                weights[name] = weights[other].clone()
        native = super().to_native(weights, auto_class)
        prefix = "" if auto_class == BASE else self.prefix
        embeddings = native.get(prefix + _EMBEDDINGS.format("encoder"))
        if embeddings is not None:
            native[f"{prefix}shared.weight"] = embeddings
            if auto_class != BASE:
                native[_BIAS] = embeddings.new_zeros(1, len(embeddings)) if bias is None else bias[None]
        return native

    def channels(self, width: int, *, native: bool) -> torch.Tensor:
        """Return for each channel where its sine or cosine lies on the other side."""
        turns = torch.arange(width).view(2, -1).T.flatten()  # ours -> Marian's
        return turns.argsort() if native else turns
