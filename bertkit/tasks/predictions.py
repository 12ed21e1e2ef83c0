"""What a model says about labelled texts, as a file: one JSON object a line, in the order of the input."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.tasks.labelled_data import LabelledText

if TYPE_CHECKING:
    import torch


def write_predictions(
    path: Path, examples: Sequence[LabelledText], logits: "torch.Tensor", label_names: Sequence[str]
) -> None:
    """Write the predictions for examples: `text` (and `text_pair`), `label`, `prediction`, `probabilities` by label.

    Args:
        path: the file.
        examples: the texts.
        logits: (examples, labels).
        label_names: (labels,).
    """
    probabilities = logits.double().softmax(-1)  # (examples, labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for example, row in zip(examples, probabilities.tolist(), strict=True):
            record = {
                "text": example.text,
                **({} if example.text_pair is None else {"text_pair": example.text_pair}),
                "label": example.label,
                "prediction": label_names[max(range(len(row)), key=row.__getitem__)],
                "probabilities": {name: round(share, 6) for name, share in zip(label_names, row, strict=True)},
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
