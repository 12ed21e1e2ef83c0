"""The training and the evaluation part of a corpus, as the `data` section of a recipe names them."""

from typing import TYPE_CHECKING

from bertkit.data.arguments import DataArguments
from bertkit.data.documents import DataError, Documents, load_documents
from bertkit.data.token_store import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STORE = "store:"
"""How a source begins that is a folder of a token store, and not of text."""
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
    if arguments.eval is not None:
        return (
            _store(arguments.train, tokenizer, arguments, quiet=quiet),
            _store(arguments.eval, tokenizer, arguments, quiet=quiet),
        )
    if is_store(arguments.train):
        raise DataError(f"data.train is {arguments.train}, of which nothing can be held out; give data.eval")
    train, evaluation = split_documents(arguments)
    return (
        TokenStore.build(train, tokenizer, arguments, quiet=quiet),
        TokenStore.build(evaluation, tokenizer, arguments, quiet=quiet),
    )


def _store(
    source: str | list[str], tokenizer: "PreTrainedTokenizerBase", arguments: DataArguments, *, quiet: bool
) -> TokenStore:
    if not is_store(source):
        return TokenStore.build(load_documents(source, arguments), tokenizer, arguments, quiet=quiet)
    store = TokenStore.open(str(source).removeprefix(STORE))
    store.check_made_by(tokenizer, arguments)
    return store


def is_store(source: str | list[str]) -> bool:
    """Return whether a source is a token store."""
    return isinstance(source, str) and source.startswith(STORE)
