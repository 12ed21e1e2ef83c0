"""`bertkit tokenizer`: a corpus -> a WordPiece tokenizer that AutoTokenizer loads, and how well it fits held-out text."""

import json
from collections.abc import Sequence
from pathlib import Path

from bertkit.config import ConfigError, RecipeParser
from bertkit.data.arguments import DataArguments
from bertkit.tokenization import TokenizerArguments


def main(arguments: Sequence[str]) -> None:
    """Train a tokenizer as the command line says, save it and report on held-out text.

    Raises:
        ValueError: whatever is wrong with the recipe or the corpus, as one line.
    """
    parser = RecipeParser("tokenizer", description="Train a WordPiece tokenizer on a corpus.")
    parser.add_argument("--output_dir", type=str, required=True, help="Folder to save the tokenizer in.")
    parser.add_class_arguments(DataArguments, "data", help="The corpus to train on")
    parser.add_class_arguments(TokenizerArguments, "tokenizer", help="What kind of tokenizer")
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar and no report.")
    recipe, resolved = parser.read(arguments)
    folder = Path(recipe.output_dir)
    if (folder / "tokenizer.json").exists():
        raise ConfigError(
            f"{folder} already holds a tokenizer, and models trained with it would no longer fit a new one; remove it, or give "
            "another --output_dir"
        )

    from bertkit.data.splits import split_documents
    from bertkit.tokenization import format_report, save_tokenizer, tokenizer_report, train_tokenizer

    train_documents, eval_documents = split_documents(recipe.data)
    tokenizer = train_tokenizer(train_documents, recipe.tokenizer, quiet=recipe.quiet)
    report = tokenizer_report(tokenizer, eval_documents)
    try:
        save_tokenizer(tokenizer, folder)
        (folder / "recipe.yaml").write_text(resolved, encoding="utf-8")
        (folder / "tokenizer_report.json").write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot write to {folder}: {reason}; give an --output_dir that can be written to") from error
    if not recipe.quiet:
        print(f"{len(tokenizer)} tokens saved in {folder}; on held-out text:\n{format_report(report)}")
