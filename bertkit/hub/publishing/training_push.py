"""A training's checkpoints on their way to the Hub: each into a branch of its own, the chosen one at the end into main.

A branch and not a tag, for main must not pass through what is unfinished, and a push that failed can be repeated.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from bertkit.hub.publishing.push import check_access, push

if TYPE_CHECKING:
    from bertkit.training.arguments import TrainingArguments
    from bertkit.training.checkpointing import TrainerState


_UNITS = (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3))


def revision_name(tokens: int) -> str:
    """Name a revision by the tokens seen, in four digits, which tell a thousand checkpoints of a run apart.

    >>> [revision_name(tokens) for tokens in (0, 1536, 12_345_678, 12_000_000, 999_960_000, 3_300_000_000_000)]
    ['tokens-0', 'tokens-1536', 'tokens-12.35M', 'tokens-12M', 'tokens-1B', 'tokens-3.3T']
    """
    if tokens < 10_000:
        return f"tokens-{tokens}"
    rounded = int(float(f"{tokens:.3e}"))
    unit, size = next((unit, size) for unit, size in _UNITS if rounded >= size)
    return f"tokens-{rounded / size:g}{unit}"


@dataclass(frozen=True)
class TrainingPush:
    """Pushes the checkpoints of a run; what goes wrong is a warning, for the training is worth more than a push.

    Args:
        name: of the repository, with its owner.
        chosen: the checkpoint that main gets at the end, "best" or "last".
        quiet: no lines but warnings.
    """

    name: str
    chosen: str
    quiet: bool

    @classmethod
    def of(cls, arguments: "TrainingArguments", *, is_main_process: bool, quiet: bool) -> "TrainingPush | None":
        """Make sure that the checkpoints can be pushed, before the training.

        Args:
            arguments: of the training, which say where to.
            is_main_process: the others push nothing.
            quiet: no lines but warnings.

        Returns:
            None where nothing is to be pushed.

        Raises:
            ConfigError: no token, no rights, no connection or no such name, as one line.
        """
        if arguments.push_to_hub is None or not is_main_process:
            return None
        name = check_access(arguments.push_to_hub, private=arguments.hub_private, say=_silent if quiet else print)
        return cls(name, arguments.hub_checkpoint, quiet)

    def checkpoint(self, folder: Path, state: "TrainerState") -> None:
        """Push a checkpoint that was just saved into the branch of its tokens."""
        self._push(folder, revision_name(state.tokens_seen))

    def end(self, output_dir: Path) -> None:
        """Push the chosen checkpoint of a finished run into main."""
        chosen = output_dir / self.chosen
        self._push(chosen if chosen.exists() else output_dir / "last", None)

    def _push(self, folder: Path, revision: str | None) -> None:
        try:
            push(folder, self.name, revision=revision, say=_silent if self.quiet else tqdm.write)
        except Exception as error:  # whatever it is, it is said, and the training goes on
            options = [] if revision is None else ["--revision", revision]
            command = shlex.join(["bertkit", "push", str(folder), self.name, *options])
            tqdm.write(f"warning: {' '.join(str(error).split())}; to repeat it: {command}", file=sys.stderr)


def _silent(line: str) -> None:
    """Say nothing."""
