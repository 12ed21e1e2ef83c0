"""The table of model families; importing it makes every family known to transformers' Auto classes.

Only the `modeling_*.py` files travel with a checkpoint, this file never does.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import docstring_parser
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from .modeling_bert import (
    BERT_PRESETS,
    BertEncoderConfig,
    BertEncoderForMaskedLM,
    BertEncoderForMultipleChoice,
    BertEncoderForNextSentencePrediction,
    BertEncoderForPreTraining,
    BertEncoderForQuestionAnswering,
    BertEncoderForSequenceClassification,
    BertEncoderForTokenClassification,
    BertEncoderModel,
)
from .modeling_elmo import (
    ELMO_PRESETS,
    ElmoConfig,
    ElmoForMultipleChoice,
    ElmoForPreTraining,
    ElmoForQuestionAnswering,
    ElmoForSequenceClassification,
    ElmoForTokenClassification,
    ElmoModel,
)
from .modeling_gpt import (
    GPT_PRESETS,
    GptConfig,
    GptForCausalLM,
    GptForMultipleChoice,
    GptForQuestionAnswering,
    GptForSequenceClassification,
    GptForTokenClassification,
    GptModel,
)
from .modeling_rnn import (
    RNN_PRESETS,
    RnnConfig,
    RnnForCausalLM,
    RnnForMultipleChoice,
    RnnForQuestionAnswering,
    RnnForSequenceClassification,
    RnnForTokenClassification,
    RnnModel,
)
from .modeling_rnn_seq2seq import (
    RNN_SEQ2SEQ_PRESETS,
    RnnSeq2SeqConfig,
    RnnSeq2SeqForConditionalGeneration,
    RnnSeq2SeqModel,
)
from .modeling_static import (
    STATIC_PRESETS,
    StaticEmbeddingConfig,
    StaticEmbeddingForMultipleChoice,
    StaticEmbeddingForQuestionAnswering,
    StaticEmbeddingForSequenceClassification,
    StaticEmbeddingForTokenClassification,
    StaticEmbeddingModel,
)
from .modeling_transformer import (
    TRANSFORMER_PRESETS,
    TransformerConfig,
    TransformerForConditionalGeneration,
    TransformerModel,
)
from .tokenization_elmo import ElmoCharacterTokenizer


@dataclass(frozen=True)
class Family:
    """A model family: its config, its classes by Auto class, its named sizes, and where its layers are.

    `lora_targets` are ends of the names of the linear parts of its layers, which LoRA adapts; recurrent layers have none.
    `layer_lists` names the lists of layers of the base model, from the bottom to the top. `beside_layers` says of modules of
    the base model that are neither embeddings nor in these lists which layer they go with, as "layers.-1" for the last, or that
    they are of the "head". `models/layer_groups.py` reads both.
    """

    config_class: type[PreTrainedConfig]
    auto_classes: dict[str, type[PreTrainedModel]]
    presets: dict[str, dict[str, Any]]
    default_preset: str
    made_by: str = "pretrain"
    """The verb of bertkit that makes its checkpoints: `pretrain` by an objective, or one that needs none."""
    layer_lists: tuple[str, ...] = ("layers",)
    beside_layers: Mapping[str, str] = field(default_factory=dict)
    lora_targets: tuple[str, ...] = ()


_TRANSFORMER_LINEAR = ("attention.qkv", "attention.output", "feed_forward.intermediate", "feed_forward.output")


FAMILIES = {
    "rnn": Family(
        config_class=RnnConfig,
        auto_classes={
            "AutoModel": RnnModel,
            "AutoModelForCausalLM": RnnForCausalLM,
            "AutoModelForSequenceClassification": RnnForSequenceClassification,
            "AutoModelForTokenClassification": RnnForTokenClassification,
            "AutoModelForQuestionAnswering": RnnForQuestionAnswering,
            "AutoModelForMultipleChoice": RnnForMultipleChoice,
        },
        presets=RNN_PRESETS,
        default_preset="base",
    ),
    "static": Family(
        config_class=StaticEmbeddingConfig,
        auto_classes={
            "AutoModel": StaticEmbeddingModel,
            "AutoModelForSequenceClassification": StaticEmbeddingForSequenceClassification,
            "AutoModelForTokenClassification": StaticEmbeddingForTokenClassification,
            "AutoModelForQuestionAnswering": StaticEmbeddingForQuestionAnswering,
            "AutoModelForMultipleChoice": StaticEmbeddingForMultipleChoice,
        },
        presets=STATIC_PRESETS,
        default_preset="base",
        made_by="embed",
        layer_lists=(),
    ),
    "elmo": Family(
        config_class=ElmoConfig,
        auto_classes={
            "AutoModel": ElmoModel,
            "AutoModelForPreTraining": ElmoForPreTraining,
            "AutoModelForSequenceClassification": ElmoForSequenceClassification,
            "AutoModelForTokenClassification": ElmoForTokenClassification,
            "AutoModelForQuestionAnswering": ElmoForQuestionAnswering,
            "AutoModelForMultipleChoice": ElmoForMultipleChoice,
        },
        presets=ELMO_PRESETS,
        default_preset="base",
    ),
    "rnn_seq2seq": Family(
        config_class=RnnSeq2SeqConfig,
        auto_classes={"AutoModel": RnnSeq2SeqModel, "AutoModelForSeq2SeqLM": RnnSeq2SeqForConditionalGeneration},
        presets=RNN_SEQ2SEQ_PRESETS,
        default_preset="base",
        layer_lists=("encoder.layers", "decoder.layers"),
        beside_layers={
            "decoder.bridge": "decoder.layers.0",
            "decoder.cell_bridge": "decoder.layers.0",
            "decoder.key": "decoder.layers.0",
            "decoder.readout": "head",
        },
    ),
    "transformer": Family(
        config_class=TransformerConfig,
        auto_classes={"AutoModel": TransformerModel, "AutoModelForSeq2SeqLM": TransformerForConditionalGeneration},
        presets=TRANSFORMER_PRESETS,
        default_preset="base",
        layer_lists=("encoder.layers", "decoder.layers"),
        beside_layers={"encoder.final_norm": "encoder.layers.-1", "decoder.final_norm": "decoder.layers.-1"},
        lora_targets=(
            *_TRANSFORMER_LINEAR,
            "cross_attention.query",
            "cross_attention.key_value",
            "cross_attention.output",
        ),
    ),
    "gpt": Family(
        config_class=GptConfig,
        auto_classes={
            "AutoModel": GptModel,
            "AutoModelForCausalLM": GptForCausalLM,
            "AutoModelForSequenceClassification": GptForSequenceClassification,
            "AutoModelForTokenClassification": GptForTokenClassification,
            "AutoModelForQuestionAnswering": GptForQuestionAnswering,
            "AutoModelForMultipleChoice": GptForMultipleChoice,
        },
        presets=GPT_PRESETS,
        default_preset="base",
        beside_layers={"final_norm": "layers.-1"},
        lora_targets=_TRANSFORMER_LINEAR,
    ),
    "bert": Family(
        config_class=BertEncoderConfig,
        auto_classes={
            "AutoModel": BertEncoderModel,
            "AutoModelForPreTraining": BertEncoderForPreTraining,
            "AutoModelForMaskedLM": BertEncoderForMaskedLM,
            "AutoModelForNextSentencePrediction": BertEncoderForNextSentencePrediction,
            "AutoModelForSequenceClassification": BertEncoderForSequenceClassification,
            "AutoModelForTokenClassification": BertEncoderForTokenClassification,
            "AutoModelForQuestionAnswering": BertEncoderForQuestionAnswering,
            "AutoModelForMultipleChoice": BertEncoderForMultipleChoice,
        },
        presets=BERT_PRESETS,
        default_preset="base",
        beside_layers={"pooler": "head", "final_norm": "layers.-1"},
        lora_targets=_TRANSFORMER_LINEAR,
    ),
}

AUTO_CLASSES = {name: getattr(transformers, name) for family in FAMILIES.values() for name in family.auto_classes}

# Fields of every config that a task sets; the rest of transformers' common fields is not for a recipe to set.
TASK_FIELDS = ("num_labels", "id2label", "label2id", "problem_type", "class_weights")

# Fields that decide what fresh weights are drawn, and nothing else of a model.
FRESH_WEIGHT_FIELDS = ("initializer_range", "initial_attention")


class ConfigField(NamedTuple):
    """A setting of a family, for a help listing."""

    name: str
    type: str
    default: Any
    doc: str


def choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    """Return table[name]; an unknown name is a ValueError that names the choices."""
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; choose from {', '.join(table)}")
    return table[name]


def auto_map(family: str) -> dict[str, str]:
    """Tell transformers which file and class of a checkpoint folder serves which Auto class, all heads included.

    Args:
        family: a name in `FAMILIES`.

    Returns:
        Auto class -> "file.Class", as `config.auto_map` holds it.
    """
    chosen = choose("model family", family, FAMILIES)
    classes = {"AutoConfig": chosen.config_class, **chosen.auto_classes}
    return {name: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}" for name, cls in classes.items()}


def family_of(config: PreTrainedConfig) -> str | None:
    """Name the family a config belongs to, None for a config that is not of bertkit."""
    names = {family.config_class.model_type: name for name, family in FAMILIES.items()}
    return names.get(config.model_type)


def build_config(family: str, preset: str | None = None, **overrides: Any) -> PreTrainedConfig:
    """Make a config from a preset and settings.

    Args:
        family: a name in `FAMILIES`.
        preset: a size of the family; its default preset if not given.
        **overrides: fields of the config (see `describe_config`), or num_labels, id2label, label2id, problem_type.

    Returns:
        The config, with the family's whole `auto_map`.

    Raises:
        ValueError: unknown family, preset or field, or a value that the config refuses.
    """
    chosen = choose("model family", family, FAMILIES)
    settings = choose(f"{family} preset", preset or chosen.default_preset, chosen.presets)
    known = [*chosen.config_class.__annotations__, *TASK_FIELDS]
    for key in overrides:
        if key not in known:
            having = [name for name, other in FAMILIES.items() if key in other.config_class.__annotations__]
            nearest = difflib.get_close_matches(key, [*known, "family", "preset"], n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(known)}"
            if having:
                hint = f"it is one of {', '.join(having)}; leave it out, or start from a recipe of {family}"
            raise ValueError(f"unknown setting {key!r} of model family {family!r}; {hint}")
    try:
        return chosen.config_class(**{**settings, **overrides}, auto_map=auto_map(family))
    except StrictDataclassError as error:
        raise ValueError(f"model family {family!r}: {error.__cause__}") from error


def describe_config(family: str) -> list[ConfigField]:
    """List the settings of a family with the values of its default preset.

    Args:
        family: a name in `FAMILIES`.

    Returns:
        (name, type, default, doc) of every field the family's config declares, in its order.
    """
    config_class = choose("model family", family, FAMILIES).config_class
    config = build_config(family)
    documented = {param.arg_name: param for param in docstring_parser.parse_from_object(config_class).params}
    return [
        ConfigField(
            name=field.name,
            type=documented[field.name].type_name or "",
            default=getattr(config, field.name),
            doc=" ".join((documented[field.name].description or "").split()),
        )
        for field in fields(config_class)
        if field.name in documented
    ]


def build_model(config: PreTrainedConfig, auto_class_name: str) -> PreTrainedModel:
    """Make a model with fresh weights, drawn from torch's global random stream.

    Args:
        config: a config of one of the `FAMILIES`.
        auto_class_name: which head, by its Auto class: "AutoModelForMaskedLM".

    Returns:
        The model, in training mode; what it saves loads through every Auto class of its family.

    Raises:
        ValueError: not a config of bertkit, or a head that its family does not have.
    """
    family = family_of(config)
    if family is None:
        model_types = ", ".join(family.config_class.model_type for family in FAMILIES.values())
        raise ValueError(f"model type {config.model_type!r} is not of bertkit; its model types are {model_types}")
    model_class = choose(f"head of model family {family!r}", auto_class_name, FAMILIES[family].auto_classes)
    config.auto_map = auto_map(family)
    return model_class(config).train()


def load_model(path: str | os.PathLike[str], auto_class_name: str, **kwargs: Any) -> PreTrainedModel:
    """Load a checkpoint through one of transformers' Auto classes, bertkit's own classes first.

    Args:
        path: a checkpoint folder, or a name on the Hub.
        auto_class_name: which head, by its Auto class: "AutoModelForMaskedLM".
        **kwargs: passed on to `from_pretrained`.

    Returns:
        The model, in evaluation mode. What a bertkit model saves again loads through every Auto class of its family.

    Raises:
        ValueError: an Auto class that no family has, or a folder without config.json or without safetensors.
    """
    auto_class = choose("Auto class", auto_class_name, AUTO_CLASSES)
    if os.path.isdir(path):
        files = os.listdir(path)
        if "config.json" not in files:
            raise ValueError(f"{os.fspath(path)} has no config.json; give the folder of a checkpoint")
        if not any(file.endswith(".safetensors") for file in files):
            raise ValueError(no_safetensors(path))
    # Nothing of a checkpoint is executed: neither the code that lies beside the weights nor what a pickle asks for.
    model = auto_class.from_pretrained(path, **{"trust_remote_code": False, "use_safetensors": True, **kwargs})
    family = family_of(model.config)
    if family is not None:
        model.config.auto_map = auto_map(family)
    return model


def no_safetensors(folder: str | os.PathLike[str]) -> str:
    """Say that a folder has no safetensors weights, and which pickle it has instead.

    Args:
        folder: with the other files of a checkpoint.

    Returns:
        The line for an error.
    """
    pickles = sorted(file for file in os.listdir(folder) if file.endswith((".bin", ".pt", ".pth", ".ckpt")))
    which = f", only {pickles[0]}, a pickle, whose loading can run code" if pickles else ""
    return f"{os.fspath(folder)} has no safetensors weights{which}; save the model again with save_pretrained"


def _register() -> None:
    """Make the families known to transformers, and their files travel with every `save_pretrained`."""
    for family in FAMILIES.values():
        AutoConfig.register(family.config_class.model_type, family.config_class, exist_ok=True)
        family.config_class.register_for_auto_class()
        for name, model_class in family.auto_classes.items():
            AUTO_CLASSES[name].register(family.config_class, model_class, exist_ok=True)
            model_class.register_for_auto_class(name)
    # The one family with a tokenizer of its own; where a folder names another (a WordPiece one), that is loaded.
    AutoTokenizer.register(ElmoConfig, ElmoCharacterTokenizer, exist_ok=True)
    ElmoCharacterTokenizer.register_for_auto_class()


_register()
