"""What an error costs by class, for labels that are unevenly frequent."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from bertkit.data.errors import DataError, listed

ClassWeights: TypeAlias = Literal["balanced"] | dict[str, float] | None


def refuse_unknown_weights(weights: ClassWeights, label_names: Sequence[str]) -> None:
    """Make sure that weights are given for the labels there are.

    Args:
        weights: as `task.class_weights` gives them.
        label_names: (labels,).

    Raises:
        DataError: a label without a weight, a weight without a label, or one below 0.
    """
    if not isinstance(weights, dict):
        return
    weights = _by_name(weights)
    if {*weights} != {*label_names}:
        odd = sorted({*weights} ^ {*label_names})[0]
        what = "has no weight" if odd in label_names else "is no label of the training data"
        raise DataError(f"task.class_weights: {odd!r} {what}; give one for each of {listed(label_names)}")
    if min(weights.values()) < 0 or not any(weights.values()):
        raise DataError(f"task.class_weights are {weights}; give numbers of 0 and more, not all of them 0")


def class_weights(
    weights: Literal["balanced"] | dict[str, float], label_names: Sequence[str], frequencies: Mapping[str, int]
) -> list[float]:
    """Return a weight for each label, such that over the training examples they are 1 in the mean.

    The loss then stays of the size it has without weights, and so does the learning rate that suits it.

    Args:
        weights: `balanced`, one over the label's frequency, or a number for each label.
        label_names: (labels,).
        frequencies: label -> training examples that bear it.

    >>> class_weights("balanced", ["no", "yes"], {"no": 30, "yes": 10})
    [0.6667, 2.0]
    """
    if weights == "balanced":
        raw = [1 / max(frequencies[name], 1) for name in label_names]
    else:
        named = _by_name(weights)
        raw = [named[name] for name in label_names]
    counts = [frequencies[name] for name in label_names]
    scale = sum(counts) / sum(weight * count for weight, count in zip(raw, counts, strict=True))
    return [round(weight * scale, 4) for weight in raw]


def _by_name(weights: Mapping[Any, float]) -> dict[str, float]:
    """Return weights by the names of labels, which YAML takes for numbers or switches where they look so: {0: 1, true: 5}."""
    return {name if isinstance(name, str) else json.dumps(name): weight for name, weight in weights.items()}
