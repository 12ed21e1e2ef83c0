"""`bertkit average`: the mean of the weights of a run's last checkpoints -> a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from bertkit.config import RecipeParser


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("average", description="Average the weights of a run's last checkpoints into a new one.")
    parser.add_argument("run", type=str, help="Folder of a run, with its checkpoint-<step> folders.")
    parser.add_argument(
        "--last",
        type=int,
        default=5,
        help="How many of the newest checkpoints; training.save_total_limit must have kept so many.",
    )
    parser.add_argument("--output", type=str, required=True, help="Folder of the new checkpoint; it must not exist.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Average checkpoints as the command line says.

    Raises:
        ValueError: whatever is wrong with the options or the checkpoints, as one line.
    """
    options, _ = build_parser().read(arguments)
    from bertkit.hub.averaging import average_checkpoints, last_checkpoints

    folders = last_checkpoints(Path(options.run), options.last)
    average_checkpoints(folders, Path(options.output))
    print(f"{options.output} is the mean of {', '.join(folder.name for folder in folders)}")
