"""What `bertkit import elmo` reads: AllenAI's ELMo."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.stages.import_checkpoint import Imported

if TYPE_CHECKING:
    from jsonargparse import Namespace

_CARD = """---
library_name: transformers
pipeline_tag: feature-extraction
tags:
- bertkit
- elmo
---

# ELMo, imported by bertkit

The layers and the character network of `{weights}`, with the shape that `{options}` says. {parameters:,} parameters. There is
no output layer in such a file, so the model gives vectors and predicts no words.

## Loading

{loading}

Every layer, with either of the first two:

```python
batch = tokenizer(["Words stand between spaces , punctuation too ."], padding=True, return_tensors="pt")
layers = model(**batch, output_hidden_states=True).hidden_states  # (batch, words, {hidden_size}) each
```
"""


def read(files: Sequence[str], options: "Namespace") -> Imported:
    """Read the two files of an ELMo.

    Args:
        files: its options.json and its weights.hdf5.
        options: of `bertkit import`.
    """
    from bertkit.hub.allenai_elmo import load_allenai_elmo
    from bertkit.hub.cards.model_card import loading

    shape, weights = files
    model, tokenizer = load_allenai_elmo(shape, weights)
    card = _CARD.format(
        weights=Path(weights).name,
        options=Path(shape).name,
        parameters=model.num_parameters(),
        hidden_size=model.config.hidden_size,
        loading=loading("AutoModel", "feature-extraction"),
    )
    return Imported(model, tokenizer, card)
