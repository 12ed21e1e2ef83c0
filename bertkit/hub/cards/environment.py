"""On what a checkpoint was made, for its model card: devices, processes and versions, as this process finds them."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState


def hardware() -> str:
    """Return the devices that the processes of this run work on.

    Returns:
        As "2 × NVIDIA A100-SXM4-80GB", or "1 process(es) of 2 thread(s) each on the CPU, AMD EPYC 7763".
    """
    processes = PartialState()
    if processes.device.type == "cuda":
        return f"{processes.num_processes} × {torch.cuda.get_device_name(processes.device)}"
    if processes.device.type != "cpu":
        return f"{processes.num_processes} × {processes.device.type}"
    return (
        f"{processes.num_processes} process(es) of {torch.get_num_threads()} thread(s) each on the CPU, {_cpu_name()}"
    )


def software() -> str:
    """Return the versions of what computed."""
    packages = ("bertkit", "torch", "transformers", "accelerate")
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def _cpu_name() -> str:
    """Return what the processor calls itself, or else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
