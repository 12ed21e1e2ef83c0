"""What `bertkit export --to onnx` writes: a graph for onnxruntime, one in eight bits if asked for, tokenizer, config, card."""

from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.stages.formats.exported_card import card_metadata
from bertkit.stages.formats.exported_tokenizer import load_checkpoint_tokenizer, write_tokenizer

if TYPE_CHECKING:
    from jsonargparse import Namespace

_CARD = """---
{metadata}---

# {auto_class} as ONNX, exported from bertkit

{parameters:,} parameters. `model.onnx` takes {inputs} and returns {outputs}, for any number of rows and any length, padded on
the right. {differences}.

```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this-folder"{flag})
session = onnxruntime.InferenceSession("this-folder/model.onnx")
batch = dict(tokenizer(["A text.", "Another, longer text."], padding=True, return_tensors="np"))
{asked} = session.run(None, {given})
```
"""


def write(checkpoint: Path, folder: Path, options: "Namespace") -> str:
    """Write a checkpoint as ONNX.

    Args:
        checkpoint: a checkpoint of bertkit, or of an architecture of transformers that bertkit reads.
        folder: an empty folder.
        options: of `bertkit export`.

    Returns:
        What was written, and how far it is from the checkpoint.

    Raises:
        ValueError: no graph holds what the model does, or tokenizers differ.
    """
    from bertkit.hub.onnx.exporting import MODEL_FILE, export_onnx
    from bertkit.hub.onnx.quantising import quantise_onnx
    from bertkit.tokenization import spells_words

    tokenizer = load_checkpoint_tokenizer(checkpoint)
    spelt = spells_words(tokenizer)
    exported = export_onnx(checkpoint, folder, options.auto_class, spelt=spelt)
    write_tokenizer(
        tokenizer,
        folder,
        with_segments="token_type_ids" in exported.inputs,
        max_length=exported.max_length,
        padding_side="right",
    )
    differences = (
        f"Largest difference of its outputs from the checkpoint's on two padded batches {exported.difference:.1e}"
    )
    if options.int8:
        small = quantise_onnx(folder / MODEL_FILE, folder / "model_int8.onnx", exported.expected, exported.auto_class)
        before, after = (size / 1e6 for size in small.sizes)
        differences += (
            f"; model_int8.onnx has {after:.1f} MB of its {before:.1f}, takes {small.cpu_time:.2f} of its CPU time on a batch "
            f"of random tokens, and differs from the checkpoint by up to {small.difference:.1e} where outputs reach "
            f"{small.largest:.1e}"
        )
    of_choices = exported.auto_class == "AutoModelForMultipleChoice"
    card = _CARD.format(
        metadata=card_metadata(checkpoint, "onnx", exported.auto_class),
        auto_class=exported.auto_class,
        parameters=exported.parameters,
        inputs=", ".join(f"`{name}`" for name in exported.inputs),
        outputs=", ".join(f"`{name}`" for name in exported.outputs),
        differences=differences,
        given="{name: rows[None] for name, rows in batch.items()}" if of_choices else "batch",
        flag=", trust_remote_code=True" if spelt else "",
        asked=", ".join(exported.outputs) + ("," if len(exported.outputs) == 1 else ""),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return (
        f"model.onnx of {exported.auto_class}, from {', '.join(exported.inputs)} to {', '.join(exported.outputs)}; "
        + differences[0].lower()
        + differences[1:]
        + ("" if tokenizer is not None else f"; {checkpoint} has no tokenizer, so none was written")
    )
