"""Checkpoint folders: written aside, flushed, then renamed, so that what bears a checkpoint's name is whole.

Weights and optimizer state are safetensors and everything else is JSON: reading a checkpoint cannot run code.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from bertkit.training.lora import Lora
from bertkit.training.manifest import find_damage, write_manifest
from bertkit.training.zero import ZeroOptimizer

Optimizer = torch.optim.Optimizer | ZeroOptimizer
_NAME = re.compile(r"checkpoint-(\d+)")
CARRIED_STATE_FILE = "carried_state.safetensors"
_SLOT_SEPARATOR = "|"  # between an optimizer slot and a parameter name, in the file of the optimizer's state


@dataclass
class TrainerState:
    """Where a training stands; with the weights and the optimizer's state, all that a run needs to go on."""

    global_step: int = 0
    """Steps done."""
    finished: bool = False
    """Whether that is all there were to do."""
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
    best_by: str | None = None
    """The metric it was chosen by."""
    evaluated_step: int | None = None
    """Step of the last evaluation."""
    window_sums: list[float] = field(default_factory=list)
    """Losses since the last entry of the log, added up over its steps."""
    window_steps: int = 0
    """Steps in it."""
    window_digest: int = 0
    """Digest of its batches."""
    recent_losses: list[float] = field(default_factory=list)
    """What the next loss is compared with to tell a spike."""
    passed_over: list[int] = field(default_factory=list)
    """Steps that went wrong and made no update, counted from 1."""
    loss_scale: dict[str, Any] = field(default_factory=dict)
    """State of the fp16 loss scaler, where there is one."""
    found_learning_rate: float | None = None
    """The peak learning rate, where the run was told to find it."""
    optimizer: str = "adamw"
    """`training.optimizer`, whose state lies beside this; before there was a choice it was this one."""
    threads: int | None = None
    """Threads of each process when it was saved: on CPUs, sums and dropout depend on them."""


class OutputError(ValueError):
    """The run's folder cannot be written to."""


@contextlib.contextmanager
def writing_to(output_dir: Path) -> Iterator[None]:
    """Turn what goes wrong while files of a run are written into one line that says what is left.

    Raises:
        OutputError: disk full, folder read-only or gone.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        whole = newest_whole_checkpoint(output_dir)
        left = (
            f"the last whole checkpoint is {whole}; when the folder can be written to again, go on with "
            "--training.resume_from_checkpoint auto"
            if whole
            else "it holds no checkpoint; give an --output_dir that can be written to"
        )
        raise OutputError(f"cannot write to {output_dir}: {reason}; {left}") from error


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = [folder for folder in output_dir.glob("checkpoint-*") if _NAME.fullmatch(folder.name)]
    return sorted(found, key=_step_of)


def newest_whole_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint of a run that is not damaged, if there is one; this reads all of it."""
    return next((folder for folder in reversed(checkpoint_folders(output_dir)) if find_damage(folder) is None), None)


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
    optimizer: Optimizer,
    state: TrainerState,
    carried_state: Mapping[str, torch.Tensor] | None = None,
    lora: Lora | None = None,
    write_extras: Callable[[Path], None],
) -> Path:
    """Write the checkpoint of `state.global_step`; to be called by every process.

    Args:
        output_dir: the run's folder; `last` in it will point to the checkpoint.
        accelerator: gathers what is sharded; its main process writes.
        model: the prepared model.
        optimizer: the prepared optimizer.
        state: where the training stands.
        carried_state: what the rows of the next step go on from, if they do; on every process the same.
        lora: the adapters inside the model, if there are any; the checkpoint's weights are merged.
        write_extras: writes what else belongs into the folder (tokenizer, recipe, model card).

    Returns:
        The checkpoint's folder.
    """
    folder = output_dir / f"checkpoint-{state.global_step}"
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)  # all on the main process, nothing on the others
    weights: Any = get_model_state_dict(_inside(model, optimizer), options=options)
    optimizer_state: Any = {}
    if isinstance(optimizer, ZeroOptimizer):
        optimizer_state = optimizer.full_state()
    elif _plain(optimizer).state:  # before the first step there is none, and asking for it would make one as of a step
        optimizer_state = get_optimizer_state_dict(model, _plain(optimizer), options=options).get("state", {})
    if accelerator.is_main_process:
        tensors = {
            f"{slot}{_SLOT_SEPARATOR}{parameter}": tensor.contiguous()
            for parameter, slots in optimizer_state.items()
            for slot, tensor in slots.items()
        }
        with writing_to(output_dir):
            with written_aside(folder) as aside:
                (aside / "state").mkdir()
                plain: Any = accelerator.unwrap_model(model, keep_torch_compile=False)
                for tied in plain.all_tied_weights_keys:  # gathered from shards, tied weights come twice
                    weights.pop(tied, None)
                if lora is not None:
                    lora.save(aside, weights)
                    weights = lora.merged(weights)
                plain.save_pretrained(aside, state_dict=weights)
                write_extras(aside)
                save_file(tensors, aside / "state" / "optimizer.safetensors")
                if carried_state:
                    save_file(dict(carried_state), aside / "state" / CARRIED_STATE_FILE)
                state_json = json.dumps(asdict(state), indent=2) + "\n"
                (aside / "state" / "trainer_state.json").write_text(state_json, encoding="utf-8")
            _point(output_dir / "last", folder)
            if state.best_step is not None:
                _point(output_dir / "best", output_dir / f"checkpoint-{state.best_step}")
    accelerator.wait_for_everyone()
    return folder


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write to; at the end it gets its manifest, is flushed to the disk and gets its name.

    Args:
        folder: the checkpoint; its parent must exist. If the writing fails, it is as it was, and nothing is left aside.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        yield aside
        for path in filter(Path.is_file, aside.rglob("*")):  # safetensors keeps its files from all but their owner
            path.chmod(aside.stat().st_mode & 0o666)
        write_manifest(aside)
        _put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(aside: Path, folder: Path) -> None:
    """Flush what was written aside and give it its name."""
    for path in [*aside.rglob("*"), aside]:
        _sync(path)
    replaced = folder.with_name(f".replaced-{folder.name}.{os.getpid()}")
    if folder.exists():  # a finished run that was asked to go on
        folder.rename(replaced)
    aside.replace(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    _sync(folder.parent)


def load_weights(folder: Path, *, model: nn.Module, optimizer: Optimizer, lora: Lora | None = None) -> None:
    """Give the prepared model the weights of a checkpoint of its own run; to be called by every process."""
    options = StateDictOptions(
        full_state_dict=True,
        cpu_offload=True,
        broadcast_from_rank0=torch.distributed.is_initialized(),
        strict=False,  # of tied weights a file holds one
    )
    weights: dict[str, Any] = dict(load_file(folder / "model.safetensors"))
    if lora is not None:
        weights = dict(lora.unmerged(folder, weights))
    set_model_state_dict(_inside(model, optimizer), weights, options=options)
    if isinstance(optimizer, ZeroOptimizer):
        optimizer.weights_were_set()


def load_optimizer_state(folder: Path, *, model: nn.Module, optimizer: Optimizer) -> None:
    """Give the prepared optimizer the state that a checkpoint holds; to be called by every process.

    Parameters that the checkpoint has no state of, because they were frozen until then, have none afterwards.
    """
    tensors = load_file(folder / "state" / "optimizer.safetensors")
    slots: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        slot, parameter = name.split(_SLOT_SEPARATOR, 1)
        slots.setdefault(parameter, {})[slot] = tensor
    if isinstance(optimizer, ZeroOptimizer):
        optimizer.load_full_state(slots)
        return
    forget_optimizer_state(optimizer)  # it may be of other parameters than the checkpoint's
    if not slots:  # of a run that had not made a step
        return
    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, broadcast_from_rank0=torch.distributed.is_initialized()
    )
    state_dict: Any = get_optimizer_state_dict(model, _plain(optimizer), options=options)
    if state_dict:  # on the process that broadcasts
        state_dict["state"] |= slots
    set_optimizer_state_dict(model, _plain(optimizer), optim_state_dict=state_dict, options=options)
    for name, parameter in extract_model_from_parallel(model, keep_torch_compile=False).named_parameters():
        if name not in slots:
            _plain(optimizer).state.pop(parameter, None)


def forget_optimizer_state(optimizer: Optimizer) -> None:
    """Let the prepared optimizer be as before its first step, with the weights as they are now."""
    if isinstance(optimizer, ZeroOptimizer):
        optimizer.load_full_state({})
        optimizer.weights_were_set()
    else:
        _plain(optimizer).state.clear()


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
    content = json.loads(path.read_text(encoding="utf-8"))
    known = {field.name for field in fields(TrainerState)}
    if unknown := sorted(set(content) - known):
        raise ValueError(f"{path} has {', '.join(unknown)}, of another version of bertkit; go on with that version")
    return TrainerState(**content)


def find_checkpoint(
    output_dir: Path, resume_from_checkpoint: str | None, *, warn: Callable[[str], None] = print
) -> Path | None:
    """Return the checkpoint folder that `resume_from_checkpoint` means, if it means one.

    Args:
        output_dir: the run's folder.
        resume_from_checkpoint: a folder, "auto" for the run's newest whole one if there is any, or None for a fresh start.
        warn: told of damaged checkpoints that "auto" passes over.

    Raises:
        ValueError: the folder does not exist or is damaged, or what the run would write meets checkpoints that it did not
            come from.
    """
    _restore_replaced(output_dir)
    present = checkpoint_folders(output_dir)
    if resume_from_checkpoint == "auto":
        for folder in reversed(present):
            damage = find_damage(folder)
            if damage is None:
                return folder
            warn(f"{folder} is damaged and passed over: {damage}")
        if present:
            raise ValueError(
                f"every checkpoint in {output_dir} is damaged; give another --output_dir, or "
                "training.resume_from_checkpoint a checkpoint elsewhere"
            )
        return None
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
    if (folder / "state").is_dir() and (damage := find_damage(folder)):
        raise ValueError(
            f"{folder} is damaged: {damage}; give another checkpoint, or training.resume_from_checkpoint auto for the newest "
            "whole one"
        )
    return folder


def _restore_replaced(output_dir: Path) -> None:
    """Give back its name to a checkpoint that was moved aside by a run that was killed before it put the new one there."""
    for moved in output_dir.glob(".replaced-checkpoint-*"):
        original = output_dir / moved.name.removeprefix(".replaced-").split(".")[0]
        if not original.exists():
            with contextlib.suppress(FileNotFoundError):  # another process of the run was faster
                moved.rename(original)


def tidy(output_dir: Path, *, step: int) -> None:
    """Undo what a run that was killed while saving left behind, and set aside damaged checkpoints it will write anew.

    Args:
        output_dir: the run's folder.
        step: where the run goes on: any checkpoint behind it is one that was passed over as damaged.
    """
    for moved in output_dir.glob(".replaced-checkpoint-*"):
        shutil.rmtree(moved)
    for half_written in output_dir.glob(".checkpoint-*"):
        shutil.rmtree(half_written)
    for folder in checkpoint_folders(output_dir):
        if _step_of(folder) > step:
            suffixes = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
            names = (f"damaged-{folder.name}{suffix}" for suffix in suffixes)
            folder.rename(next(free for name in names if not (free := folder.with_name(name)).exists()))


def remove_old_checkpoints(output_dir: Path, *, limit: int | None, best_step: int | None) -> None:
    """Delete the oldest checkpoints beyond `limit`, never the last one nor the best."""
    if limit is None:
        return
    folders = checkpoint_folders(output_dir)
    removable = [folder for folder in folders[:-1] if _step_of(folder) != best_step]
    for folder in removable[: max(len(folders) - limit, 0)]:
        shutil.rmtree(folder)


def _inside(model: nn.Module, optimizer: Optimizer) -> nn.Module:
    """Return the model inside DeepSpeed's wrapper, or the model as it was prepared."""
    return optimizer.model if isinstance(optimizer, ZeroOptimizer) else model


def _plain(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer inside Accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
