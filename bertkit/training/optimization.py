"""AdamW with the usual decay groups, and the learning rate as a function of where the training stands."""

import math

import torch
from torch import nn

from bertkit.training.arguments import TrainingArguments


def build_optimizer(model: nn.Module, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """Build AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), fused where the device has it.

    Args:
        model: its matrices decay; its vectors (biases, norms) do not.
        arguments: rates and betas.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": arguments.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.AdamW(
        groups,
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
        fused=fused,
    )


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
