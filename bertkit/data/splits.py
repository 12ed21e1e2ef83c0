"""The training and the evaluation part of a corpus, as the `data` section of a recipe names them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bertkit.data.arguments import DataArguments, PairDataArguments
from bertkit.data.documents import Documents, load_documents
from bertkit.data.errors import DataError
from bertkit.data.pairs import load_pairs
from bertkit.data.token_store import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STORE = "store:"
"""How a source begins that is a folder of a token store, and not of text."""
HOLD_OUT_SEED = 0  # not the run's seed: runs that differ in it alone are evaluated on the same documents


def split_documents(arguments: DataArguments | PairDataArguments) -> tuple[Documents, Documents]:
    """Return the documents to train and to evaluate on: `data.eval` where it is given, else held out of `data.train`.

    Args:
        arguments: the `data` section.

    Raises:
        DataError: a source that cannot be read, or too few documents to hold one out.
    """
    documents = _load_train(arguments)
    if arguments.eval is not None:
        return documents, _load_eval(arguments)
    fraction = arguments.eval_fraction
    return (
        documents.held_out(fraction, seed=HOLD_OUT_SEED, part="train"),
        documents.held_out(fraction, seed=HOLD_OUT_SEED, part="eval"),
    )


def _load_train(arguments: DataArguments | PairDataArguments) -> Documents:
    if isinstance(arguments, PairDataArguments):
        return load_pairs(arguments.train, arguments.train_target, arguments)
    return load_documents(arguments.train, arguments)


def _load_eval(arguments: DataArguments | PairDataArguments) -> Documents:
    assert arguments.eval is not None
    if isinstance(arguments, PairDataArguments):
        return load_pairs(arguments.eval, arguments.eval_target, arguments)
    return load_documents(arguments.eval, arguments)


def build_stores(
    arguments: DataArguments | PairDataArguments, tokenizer: "PreTrainedTokenizerBase", *, quiet: bool = False
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
            _open_or_build(arguments.train, _load_train, arguments, tokenizer, quiet=quiet),
            _open_or_build(arguments.eval, _load_eval, arguments, tokenizer, quiet=quiet),
        )
    if is_store(arguments.train):
        raise DataError(f"data.train is {arguments.train}, of which nothing can be held out; give data.eval")
    train, evaluation = split_documents(arguments)
    how = _how(arguments)
    return (
        TokenStore.build(train, tokenizer, how, quiet=quiet),
        TokenStore.build(evaluation, tokenizer, how, quiet=quiet),
    )


def build_store(
    arguments: DataArguments | PairDataArguments, tokenizer: "PreTrainedTokenizerBase", *, quiet: bool = False
) -> TokenStore:
    """Tokenize all that `data.train` names, or open what an earlier run tokenized; nothing is held out.

    Args:
        arguments: the `data` section.
        tokenizer: a fast tokenizer.
        quiet: no progress bar.

    Raises:
        DataError: a source that cannot be read.
    """
    return _open_or_build(arguments.train, _load_train, arguments, tokenizer, quiet=quiet)


def _open_or_build(
    source: str | list[str],
    load: Callable[[DataArguments | PairDataArguments], Documents],
    arguments: DataArguments | PairDataArguments,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    quiet: bool,
) -> TokenStore:
    how = _how(arguments)
    if not is_store(source):
        return TokenStore.build(load(arguments), tokenizer, how, quiet=quiet)
    store = TokenStore.open(str(source).removeprefix(STORE))
    store.check_made_by(tokenizer, how)
    return store


def _how(arguments: DataArguments | PairDataArguments) -> DataArguments:
    """Say how a store is made; in one of pairs a side is one sentence, whatever sentences are in it."""
    if isinstance(arguments, DataArguments):
        return arguments
    return DataArguments(
        train=arguments.train,
        sentences="line",
        language=arguments.language,
        num_workers=arguments.num_workers,
        cache_dir=arguments.cache_dir,
    )


def is_store(source: str | list[str]) -> bool:
    """Return whether a source is a token store."""
    return isinstance(source, str) and source.startswith(STORE)
