"""The optimizers with the usual decay groups, and the learning rate as a function of where the training stands."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from bertkit.training.arguments import TrainingArguments
from bertkit.training.muon import STACKED, Muon

Groups: TypeAlias = list[dict[str, Any]]

_STACKED_IN_LINEAR = {"qkv": 3, "key_value": 2}  # layers that make several things at once
_WEIGHT_OF_GATES = re.compile(r"weight_(ih|hh)(_l\d+|$)")  # of recurrent layers
RATE_SHARE = "rate_share"
"""Key of a parameter group: what share of the learning rate its parameters train at."""


def build_optimizer(
    model: nn.Module, arguments: TrainingArguments, layer_groups: Mapping[str, Sequence[str]]
) -> torch.optim.Optimizer:
    """Build the optimizer that `training.optimizer` names, fused where the device has it so.

    Args:
        model: its matrices decay; its vectors (biases, norms) do not; what needs no gradient is left out.
        arguments: the optimizer, rates and betas.
        layer_groups: names of the model's parameters by group, from the bottom to the top.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    by_share: dict[float, list[nn.Parameter]] = {}
    for depth, names in enumerate(reversed([*layer_groups.values()])):
        together = by_share.setdefault(arguments.layer_decay**depth, [])
        together += [parameters[name] for name in names if name in parameters]
    stacked = _hidden_matrices(model) if arguments.optimizer == "muon" else {}
    groups: list[dict[str, Any]] = []
    for share, together in by_share.items():
        of_kind: dict[tuple[int, float], list[nn.Parameter]] = {}
        for parameter in together:
            kind = stacked.get(parameter, 0), arguments.weight_decay if parameter.ndim >= 2 else 0.0
            of_kind.setdefault(kind, []).append(parameter)
        for (matrices, decay), chosen in of_kind.items():
            rate = share * (arguments.muon_rate_factor if matrices else 1.0)
            groups.append({"params": chosen, "weight_decay": decay, RATE_SHARE: rate, STACKED: matrices})
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters.values())
    return OPTIMIZERS[arguments.optimizer](groups, arguments, fused)


def _hidden_matrices(model: nn.Module) -> dict[torch.Tensor, int]:
    """Return the matrices between a model's embeddings and its head, and how many one on another each of them is."""
    backbone = getattr(model, "base_model", model)
    found: dict[torch.Tensor, int] = {}
    for path, module in backbone.named_modules():
        if isinstance(module, nn.Linear):
            found[module.weight] = _STACKED_IN_LINEAR.get(path.rpartition(".")[2], 1)
        else:
            for name, parameter in module.named_parameters(recurse=False):
                if _WEIGHT_OF_GATES.match(name):
                    found[parameter] = parameter.shape[:-1].numel() // int(module.hidden_size)
                elif name == "weight_hr":  # a projection for each direction
                    found[parameter] = len(parameter)
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    return {parameter: count for parameter, count in found.items() if parameter not in tables}


def _adamw(groups: Groups, arguments: TrainingArguments, fused: bool) -> torch.optim.Optimizer:
    betas = (arguments.adam_beta1, arguments.adam_beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=arguments.adam_epsilon, fused=fused)


def _muon(groups: Groups, arguments: TrainingArguments, fused: bool) -> torch.optim.Optimizer:
    betas = (arguments.adam_beta1, arguments.adam_beta2)
    momentum, eps = arguments.momentum, arguments.adam_epsilon
    return Muon(groups, lr=0.0, momentum=momentum, betas=betas, eps=eps, fused=fused)


def _adafactor(groups: Groups, arguments: TrainingArguments, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(groups, lr=0.0)


def _sgd(groups: Groups, arguments: TrainingArguments, fused: bool) -> torch.optim.Optimizer:
    # torch has no fused one for shards.
    return torch.optim.SGD(groups, lr=0.0, momentum=arguments.momentum, nesterov=arguments.momentum > 0)


OPTIMIZERS: dict[str, Callable[[Groups, TrainingArguments, bool], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "muon": _muon,
    "adafactor": _adafactor,
    "sgd": _sgd,
}
"""What builds each of `training.optimizer`, of groups of parameters, at a learning rate of 0 until the schedule sets it: AdamW
(Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), Muon, Adafactor (Shazeer & Stern 2018,
https://arxiv.org/abs/1804.04235), and stochastic gradient descent with Nesterov's momentum."""


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Let every group of an optimizer's parameters train at its share of a learning rate.

    Args:
        optimizer: as `build_optimizer` makes it, prepared or not.
        rate: of the top group.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_SHARE]


def learning_rate_factor(arguments: TrainingArguments, *, step: int, max_steps: int | None, progress: float) -> float:
    """Return the share of the peak learning rate at a step.

    Args:
        arguments: the schedule.
        step: the step, counted from 0.
        max_steps: steps of the whole training, unless a time budget decides.
        progress: share of the training that is done, from 0 to 1, in steps or in time.

    Returns:
        A number from 0 to 1; the first step's is not 0, and neither is the last's but for a time budget that ran out.
    """
    if arguments.lr_scheduler_type == "slanted_triangular":
        return _slanted_triangle(arguments, step=step, max_steps=max_steps, progress=progress)
    warmup = arguments.warmup_steps
    if warmup >= 1:
        rise = (step + 1) / warmup
        warmup_share = warmup / max_steps if max_steps else 0.0
    else:
        done = (step + 1) / max_steps if max_steps else progress + 1e-3
        rise = done / warmup if warmup else 1.0
        warmup_share = warmup
    if rise < 1:
        return rise
    falling = (1 - progress) / (1 - warmup_share) if warmup_share < 1 else 1.0
    falling = min(max(falling, 0.0), 1.0)  # 1 after the warm-up, 0 at the end
    if arguments.lr_scheduler_type == "constant":
        return 1.0
    if arguments.lr_scheduler_type == "inverse_sqrt":  # sqrt(warm-up / step), Vaswani et al. 2017, equation 3
        return rise**-0.5
    if arguments.lr_scheduler_type == "linear":
        return falling
    if arguments.lr_scheduler_type == "cosine":
        return 0.5 * (1 - math.cos(math.pi * falling))
    return min((1 - progress) / arguments.decay_fraction, 1.0)  # warmup_stable_decay


def _slanted_triangle(arguments: TrainingArguments, *, step: int, max_steps: int | None, progress: float) -> float:
    """Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146), equation 3; `warmup_steps` is its cut, `lr_ratio` its ratio."""
    warmup = arguments.warmup_steps
    cut: float
    at: float
    if max_steps:
        cut_share = warmup / max_steps if warmup >= 1 else warmup
        cut = math.floor(max_steps * cut_share)
        at = step
    else:  # the clock counts, in shares of the budget
        cut_share, cut, at = warmup, warmup, progress
    if at < cut:
        height = at / cut
    elif cut:
        height = 1 - (at - cut) / (cut * (1 / cut_share - 1)) if cut_share < 1 else 1.0
    else:
        height = 1 - progress
    # Where the cut was rounded down, the paper's line ends a little before the training does.
    return (1 + max(height, 0.0) * (arguments.lr_ratio - 1)) / arguments.lr_ratio
