"""The processes a run consists of, as Accelerate or torchrun launched them."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list, parse_flag_from_env

from bertkit.training.zero import refuse_what_zero_cannot

T = TypeVar("T")


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
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        if processes.distributed_type != DistributedType.DEEPSPEED:
            kind = processes.distributed_type.value
            raise ValueError(
                f"DeepSpeed was asked for, but Accelerate runs {launched} process(es) as {kind}: on GPUs only"
            )
        refuse_what_zero_cannot()
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        kind = processes.distributed_type.value
        if on_cpu or launched < 2:
            raise ValueError(
                f"FSDP was asked for, but Accelerate runs {launched} process(es) as {kind}: it shards on GPUs only, over two "
                "or more"
            )
        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise ValueError("bertkit shards by FSDP2; set fsdp_version: 2 in accelerate_config.yaml")
    asked = _asked_of_launcher()
    if asked > launched:
        raise ValueError(
            f"accelerate launch was asked for {asked} processes and started {launched}; on GPUs give distributed_type "
            "MULTI_GPU or FSDP, on CPUs take ACCELERATE_USE_CPU=true torchrun --nproc_per_node N"
        )
    return processes


def _asked_of_launcher() -> int:
    """Return how many processes `accelerate launch` was asked for, if it started this one: on CPUs it starts one."""
    try:
        parent = psutil.Process().parent()
        arguments = parent.cmdline() if parent else []
    except psutil.Error:
        return 0
    if "launch" not in arguments or "accelerate" not in " ".join(arguments[: arguments.index("launch")]):
        return 0
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    asked = launch_command_parser().parse_args(arguments[arguments.index("launch") + 1 :])
    processes, machines = asked.num_processes, asked.num_machines
    if processes is None and (asked.config_file or Path(default_config_file).is_file()):
        config = load_config_from_file(asked.config_file)
        processes, machines = config.num_processes, machines or config.num_machines
    return processes or 0 if (machines or 1) == 1 else 0


def as_main_sees(value: T) -> T:
    """Return what the main process gives; to be called by every process of the run.

    Args:
        value: of the main process; what the others give is not looked at.
    """
    seen: list[T] = broadcast_object_list([value])
    return seen[0]
