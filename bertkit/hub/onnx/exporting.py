"""A checkpoint as a graph in a file, held against the checkpoint on batches of other shapes than it was traced on."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bertkit.hub.checkpoints import load_checkpoint, saved_family
from bertkit.hub.contained_heads import contained_head
from bertkit.hub.native.architecture import BASE
from bertkit.hub.native.comparing import padded_batch
from bertkit.hub.native.loading import load_safetensors
from bertkit.hub.onnx.comparing import Expected, largest_difference, open_graph
from bertkit.hub.onnx.recurrent import over_padded_rows
from bertkit.models.modeling_characters import PADDING, word_characters

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

MODEL_FILE = "model.onnx"
TOLERANCE = 1e-4
"""Largest difference from the checkpoint's outputs, in parts of the largest of these where that is over 1."""
_TRACED = {"rows": 6, "longest": 12}
_CHECKED = ({"rows": 3, "longest": 5}, {"rows": 9, "longest": 31})
_MOST_IN_ONE_FILE = 2**31 - 2**24  # bytes; a file of protobuf holds 2 GiB
_DIMENSIONS = {2: ("batch", "length"), 3: ("batch", "choices", "length")}


@dataclass(frozen=True)
class ExportedOnnx:
    """What was written, and how far it is from what it was written from."""

    auto_class: str
    """The Auto class of the head."""
    inputs: list[str]
    """Names of what the graph takes."""
    outputs: list[str]
    """Names of what it returns."""
    parameters: int
    max_length: int | None
    """The longest row in tokens that it takes; None: any."""
    expected: list[Expected]
    """The batches that were compared, with the checkpoint's outputs."""
    difference: float
    """Largest difference of the graph's outputs from them."""


class _Answers(nn.Module):
    """A model that takes and returns tensors and nothing else, as a graph does."""

    def __init__(self, model: nn.Module, outputs: list[str], settings: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.outputs, self.settings = model, outputs, settings

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        answers = self.model(
            input_ids=input_ids, attention_mask=attention_mask, **segments, **self.settings, return_dict=True
        )
        return tuple(answers[name] for name in self.outputs)


def export_onnx(folder: Path, output: Path, auto_class: str | None = None, *, spelt: bool = False) -> ExportedOnnx:
    """Write a checkpoint's model as ONNX and its config beside it, and compare what both compute.

    Args:
        folder: a checkpoint of bertkit, or of an architecture of transformers that bertkit reads.
        output: an empty folder, which gets model.onnx and config.json.
        auto_class: which head, by its Auto class; by default that of the checkpoint. "AutoModel" leaves the head out.
        spelt: words are given as their characters, (batch, seq, max_characters), as the checkpoint's tokenizer does.

    Raises:
        ValueError: the model writes a text token by token, or the graph computes something else.
    """
    auto_class = contained_head(folder, auto_class)
    model: Any = load_checkpoint(folder, auto_class, dtype=torch.float32)
    config = model.config
    if config.is_encoder_decoder:
        raise ValueError(
            f"the family {saved_family(folder)} writes token by token, in a loop around its decoder that no ONNX graph holds; "
            "use the checkpoint itself, whose code travels with it, or export the family transformer --to native"
        )
    if (
        auto_class == BASE
        and hasattr(model, "pooler")
        and not any("pooler." in name for name in load_safetensors(folder))
    ):
        model.pooler = None  # nothing has trained it
    settings = {"use_cache": False} if hasattr(config, "use_cache") else {}
    traced, *checked = (_batch(config, auto_class, spelt=spelt, **shape) for shape in (_TRACED, *_CHECKED))
    with torch.no_grad():
        answers = [model(**batch, **settings, return_dict=True) for batch in checked]
    expected = [
        Expected(batch, {name: value for name, value in answer.items() if isinstance(value, torch.Tensor)})
        for batch, answer in zip(checked, answers, strict=True)
    ]
    outputs = list(expected[0].outputs)
    parameters = model.num_parameters()
    graph = _Answers(over_padded_rows(model, spelt=spelt), outputs, settings).eval()
    _write_graph(graph, traced, config, output / MODEL_FILE)
    # No code goes along, and nobody shall look for a class of it; only a tokenizer that spells words is found by the type.
    left_out = ("auto_map",) if spelt else ("auto_map", "model_type")
    plain = {name: value for name, value in config.to_diff_dict().items() if name not in left_out}
    (output / "config.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    difference = largest_difference(open_graph(output / MODEL_FILE), expected, auto_class)
    largest = max(float(tensor.abs().max()) for each in expected for tensor in each.outputs.values())
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ValueError(
            f"{folder} and its ONNX graph differ by up to {difference:.1e} on padded batches, where outputs reach "
            f"{largest:.1e}, and {TOLERANCE:.0e} of that is allowed; nothing is kept"
        )
    return ExportedOnnx(
        auto_class,
        inputs=list(traced),
        outputs=outputs,
        parameters=parameters,
        max_length=getattr(config, "max_position_embeddings", None),
        expected=expected,
        difference=difference,
    )


def _batch(
    config: "PreTrainedConfig", auto_class: str, *, spelt: bool, rows: int, longest: int
) -> dict[str, torch.Tensor]:
    """Make a padded batch as the head takes it; where words are spelt, of numbers as words."""
    batch = padded_batch(config, auto_class, rows=rows, longest=longest)
    if spelt:
        mask, size = batch["attention_mask"], config.max_characters
        spellings = [
            word_characters(str(31**number), size) if is_token else [PADDING] * size
            for number, is_token in enumerate(mask.flatten().tolist())
        ]
        batch["input_ids"] = torch.tensor(spellings).view(*mask.shape, size)
    return batch


def _write_graph(model: _Answers, batch: dict[str, torch.Tensor], config: "PreTrainedConfig", path: Path) -> None:
    """Trace a model and write the graph, without the traces of source files that the exporter puts on its nodes."""
    names = _DIMENSIONS[batch["attention_mask"].dim()]
    dimensions = dict(enumerate(names))
    with torch.no_grad(), _quiet():
        program: Any = torch.onnx.export(
            model,
            tuple(batch.values()),
            input_names=list(batch),
            output_names=model.outputs,
            dynamic_shapes=(dimensions,) * len(batch),
            dynamo=True,
            verbose=False,
        )
    graph = program.model.graph
    values = [
        *graph.inputs,
        *graph.initializers.values(),
        *(value for node in graph.all_nodes() for value in node.outputs),
    ]
    for noted in (graph, *graph.all_nodes(), *values):
        noted.metadata_props.clear()
    program.model.metadata_props["model_type"] = config.model_type
    size = sum(weight.const_value.nbytes for weight in graph.initializers.values())
    program.save(path, external_data=size > _MOST_IN_ONE_FILE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says of packages that it misses and of its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
