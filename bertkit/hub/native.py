"""Checkpoints of transformers' own architectures, read into bertkit's classes."""

import json
import os
import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from bertkit.models import FAMILIES, build_config, choose

# transformers' name -> bertkit's; the encoder's names stand with or without "bert." in front.
BERT_NAMES = {
    r"embeddings\.(word_embeddings|position_embeddings|token_type_embeddings)\.weight": r"embeddings.\1.weight",
    r"embeddings\.LayerNorm\.(weight|bias)": r"embeddings.norm.\1",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)": r"layers.\1.attention.output.\2",
    r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.(weight|bias)": r"layers.\1.attention_norm.\2",
    r"encoder\.layer\.(\d+)\.intermediate\.dense\.(weight|bias)": r"layers.\1.feed_forward.intermediate.\2",
    r"encoder\.layer\.(\d+)\.output\.dense\.(weight|bias)": r"layers.\1.feed_forward.output.\2",
    r"encoder\.layer\.(\d+)\.output\.LayerNorm\.(weight|bias)": r"layers.\1.feed_forward_norm.\2",
    r"pooler\.dense\.(weight|bias)": r"pooler.dense.\1",
    r"cls\.predictions\.transform\.dense\.(weight|bias)": r"lm_head.dense.\1",
    r"cls\.predictions\.transform\.LayerNorm\.(weight|bias)": r"lm_head.norm.\1",
    r"cls\.predictions\.decoder\.(weight|bias)": r"lm_head.decoder.\1",
    r"cls\.predictions\.(bias)": r"lm_head.decoder.\1",
    r"cls\.seq_relationship\.(weight|bias)": r"next_sentence_head.\1",
}
BERT_QKV = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.(weight|bias)")
BERT_POSITION_BUFFER = "embeddings.position_ids"  # 0, 1, 2, ... as older versions saved them: not a weight

BERT_CONFIG_FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "max_position_embeddings"),
    *("type_vocab_size", "initializer_range", "layer_norm_eps", "pad_token_id", "tie_word_embeddings"),
    *("id2label", "label2id", "problem_type"),
)
# What a native config may ask for and bertkit's encoder does not do: setting -> the only value it takes.
BERT_FIXED_SETTINGS = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}


def from_native_bert(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of a transformers BERT to bertkit's, and join each layer's query, key and value.

    Args:
        state_dict: of BertModel, BertForPreTraining, BertForMaskedLM or BertForNextSentencePrediction.

    Returns:
        The weights under bertkit's names; the encoder's start with "model." where transformers' start with "bert.".

    Raises:
        ValueError: a weight that has no place in bertkit's BERT, or a layer without one of query, key and value.
    """
    renamed: dict[str, torch.Tensor] = {}
    projections: dict[str, dict[str, torch.Tensor]] = {}
    for native_name, tensor in state_dict.items():
        prefix = "model." if native_name.startswith("bert.") else ""
        # gamma and beta: how checkpoints converted from TensorFlow call the weight and bias of a norm
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", native_name.removeprefix("bert."))
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        if name == BERT_POSITION_BUFFER:
            continue
        if part := BERT_QKV.fullmatch(name):
            joined = f"{prefix}layers.{part[1]}.attention.qkv.{part[3]}"
            projections.setdefault(joined, {})[part[2]] = tensor
            continue
        match = next((found for found in (re.fullmatch(pattern, name) for pattern in BERT_NAMES) if found), None)
        if match is None:
            raise ValueError(f"weight {native_name!r} has no place in bertkit's BERT")
        renamed[prefix + match.expand(BERT_NAMES[match.re.pattern])] = tensor
    for joined, parts in projections.items():
        missing = {"query", "key", "value"} - parts.keys()
        if missing:
            raise ValueError(f"no weight of transformers' BERT for the {', '.join(sorted(missing))} part of {joined!r}")
        renamed[joined] = torch.cat([parts["query"], parts["key"], parts["value"]])
    return renamed


def load_native_bert(path: str | os.PathLike[str], auto_class_name: str = "AutoModel") -> PreTrainedModel:
    """Load a transformers BERT checkpoint into a class of bertkit's `bert` family, in float32.

    Args:
        path: folder with config.json (model_type bert) and safetensors weights, in one file or in shards.
        auto_class_name: which head, by its Auto class. A head without weights in the checkpoint starts fresh, and
            transformers reports it.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: not a BERT checkpoint, a setting bertkit's BERT does not have, or weights that do not fit.
    """
    folder = Path(path)
    model_class = choose("Auto class", auto_class_name, FAMILIES["bert"].auto_classes)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a transformers BERT checkpoint")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if settings.get("model_type") != "bert":
        raise ValueError(f"{folder} has model_type {settings.get('model_type')!r}; only 'bert' can be loaded")
    for name, value in BERT_FIXED_SETTINGS.items():
        if settings.get(name, value) != value:
            raise ValueError(f"{folder} has {name} {settings[name]!r}; bertkit's BERT only takes {value!r}")
    config = build_config("bert", "base", **{name: settings[name] for name in BERT_CONFIG_FIELDS if name in settings})
    model, report = model_class.from_pretrained(
        None,
        config=config,
        state_dict=from_native_bert(load_safetensors(folder)),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # so that they come back in the report, and are refused below in one line
        output_loading_info=True,
    )
    lost = [name for name in report["missing_keys"] if re.match(r"(model\.)?(embeddings|layers)\.", name)]
    misfits = [*lost, *report["unexpected_keys"], *(name for name, *_ in report["mismatched_keys"])]
    if misfits:
        raise ValueError(
            f"the weights of {folder} do not fit its config.json: {len(misfits)} are missing, left over or of another "
            f"shape, one of them {min(misfits)!r}"
        )
    model.name_or_path = model.config.name_or_path = str(folder)
    return model


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
        raise ValueError(f"{folder} has no model.safetensors; save the model again with transformers' save_pretrained")
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return {name: tensor for shard in shards for name, tensor in load_file(folder / shard).items()}
