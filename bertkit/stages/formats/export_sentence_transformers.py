"""What `bertkit export --to sentence-transformers` writes: the encoder, its tokenizer, the pooling, and a card.

Where transformers has a class that computes the same, the encoder is written as that, and no code goes along.
"""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bertkit.config import ConfigError, choose
from bertkit.stages.formats.exported_card import card_metadata
from bertkit.stages.formats.exported_tokenizer import load_checkpoint_tokenizer, probes, write_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from jsonargparse import Namespace
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.features import Pooling

# `bertkit features --pooling` -> the mode of sentence-transformers' Pooling.
_MODES = {"mean": "mean", "cls": "cls", "max": "max", "last": "lasttoken"}
_TOLERANCE = 1e-5  # in parts of the largest number of a vector where that is over 1
_CARD = """---
{metadata}---

# A sentence encoder, exported from bertkit

Texts become vectors of {width:,} numbers: {how}. The encoder is {encoder}, of {parameters:,} parameters; longer
texts than {max_length} tokens are cut. On ragged texts its vectors and those of `bertkit features --pooling {pooling}` differ
by at most {difference:.1e}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this-folder"{flag})
vectors = model.encode(["A text.", "Another, longer text."])
```
"""


def write(checkpoint: Path, folder: Path, options: "Namespace") -> str:
    """Write a checkpoint as a model of sentence-transformers.

    Args:
        checkpoint: a checkpoint of bertkit, or of an architecture of transformers that bertkit reads.
        folder: an empty folder.
        options: of `bertkit export`.

    Returns:
        What was written, and how far its vectors are from those of `bertkit features`.

    Raises:
        ValueError: a checkpoint without features or tokenizer, a pooling that sentence-transformers has not, or other vectors.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule

    from bertkit.features import load_encoder
    from bertkit.features.tokens import choose_max_length

    pooling: Pooling = options.pooling or "mean"
    mode = choose("--pooling", pooling, _MODES)
    tokenizer = load_checkpoint_tokenizer(checkpoint)
    if tokenizer is None:
        raise ConfigError(
            f"{checkpoint} has no tokenizer, which sentence-transformers needs; save it beside the weights"
        )
    ours = load_encoder(checkpoint)
    if ours.config.is_encoder_decoder:
        raise ConfigError(f"{checkpoint} translates and has no features; give a model that reads one text")
    max_length = choose_max_length(ours, tokenizer, None, pairs=False)
    with tempfile.TemporaryDirectory() as parts, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of a pooler that transformers' class has and the checkpoint has not; no vector shows it
        encoder = _encoder(checkpoint, Path(parts))
        encoder.save_pretrained(parts)
        write_tokenizer(
            tokenizer,
            Path(parts),
            with_segments=hasattr(encoder.config, "type_vocab_size"),
            max_length=max_length,
            padding_side="right",  # a GPT-2 counts its positions from the first column, be it padding or not
        )
        modules: list[Any] = [Transformer(parts), PoolingModule(encoder.config.hidden_size, mode)]
        if options.normalize:
            modules.append(Normalize())
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    is_native = not hasattr(encoder.config, "auto_map")
    difference = _compare(folder, ours, tokenizer, pooling, normalize=bool(options.normalize))
    name = type(encoder).__name__
    card = _CARD.format(
        metadata=card_metadata(checkpoint, "sentence-transformers", "AutoModel", "sentence-similarity"),
        width=encoder.config.hidden_size,
        how=f"pooling {pooling} of the last states" + (", normalised to length 1" if options.normalize else ""),
        encoder=f"transformers' `{name}`" if is_native else f"bertkit's `{name}`, whose code lies beside the weights",
        parameters=encoder.num_parameters(),
        max_length=f"{max_length:,}" if max_length < sys.maxsize else "memory holds",
        pooling=pooling,
        difference=difference,
        flag="" if is_native else ", trust_remote_code=True",
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    loads = (
        "loads without bertkit"
        if is_native
        else "loads with trust_remote_code=True, or where bertkit.models is imported"
    )
    return (
        f"{name} with pooling {pooling}, which SentenceTransformer {loads}; largest difference of its vectors from those of "
        f"bertkit features {difference:.1e}"
    )


def _encoder(checkpoint: Path, room: Path) -> "PreTrainedModel":
    """Load the encoder in single precision, as a class of transformers where one computes the same."""
    import torch
    from transformers import AutoConfig, AutoModel

    from bertkit.hub.checkpoints import load_checkpoint, read_config
    from bertkit.hub.native import ARCHITECTURES, counterpart
    from bertkit.hub.native.exporting import export_native

    folder = checkpoint
    if read_config(checkpoint)["model_type"] not in ARCHITECTURES:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        try:
            counterpart(config).refuse_inexpressible(config, "AutoModel")
        except ValueError:  # which says what transformers has no word for; the checkpoint's own code has
            return load_checkpoint(checkpoint, "AutoModel", dtype=torch.float32)
        folder = room / "native"
        export_native(checkpoint, folder, "AutoModel")
    return cast("PreTrainedModel", AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True))


def _compare(
    folder: Path, ours: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", pooling: "Pooling", *, normalize: bool
) -> float:
    """Load what was written as anybody would, and hold its vectors against those of `bertkit features`.

    Raises:
        ValueError: they differ.
    """
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from bertkit.features import FeatureExtractor, FeatureSettings

    (words,), *_ = probes(tokenizer)
    texts = [words[start : start + length] for start, length in ((0, 40), (40, 300), (10, 9), (0, 2000), (100, 77))]
    ids: Any = tokenizer(texts, truncation=True)["input_ids"]
    texts = [text for text, of_text in zip(texts, ids, strict=True) if of_text]
    expected = FeatureExtractor(ours, tokenizer, FeatureSettings(pooling=pooling))(texts, quiet=True).vectors
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    loaded = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors = cast("np.ndarray", loaded.encode(texts, show_progress_bar=False))
    difference = float(np.abs(vectors - expected).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ConfigError(
            f"its vectors of sentence-transformers and those of bertkit features differ by up to {difference:.1e}, and "
            f"{_TOLERANCE:.0e} is allowed; nothing is kept"
        )
    return difference
