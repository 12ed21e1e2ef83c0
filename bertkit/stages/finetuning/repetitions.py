"""The runs of a fine-tuning: one, one for each of several seeds, or one for each fold of a cross-validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bertkit.config import ConfigError

if TYPE_CHECKING:
    from jsonargparse import Namespace


class Fold(NamedTuple):
    """A part of a cross-validation."""

    number: int
    total: int
    whole_groups: bool
    """Whether examples of one text stay together."""

    def parts(self, parts: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """Return the parts of the data with this fold as the evaluation part.

        Args:
            parts: the examples by part; train and eval are divided anew, together.
        """
        from bertkit.tasks.sources import fold_of

        examples = [*parts["train"], *parts["eval"]]
        stays, held_out = fold_of(examples, self.number, self.total, whole_groups=self.whole_groups)
        return {**parts, "train": stays, "eval": held_out}


class Repetition(NamedTuple):
    """One run."""

    name: str
    """What tells it from the others, for messages; empty where there are none."""
    folder: Path
    seed: int
    fold: Fold | None = None


def repetitions(recipe: "Namespace") -> list[Repetition]:
    """Return the runs that a recipe asks for.

    Args:
        recipe: as `bertkit.stages.finetune` reads it.

    Raises:
        ConfigError: seeds or folds that cannot be.
    """
    output_dir, seed = Path(recipe.output_dir), recipe.training.seed
    if recipe.seeds is None and recipe.folds is None:
        return [Repetition("", output_dir, seed)]
    if recipe.training.resume_from_checkpoint not in (None, "auto"):
        raise ConfigError(
            "with --seeds or --folds, training.resume_from_checkpoint takes `auto` only: each run has its own"
        )
    if recipe.seeds is not None and recipe.folds is not None:
        raise ConfigError("give --seeds or --folds, not both")
    if recipe.seeds is not None:
        if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
            raise ConfigError(f"--seeds is {recipe.seeds}; give one or more, each once, as [0,1,2]")
        return [Repetition(f"seed {seed}", output_dir / f"seed-{seed}", seed) for seed in recipe.seeds]
    if recipe.folds < 2:
        raise ConfigError(f"--folds is {recipe.folds}; give 2 or more")
    if recipe.data.eval is not None:
        raise ConfigError("with --folds every training example is evaluated on in turn; leave data.eval out")
    folds = [Fold(number, recipe.folds, recipe.data.whole_groups) for number in range(recipe.folds)]
    return [
        Repetition(f"fold {fold.number + 1} of {fold.total}", output_dir / f"fold-{fold.number}", seed, fold)
        for fold in folds
    ]
