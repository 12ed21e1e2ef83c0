"""What a run says and writes down: lines and a progress bar for people, `log.jsonl` and the trackers for everything else."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from bertkit.training.checkpointing import TrainerState, writing_to
from bertkit.training.length import Length

FILE_NAME = "log.jsonl"


class RunLog:
    """The log of a run; every process has one, and only the main process's speaks and writes.

    Args:
        accelerator: knows the main process, and the trackers.
        output_dir: the run's folder, which `log.jsonl` lies in.
        quiet: no progress bar, and no lines.
    """

    def __init__(self, accelerator: Accelerator, output_dir: Path, *, quiet: bool) -> None:
        self.accelerator = accelerator
        self.path = output_dir / FILE_NAME
        self.quiet = quiet or not accelerator.is_main_process

    def start(self, recipe: Mapping[str, Any], *, step: int, passed_over: Sequence[int]) -> None:
        """Begin a log, or cut it back to the step that the run goes on from, and tell the trackers the recipe."""
        self.cut_back(step=step, passed_over=passed_over)
        self.accelerator.init_trackers("bertkit", config=_flat(recipe))

    def cut_back(self, *, step: int, passed_over: Sequence[int]) -> None:
        """Drop the entries that the run will make again.

        Args:
            step: those behind it.
            passed_over: steps that the run knows it passes over; it will go back for others again.
        """
        if self.accelerator.is_main_process:
            with writing_to(self.path.parent):
                lines = (
                    self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
                    if self.path.exists()
                    else []
                )
                kept = [line for line in lines if _stays(line, step, passed_over)]
                aside = self.path.with_suffix(".jsonl.new")
                aside.write_text("".join(kept), encoding="utf-8")
                aside.replace(self.path)

    def write(self, values: Mapping[str, float | str], *, step: int) -> None:
        """Write an entry; words go to the file alone."""
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        self.accelerator.log(numbers, step=step)
        if self.accelerator.is_main_process:
            with writing_to(self.path.parent), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")

    def say(self, line: str) -> None:
        """Print a line, above the progress bar."""
        if not self.quiet:
            tqdm.write(line)

    def warn(self, line: str) -> None:
        """Print a line that is meant even for those who asked for quiet."""
        if self.accelerator.is_main_process:
            tqdm.write(f"warning: {line}", file=sys.stderr)

    @contextlib.contextmanager
    def progress_bar(self, length: Length, state: TrainerState) -> Iterator[tqdm]:
        """Show how far the training is, and the time left, while the context lasts."""
        with tqdm(
            total=length.total,
            initial=length.done(state),
            unit=length.unit,
            desc="training",
            disable=self.quiet,
            dynamic_ncols=True,
        ) as bar:
            yield bar

    def finish(self) -> None:
        """Close the trackers; the process group stays, for runs may follow."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


def _stays(line: str, step: int, passed_over: Sequence[int]) -> bool:
    """Return whether an entry stays in the log; a line that a killed run or a power cut has torn does not."""
    try:
        entry = json.loads(line) if line.endswith("\n") else None
    except ValueError:
        return False
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), int) or entry["step"] > step:
        return False
    return "passed_over" not in entry or entry["passed_over"] in passed_over


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Return a nested recipe as the flat mapping that trackers take.

    >>> _flat({"model": {"family": "bert"}, "tokenizer": None})
    {'model.family': 'bert', 'tokenizer': 'None'}
    """
    flat: dict[str, int | float | str | bool] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
