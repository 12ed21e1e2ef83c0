"""Checkpoint folders: written aside, flushed, then renamed, so that what bears a checkpoint's name is whole.

Weights and optimizer state are safetensors and everything else is JSON: reading a checkpoint cannot run code.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

_NAME = re.compile(r"checkpoint-(\d+)")
_SLOT_SEPARATOR = "|"  # between an optimizer slot and a parameter name, in the file of the optimizer's state


@dataclass
class TrainerState:
    """Where a training stands; with the weights and the optimizer's state, all that a run needs to go on."""

    global_step: int = 0
    """Steps done."""
    tokens_seen: int = 0
    """Real tokens trained on, padding not counted, over all processes."""
    elapsed_seconds: float = 0.0
    """Wall-clock time spent training, over all interruptions."""
    loss_floor: float = 0.0
    """Unigram entropy of the training labels in nats: a model that learns gets under it."""
    best_metric: float | None = None
    """Best value so far of the metric that names the best checkpoint."""
    best_step: int | None = None
    """Step of the checkpoint that has it."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last logged training losses, and the last evaluation."""


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = [folder for folder in output_dir.glob("checkpoint-*") if _NAME.fullmatch(folder.name)]
    return sorted(found, key=_step_of)


def _step_of(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    assert match
    return int(match.group(1))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to its sibling `target`, in one step."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.replace(link)


def save_checkpoint(
    output_dir: Path,
    *,
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainerState,
    write_extras: Callable[[Path], None],
) -> Path:
    """Write the checkpoint of `state.global_step`; to be called by every process.

    Args:
        output_dir: the run's folder; `last` in it will point to the checkpoint.
        accelerator: gathers what is sharded; its main process writes.
        model: the prepared model.
        optimizer: the prepared optimizer.
        state: where the training stands.
        write_extras: writes what else belongs into the folder (tokenizer, recipe, model card).

    Returns:
        The checkpoint's folder.
    """
    folder = output_dir / f"checkpoint-{state.global_step}"
    # A compiled model's parameters bear the wrapper's name, which no other model would find.
    weights = {name.replace("_orig_mod.", ""): tensor for name, tensor in accelerator.get_state_dict(model).items()}
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state_dict: Any = get_optimizer_state_dict(model, _plain(optimizer), options=options)
    slots = state_dict.get("state", {})  # all of it on the main process, nothing on the others
    if accelerator.is_main_process:
        aside = output_dir / f".{folder.name}.{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "state").mkdir(parents=True)
        accelerator.unwrap_model(model, keep_torch_compile=False).save_pretrained(aside, state_dict=weights)
        write_extras(aside)
        tensors = {
            f"{slot}{_SLOT_SEPARATOR}{parameter}": tensor.contiguous()
            for parameter, slots_of_parameter in slots.items()
            for slot, tensor in slots_of_parameter.items()
        }
        save_file(tensors, aside / "state" / "optimizer.safetensors")
        (aside / "state" / "trainer_state.json").write_text(
            json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8"
        )
        for path in [*aside.rglob("*"), aside]:
            _sync(path)
        replaced = output_dir / f".replaced-{folder.name}.{os.getpid()}"
        if folder.exists():  # a finished run that was asked to go on
            folder.rename(replaced)
        aside.replace(folder)
        shutil.rmtree(replaced, ignore_errors=True)
        _sync(output_dir)
        _point(output_dir / "last", folder)
        if state.best_step is not None:
            _point(output_dir / "best", output_dir / f"checkpoint-{state.best_step}")
    accelerator.wait_for_everyone()
    return folder


def load_optimizer_state(folder: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the prepared optimizer the state that a checkpoint holds; to be called by every process."""
    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, broadcast_from_rank0=torch.distributed.is_initialized()
    )
    state_dict: Any = get_optimizer_state_dict(model, _plain(optimizer), options=options)
    if state_dict:  # on the process that broadcasts
        slots: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in load_file(folder / "state" / "optimizer.safetensors").items():
            slot, parameter = name.split(_SLOT_SEPARATOR, 1)
            slots.setdefault(parameter, {})[slot] = tensor
        state_dict["state"] = slots
    set_optimizer_state_dict(model, _plain(optimizer), optim_state_dict=state_dict, options=options)


def load_trainer_state(folder: Path) -> TrainerState:
    """Read where the training stood.

    Raises:
        ValueError: the folder has no state to go on from.
    """
    path = folder / "state" / "trainer_state.json"
    if not path.is_file():
        raise ValueError(
            f"{folder} has no state/trainer_state.json to go on from; give a checkpoint folder as bertkit writes it, or "
            "training.resume_from_checkpoint auto"
        )
    return TrainerState(**json.loads(path.read_text(encoding="utf-8")))


def find_checkpoint(output_dir: Path, resume_from_checkpoint: str | None) -> Path | None:
    """Return the checkpoint folder that `resume_from_checkpoint` means, if it means one.

    Args:
        output_dir: the run's folder.
        resume_from_checkpoint: a folder, "auto" for the run's newest one if there is any, or None for a fresh start.

    Raises:
        ValueError: the folder does not exist, or what the run would write meets checkpoints that it did not come from.
    """
    present = checkpoint_folders(output_dir)
    if resume_from_checkpoint == "auto":
        return present[-1] if present else None
    if resume_from_checkpoint is None:
        if present:
            raise ValueError(
                f"{output_dir} already holds {present[-1].name}; go on with --training.resume_from_checkpoint auto, or give "
                "another --output_dir"
            )
        return None
    folder = Path(resume_from_checkpoint).resolve()  # `last` may be given
    if not folder.is_dir():
        raise ValueError(f"training.resume_from_checkpoint: there is no folder {resume_from_checkpoint}")
    if present and folder != present[-1].resolve():
        raise ValueError(
            f"{output_dir} already holds {present[-1].name}, which the run would overwrite when it goes on from {folder}; "
            "give another --output_dir, or training.resume_from_checkpoint auto"
        )
    return folder


def tidy(output_dir: Path) -> None:
    """Undo what a run that was killed while saving left behind: half-written folders, and a checkpoint moved out of the way.

    Args:
        output_dir: the run's folder.
    """
    for moved in output_dir.glob(".replaced-checkpoint-*"):
        original = output_dir / moved.name.removeprefix(".replaced-").split(".")[0]
        if not original.exists():
            moved.rename(original)
        else:
            shutil.rmtree(moved)
    for half_written in output_dir.glob(".checkpoint-*"):
        shutil.rmtree(half_written)


def remove_old_checkpoints(output_dir: Path, *, limit: int | None, best_step: int | None) -> None:
    """Delete the oldest checkpoints beyond `limit`, never the last one nor the best."""
    if limit is None:
        return
    folders = checkpoint_folders(output_dir)
    removable = [folder for folder in folders[:-1] if _step_of(folder) != best_step]
    for folder in removable[: max(len(folders) - limit, 0)]:
        shutil.rmtree(folder)


def _plain(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer inside Accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
