"""Checkpoint averaging: the mean of the weights of a run's last checkpoints, as a checkpoint of its own.

The last checkpoints of a run lie around the minimum it moves towards; their mean lies nearer. The Transformer's paper averages
the last 5 of its base model (Vaswani et al. 2017, section 6.1).
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bertkit.config import ConfigError
from bertkit.training.checkpointing import checkpoint_folders, written_aside
from bertkit.training.manifest import find_damage

WEIGHTS = "model.safetensors"
_NOT_COPIED = ("state", WEIGHTS, "adapter")  # what belongs to one moment of the run alone


def last_checkpoints(run: Path, count: int) -> list[Path]:
    """Return the newest checkpoints of a run, oldest first.

    Args:
        run: the run's folder, with `checkpoint-<step>` in it.
        count: how many.

    Raises:
        ConfigError: there is no such folder, or the run has not so many.
    """
    if not run.is_dir():
        raise ConfigError(f"{run}: there is no such folder; give that of a run, with its checkpoint-<step> folders")
    if count < 2:
        raise ConfigError(f"the mean of {count} checkpoints was asked for; give 2 or more")
    folders = checkpoint_folders(run)
    if len(folders) < count:
        raise ConfigError(
            f"{run} holds {len(folders)} checkpoints and not {count}; average fewer, or train with a larger "
            "training.save_total_limit"
        )
    return folders[-count:]


def average_checkpoints(folders: Sequence[Path], output: Path) -> None:
    """Write a checkpoint whose weights are the mean of others'; all other files but the state are those of the last.

    The mean is taken in float64, tensor by tensor, so that memory holds one model whatever their number. Tensors that are no
    floats are the last's.

    Args:
        folders: checkpoints of one run.
        output: the folder to write, which must not exist; it appears when it is whole.

    Raises:
        ConfigError: output exists, a checkpoint is damaged, or the checkpoints' weights are not of one model.
    """
    if output.exists():
        raise ConfigError(f"{output} exists; give another --output")
    for folder in folders:
        if damage := find_damage(folder):
            raise ConfigError(f"{folder} is damaged: {damage}; average others, or move it out of the run's folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(output) as aside:
        for path in folders[-1].iterdir():
            if path.name not in _NOT_COPIED:
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, aside / path.name)
        save_file(_mean_weights(folders), aside / WEIGHTS, metadata={"format": "pt"})
        _say_so(aside / "README.md", folders)


def _mean_weights(folders: Sequence[Path]) -> dict[str, torch.Tensor]:
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(safe_open(folder / WEIGHTS, "pt")) for folder in folders]
        shapes = [{name: file.get_slice(name).get_shape() for name in file.keys()} for file in files]  # noqa: SIM118
        for folder, other in zip(folders, shapes, strict=True):
            if other != shapes[-1]:
                different = sorted(name for name in {*other, *shapes[-1]} if other.get(name) != shapes[-1].get(name))
                raise ConfigError(f"{folder} and {folders[-1]} are not of one model: {different[0]} differs")
        mean = {}
        for name in shapes[-1]:
            last = files[-1].get_tensor(name)
            if last.is_floating_point():
                total = sum(file.get_tensor(name).double() for file in files[:-1]) + last.double()
                last = (total / len(files)).to(last.dtype)
            mean[name] = last
    return mean


def _say_so(card: Path, folders: Sequence[Path]) -> None:
    """Tell in the model card whose weights these are, and that its results are not theirs; the Hub gets none."""
    from huggingface_hub import metadata_save
    from huggingface_hub.repocard import metadata_load

    if not card.is_file():
        return
    text = card.read_text(encoding="utf-8")
    names = ", ".join(folder.name for folder in folders)
    note = f"The weights are the mean of {names}. The results are those of {folders[-1].name} alone.\n\n"
    card.write_text(text.replace("## Data\n", f"{note}## Data\n", 1), encoding="utf-8")
    metadata = metadata_load(card)
    if metadata is not None:
        metadata_save(card, {name: value for name, value in metadata.items() if name not in ("model-index", "metrics")})
