"""What a training says of itself: how it starts and ends, and that it learns nothing."""

import math
from collections.abc import Mapping

from accelerate import Accelerator

from bertkit.training.batch_sizes import BatchSizes
from bertkit.training.batches import Batches

_LATE = 0.75
"""From this share of the training on a loss should be under the floor."""
_FEW_STEPS = 100
"""Before as many steps nothing is expected."""


def start_lines(
    *, num_parameters: int, num_frozen: int, sizes: BatchSizes, batches: Batches, accelerator: Accelerator
) -> list[str]:
    """Say what is trained on what, and what its loss must get under.

    Args:
        num_parameters: of the model.
        num_frozen: those of them that are never trained.
        sizes: the global batch size of every step.
        batches: what is trained on.
        accelerator: where.
    """
    size = str(sizes.final) if sizes.first == sizes.final else f"{sizes.first} to {sizes.final}"
    unit = "tokens" if batches.tokens_per_example > 1 else "examples"
    frozen = f", {num_frozen:,} of them frozen" if num_frozen else ""
    return [
        f"{num_parameters:,} parameters{frozen}; {size} examples a step, {len(batches):,} an epoch; "
        f"{accelerator.num_processes} process(es) on {accelerator.device}, precision {accelerator.mixed_precision}",
        f"{batches.floor_name}: {batches.loss_floor:.4f}{f' {batches.loss_unit}' if batches.loss_unit else ''}; a model that "
        f"learns from its {unit} must get under it",
    ]


def end_line(name: str, metrics: Mapping[str, float], *, floor: float) -> str:
    """Say whether a model that is trained to the end learned anything.

    Args:
        name: of the loss that the floor bounds.
        metrics: of the last evaluation, or of the training where there was none.
        floor: loss of the best guess that ignores the input.
    """
    which, loss = "evaluation", metrics.get(f"eval_{name}")
    if loss is None:
        which, loss = "training", metrics.get(f"train_{name}", math.nan)
    verdict = "under" if loss < floor else "NOT under"
    return f"{which} {name.replace('_', ' ')} {loss:.4f}: {verdict} the floor of {floor:.4f} ({floor - loss:+.4f})"


def frozen_line(loss: float, *, floor: float, step: int, progress: float) -> str | None:
    """Say that a loss late in the training is still not under the floor, if so it is.

    Args:
        loss: of the training.
        floor: what it must get under.
        step: steps done.
        progress: how far the training is, from 0 to 1.
    """
    if progress < _LATE or step < _FEW_STEPS or loss < floor:
        return None
    return (
        f"step {step}, late in the training, and the loss {loss:.4f} is still not under {floor:.4f}, that of the best guess "
        "without the input: the model has learned nothing from it. Try another training.learning_rate, a larger "
        "model.initializer_range, more steps"
    )
