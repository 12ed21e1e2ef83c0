"""Running a model over evaluation batches, in training and after it."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from tqdm import tqdm

from bertkit.training.attention import edge_finder
from bertkit.training.batches import Batches, Evaluation, MicroBatches
from bertkit.training.carried_state import CarriedState


def evaluate_batches(
    model: nn.Module,
    batches: Batches,
    accelerator: Accelerator,
    *,
    batch_size: int,
    max_batches: int | None = None,
    quiet: bool = False,
) -> dict[str, float]:
    """Evaluate a model on one epoch of batches, shared by all processes.

    Args:
        model: the model, prepared or not, on the accelerator's device.
        batches: what to evaluate on.
        accelerator: shares the work.
        batch_size: examples a process evaluates at once; where rows go on from batch to batch, those of all processes
            together, and the number that `batches` was made for.
        max_batches: most batches, over all processes.
        quiet: no progress bar.

    Returns:
        The metrics of the batches; `loss` is the sum of those whose names end in "loss".
    """
    evaluation = add_up_batches(
        model, batches, accelerator, batch_size=batch_size, max_batches=max_batches, quiet=quiet
    )
    metrics = evaluation.compute()
    if "loss" not in metrics:
        metrics = {"loss": sum(value for name, value in metrics.items() if name.endswith("loss")), **metrics}
    return metrics


@torch.no_grad()
def add_up_batches(
    model: nn.Module,
    batches: Batches,
    accelerator: Accelerator,
    *,
    batch_size: int,
    max_batches: int | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Run a model over one epoch of batches, shared by all processes; the arguments are those of `evaluate_batches`.

    Returns:
        The evaluation, its totals summed over the processes.
    """
    model.eval()
    num_batches = -(-len(batches) // batch_size)
    num_batches = min(num_batches, max_batches or num_batches)
    processes, rank = accelerator.num_processes, accelerator.process_index
    evaluation = batches.evaluation()
    ones = {name: torch.tensor(1, device=accelerator.device) for name in batches.label_counts}  # losses come as sums

    carried = CarriedState(accelerator.unwrap_model(model), num_rows=batches.carried_rows, accelerator=accelerator)
    if batches.carried_rows:  # each process has its rows of every batch
        assert batches.carried_rows == batch_size
        rounds, first_surplus = num_batches, num_batches
    else:  # each process has batches of its own
        rounds, first_surplus = -(-num_batches // processes), (num_batches - rank - 1) // processes + 1

    def bounds(number: int) -> tuple[int, int]:
        if batches.carried_rows:
            return number * batch_size + carried.first, number * batch_size + carried.last
        # Every process computes equally often, as sharded models need: the surplus repeats the last batch.
        number = min(number * processes + rank, num_batches - 1)
        return number * batch_size, min((number + 1) * batch_size, len(batches))

    find_edges = edge_finder(accelerator.unwrap_model(model))
    micro_batches = MicroBatches(batches, bounds=bounds, progress=lambda number: 1.0, find_edges=find_edges)
    hidden = quiet or not accelerator.is_main_process
    for number in tqdm(range(rounds), desc="evaluating", unit="batch", leave=False, disable=hidden):
        batch = send_to_device(micro_batches[number], accelerator.device)
        outputs = model(**without_ids(batch), **ones, **carried.arguments(*bounds(number)))
        carried.add(outputs)
        carried.step()
        if number < first_surplus:
            evaluation.add(outputs, batch)
        elif not evaluation.totals:  # all processes must bring totals of the same names, or the sum waits for ever
            evaluation.add(outputs, batch)
            evaluation.totals = {name: torch.zeros_like(total) for name, total in evaluation.totals.items()}
    if processes > 1:
        for name, total in evaluation.totals.items():
            evaluation.totals[name] = accelerator.reduce(total.to(accelerator.device), reduction="sum").cpu()
    return evaluation


def without_ids(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch without `example_ids`, which are for the evaluation and not for the model."""
    return {name: value for name, value in batch.items() if name != "example_ids"}


def lower_is_better(metric: str) -> bool:
    """Return whether a metric is one of those that measure surprise.

    Args:
        metric: its name.

    >>> lower_is_better("mlm_loss"), lower_is_better("perplexity_per_token"), lower_is_better("accuracy")
    (True, True, False)
    """
    return metric.endswith("loss") or "perplexity" in metric or "bits_per_" in metric
