"""transformers' BERT, which is the family `bert` under other names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedConfig,
)

from bertkit.hub.native.architecture import Head, NativeArchitecture, Row

_LAYER = "encoder.layer.{}."
_LM_HEAD = (
    Row("lm_head.dense", ("cls.predictions.transform.dense",)),
    Row("lm_head.norm", ("cls.predictions.transform.LayerNorm",)),
    Row("lm_head.decoder", ("cls.predictions.decoder",)),
)
_NEXT_SENTENCE_HEAD = (Row("next_sentence_head", ("cls.seq_relationship",)),)
_CLASSIFIER = (Row("score", ("classifier",)),)
# The output layer's bias, whose other name is that which files hold.
_BIAS, _BIAS_IN_FILES = "cls.predictions.decoder.bias", "cls.predictions.bias"
_SAME_NAMES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "max_position_embeddings"),
    *("type_vocab_size", "layer_norm_eps", "initializer_range", "pad_token_id", "tie_word_embeddings"),
)


class NativeBert(NativeArchitecture):
    """BERT."""

    family = "bert"
    config_class = BertConfig
    prefix = "bert."
    base_rows = (
        Row("embeddings.word_embeddings", ("embeddings.word_embeddings",)),
        Row("embeddings.position_embeddings", ("embeddings.position_embeddings",)),
        Row("embeddings.token_type_embeddings", ("embeddings.token_type_embeddings",)),
        Row("embeddings.norm", ("embeddings.LayerNorm",)),
        Row("layers.{}.attention.qkv", tuple(f"{_LAYER}attention.self.{part}" for part in ("query", "key", "value"))),
        Row("layers.{}.attention.output", (f"{_LAYER}attention.output.dense",)),
        Row("layers.{}.attention_norm", (f"{_LAYER}attention.output.LayerNorm",)),
        Row("layers.{}.feed_forward.intermediate", (f"{_LAYER}intermediate.dense",)),
        Row("layers.{}.feed_forward.output", (f"{_LAYER}output.dense",)),
        Row("layers.{}.feed_forward_norm", (f"{_LAYER}output.LayerNorm",)),
        Row("pooler.dense", ("pooler.dense",)),
    )
    may_be_missing = ("pooler.dense",)
    heads = {  # noqa: RUF012
        "AutoModel": Head(BertModel),
        "AutoModelForPreTraining": Head(BertForPreTraining, (*_LM_HEAD, *_NEXT_SENTENCE_HEAD)),
        "AutoModelForMaskedLM": Head(BertForMaskedLM, _LM_HEAD),
        "AutoModelForNextSentencePrediction": Head(BertForNextSentencePrediction, _NEXT_SENTENCE_HEAD),
        "AutoModelForSequenceClassification": Head(BertForSequenceClassification, _CLASSIFIER),
        "AutoModelForTokenClassification": Head(BertForTokenClassification, _CLASSIFIER),
        "AutoModelForQuestionAnswering": Head(BertForQuestionAnswering, (Row("qa_outputs", ("qa_outputs",)),)),
        "AutoModelForMultipleChoice": Head(BertForMultipleChoice, _CLASSIFIER),
    }
    not_weights = r"embeddings\.(position_ids|token_type_ids)"  # 0, 1, 2, ... as older versions saved them
    fields = {name: (name,) for name in _SAME_NAMES}  # noqa: RUF012
    fixed = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}  # noqa: RUF012

    def refuse_inexpressible(self, config: PreTrainedConfig, auto_class: str) -> None:
        """Refuse norms before each part, and heads on another pooling than the pooler."""
        super().refuse_inexpressible(config, auto_class)
        if config.norm_first:
            raise ValueError(
                "norm_first is True, and transformers' BERT only normalises after each sum; train with "
                "--model.norm_first false, or use the checkpoint itself, whose code travels with it"
            )
        pools = auto_class in ("AutoModelForSequenceClassification", "AutoModelForMultipleChoice")
        if pools and config.pooling != "cls":
            raise ValueError(
                f"pooling is {config.pooling!r}, and transformers' {self.heads[auto_class].native_class.__name__} only reads "
                "the pooler; fine-tune with --model.pooling cls, or give --auto_class AutoModel, which leaves the head out"
            )

    def native_values(self, ours: dict[str, Any]) -> dict[str, Any]:
        """Say the same; transformers wants floats in two fields that take whole numbers here."""
        values = super().native_values(ours)
        return values | {name: float(values[name]) for name in ("initializer_range", "layer_norm_eps")}

    def to_ours(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> dict[str, torch.Tensor]:
        """Rename; also what checkpoints converted from TensorFlow call the weight and bias of a norm, gamma and beta."""
        found = {}
        for name, tensor in weights.items():
            renamed = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
            found[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", renamed)] = tensor
        bias = found.pop(_BIAS_IN_FILES, None)
        if bias is not None:
            found.setdefault(_BIAS, bias)
        return super().to_ours(found, auto_class)

    def to_native(self, weights: Mapping[str, torch.Tensor], auto_class: str) -> dict[str, torch.Tensor]:
        """Rename; the bias of the output layer by both its names, a copy each: where nothing is tied they are two."""
        native = super().to_native(weights, auto_class)
        return native | ({_BIAS_IN_FILES: native[_BIAS].clone()} if _BIAS in native else {})
