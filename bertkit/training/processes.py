"""The processes a run consists of, as Accelerate or torchrun launched them."""

import os
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def join_processes() -> PartialState:
    """Join the other processes of the run.

    Left alone, Accelerate takes processes on a machine without an accelerator for as many runs of one process each.

    Returns:
        Accelerate's state: which process this is, of how many.

    Raises:
        ValueError: more processes were launched than Accelerate joins.
    """
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # One process tokenizes a corpus while the others wait: hours, for a large one.
    processes = PartialState(cpu=on_cpu, timeout=timedelta(hours=12))
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if processes.num_processes != launched:
        raise ValueError(
            f"{launched} processes were launched and {processes.num_processes} found one another; launch with `accelerate "
            "launch --multi_gpu --num_processes N` or torchrun, on CPUs with ACCELERATE_USE_CPU=true"
        )
    return processes
