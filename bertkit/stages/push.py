"""`bertkit push`: a checkpoint -> a repository on the Hub."""

import sys
from collections.abc import Sequence

from bertkit.config import RecipeParser


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("push", description="Upload a checkpoint to the Hub, in one commit.")
    parser.add_argument("checkpoint", type=str, help="Folder of the checkpoint, as runs/bert-tiny/best.")
    parser.add_argument(
        "name", type=str, help="Of the repository: owner/name, or name alone for one of the token's owner."
    )
    parser.add_argument(
        "--private",
        type=bool | None,
        default=None,
        help="Whether the repository shall be private. Default: a new one is, and one that is there stays as it is.",
    )
    parser.add_argument(
        "--revision",
        type=str | None,
        default=None,
        help="The branch, made where there is none; default: main.",
    )
    parser.add_argument(
        "--commit_message", type=str | None, default=None, help="Default: the name of the checkpoint's folder."
    )
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar, no lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Push as the command line says.

    Raises:
        ValueError: whatever is wrong with the folder, the name, the token, its rights or the connection, as one line.
    """
    options, _ = build_parser().read(arguments)
    from bertkit.hub.publishing.push import push

    if options.quiet or not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    push(
        options.checkpoint,
        options.name,
        private=options.private,
        revision=options.revision,
        message=options.commit_message,
        say=_silent if options.quiet else print,
    )


def _silent(line: str) -> None:
    """Say nothing."""
