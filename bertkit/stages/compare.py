"""`bertkit compare`: two models' predictions for the same examples -> their difference, and whether it may be luck."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, RecipeParser, choose

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from bertkit.tasks.significance import Statistics


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser(
        "compare", description="Compare two fine-tuned models on the same examples, by the paired bootstrap."
    )
    for name, which in (("first", "One"), ("second", "The other")):
        parser.add_argument(
            name,
            type=str,
            help=f"{which} run's folder, whose seeds or folds count together, or a predictions file of it (.jsonl).",
        )
    parser.add_argument("--part", type=str, default="test", help="Which part of the data, of run folders.")
    parser.add_argument(
        "--task", type=str | None, default=None, help="The task, where files are compared; default: by the folder."
    )
    parser.add_argument("--resamples", type=int, default=10_000, help="How often the examples are drawn anew.")
    parser.add_argument("--seed", type=int, default=0, help="Key of the drawing.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Compare as the command line says.

    Raises:
        ValueError: whatever is wrong with the runs, as one line.
    """
    compare(build_parser().read(arguments)[0])


def compare(options: "Namespace") -> None:
    """Print the difference of two models.

    Args:
        options: as `build_parser` reads them.
    """
    from bertkit.tasks import TASKS
    from bertkit.tasks.significance import paired_bootstrap

    if options.resamples < 100:
        raise ConfigError(f"--resamples is {options.resamples}; fewer than 100 say nothing")
    names = (options.first, options.second)
    task = choose("task", options.task or _task_of(names), TASKS)
    runs = [_predictions(name, options.part) for name in names]
    _refuse_other_examples(names, runs)
    first, second = (_statistics(task, run) for run in runs)
    found = paired_bootstrap(first, second, resamples=options.resamples, seed=options.seed)
    print(f"{'':<14}{first.name:>12}   over {len(first.values):,} {task.unit}")
    for name, value, run in zip(("first", "second"), found[:2], runs, strict=True):
        print(f"{name:<14}{value:>12.4f}{f'   mean of {len(run)} runs' if len(run) > 1 else ''}")
    print(f"{'difference':<14}{found.second - found.first:>+12.4f}   95 % from {found.low:+.4f} to {found.high:+.4f}")
    verdict = "more than luck" if found.p_value < 0.05 else "luck would do it as well"
    print(f"{'p':<14}{found.p_value:>12.4f}   {verdict} (paired bootstrap, {options.resamples:,} resamples)")


def _task_of(names: Sequence[str]) -> str:
    """Return the task of the run folders."""
    tasks = set()
    for name in names:
        path = Path(name) / "results.json"
        if not path.is_file():
            raise ConfigError(
                f"{name} is no run's folder with a results.json; name one, or say by --task what is compared"
            )
        tasks.add(json.loads(path.read_text(encoding="utf-8"))["task"])
    if len(tasks) > 1:
        raise ConfigError(f"the runs have learned different tasks: {', '.join(sorted(tasks))}")
    return str(tasks.pop())


def _predictions(name: str, part: str) -> list[list[dict[str, Any]]]:
    """Read the predictions of a file, of each of a run folder's seeds, or of all its folds together."""
    path = Path(name)
    if path.is_dir():
        files = sorted(path.glob(f"predictions_{part}.jsonl")) or sorted(path.glob(f"seed-*/predictions_{part}.jsonl"))
        folds = sorted(path.glob(f"fold-*/predictions_{part}.jsonl"), key=lambda file: (len(file.parent.name), file))
        if folds:  # each is about examples of its own, which together are all
            return [[record for file in folds for record in _records(file)]]
        if not files:
            raise ConfigError(f"{name} has no predictions_{part}.jsonl; give another --part")
    elif path.is_file():
        files = [path]
    else:
        raise ConfigError(f"{name} does not exist; name a run's folder or a predictions file")
    return [_records(file) for file in files]


def _records(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ConfigError(f"{file} is no predictions file: {error}") from error


def _refuse_other_examples(names: Sequence[str], runs: Sequence[Sequence[Sequence[dict[str, Any]]]]) -> None:
    """Make sure that all predictions are for the same examples with the same labels, in the same order."""
    said = ("prediction", "predictions", "probabilities", "probability", "start", "others")
    asked = [[{key: one[key] for key in one if key not in said} for one in file] for run in runs for file in run]
    both = " and ".join(names)
    for other in asked[1:]:
        if len(other) != len(asked[0]):
            raise ConfigError(f"{both} have {len(asked[0]):,} and {len(other):,} predictions; compare the same part")
        for number, (one, two) in enumerate(zip(asked[0], other, strict=True), 1):
            if one != two:
                raise ConfigError(f"prediction {number} of {both} is about different examples; compare the same part")


def _statistics(task: Any, run: Sequence[Sequence[dict[str, Any]]]) -> "Statistics":
    """Return what each example adds to the metric of each of a run's seeds, and their mean as the metric."""
    from bertkit.tasks.significance import mean_of_runs

    try:
        of_seeds = [task.statistics(predictions) for predictions in run]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the predictions are not of this task, or without labels ({type(error).__name__}: {error})"
        ) from error
    return mean_of_runs(of_seeds)
