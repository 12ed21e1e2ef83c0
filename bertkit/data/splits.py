"""The training and the evaluation part of a corpus, as the `data` section of a recipe names them."""

from typing import TYPE_CHECKING

from bertkit.data.arguments import DataArguments
from bertkit.data.documents import Documents, load_documents
from bertkit.data.token_store import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HOLD_OUT_SEED = 0  # not the run's seed: runs that differ in it alone are evaluated on the same documents


def split_documents(arguments: DataArguments) -> tuple[Documents, Documents]:
    """Return the documents to train and to evaluate on: `data.eval` where it is given, else held out of `data.train`.

    Args:
        arguments: the `data` section.

    Raises:
        DataError: a source that cannot be read, or too few documents to hold one out.
    """
    documents = load_documents(arguments.train, arguments)
    if arguments.eval is not None:
        return documents, load_documents(arguments.eval, arguments)
    fraction = arguments.eval_fraction
    return (
        documents.held_out(fraction, seed=HOLD_OUT_SEED, part="train"),
        documents.held_out(fraction, seed=HOLD_OUT_SEED, part="eval"),
    )


def build_stores(
    arguments: DataArguments, tokenizer: "PreTrainedTokenizerBase", *, quiet: bool = False
) -> tuple[TokenStore, TokenStore]:
    """Tokenize the training and the evaluation part of a corpus, or open what an earlier run tokenized.

    Args:
        arguments: the `data` section.
        tokenizer: a fast tokenizer.
        quiet: no progress bar.

    Raises:
        DataError: a source that cannot be read.
    """
    train, evaluation = split_documents(arguments)
    return (
        TokenStore.build(train, tokenizer, arguments, quiet=quiet),
        TokenStore.build(evaluation, tokenizer, arguments, quiet=quiet),
    )
