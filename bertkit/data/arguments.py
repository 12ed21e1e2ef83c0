"""What a run reads: the `data` section of a recipe."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

DocumentMode: TypeAlias = Literal["blank_line", "file", "line"]
SentenceMode: TypeAlias = Literal["split", "line"]


DEFAULT_LANGUAGE = "en"
"""Whose rules split sentences where no language is given."""


@dataclass(kw_only=True)
class DataArguments:
    """Where the text comes from and how it is cut into documents and sentences.

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    train: str | list[str]
    """Text to train on, one source or several: a file (.txt, .jsonl, .parquet; also .gz or .zst), a folder, a glob, or
    a dataset written hub:name, hub:name:config or hub:name:config@split; or one token store, as store:folder."""

    eval: str | list[str] | None = None
    """Text to evaluate on, in the same forms; without it, a share of the training documents is held out."""

    eval_fraction: float = 0.02
    """Share of the training documents that is held out for evaluation when `eval` is not given."""

    text_column: str = "text"
    """Column that holds the text of a jsonl, parquet or datasets record."""

    documents: DocumentMode = "blank_line"
    """How a text file is cut into documents: at blank lines, not at all, or at every line."""

    sentences: SentenceMode = "split"
    """How a paragraph becomes sentences: split by rules for the language, or taken whole, one sentence a line."""

    language: str | None = None
    """Language of the text as an ISO 639 code (en, ko, de, ...): sentences are split by its rules, by those of English if
    none is given, and the model card names it."""

    streaming: bool = False
    """Read a dataset of the Hub as it arrives, instead of downloading it first."""

    num_workers: int | None = None
    """Processes that tokenize; null uses every core."""

    cache_dir: str | None = None
    """Folder that keeps tokenized text between runs; null means $BERTKIT_CACHE, or else ~/.cache/bertkit."""

    def __post_init__(self) -> None:
        for name, value, mode in (
            ("documents", self.documents, DocumentMode),
            ("sentences", self.sentences, SentenceMode),
        ):
            if value not in get_args(mode):
                raise ValueError(f"unknown data.{name} {value!r}; choose from {', '.join(get_args(mode))}")
        _check(self.eval_fraction, self.num_workers, self.language)


@dataclass(kw_only=True)
class PairDataArguments:
    """Where pairs of texts come from, a source and what is to be made of it: sentences and their translations.

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    train: str | list[str]
    """Pairs to train on, one source or several: a text file of lines source TAB target, a .jsonl or .parquet file (each also
    .gz or .zst), a folder, a glob, or a dataset written hub:name, hub:name:config or hub:name:config@split; or one token store
    of pairs, as store:folder. With `train_target` the text files of the sources, one a line."""

    train_target: str | list[str] | None = None
    """Text files of the targets: line n of each belongs to line n of the file in `train` at its place."""

    eval: str | list[str] | None = None
    """Pairs to evaluate on, in the same forms; without it, a share of the training pairs is held out."""

    eval_target: str | list[str] | None = None
    """Text files of the targets of `eval`."""

    eval_fraction: float = 0.02
    """Share of the training pairs that is held out for evaluation when `eval` is not given."""

    source_column: str = "source"
    """Column that holds the source in a jsonl, parquet or datasets record; translation.de is `de` inside `translation`."""

    target_column: str = "target"
    """Column that holds the target."""

    language: str | None = None
    """Language of the targets as an ISO 639 code (en, ko, de, ...), for the model card; it names none if not given."""

    streaming: bool = False
    """Read a dataset of the Hub as it arrives, instead of downloading it first."""

    num_workers: int | None = None
    """Processes that tokenize; null uses every core."""

    cache_dir: str | None = None
    """Folder that keeps tokenized text between runs; null means $BERTKIT_CACHE, or else ~/.cache/bertkit."""

    def __post_init__(self) -> None:
        _check(self.eval_fraction, self.num_workers, self.language)
        if self.eval_target is not None and self.eval is None:
            raise ValueError("data.eval_target is given and data.eval is not; give both, or neither")


def _check(eval_fraction: float, num_workers: int | None, language: str | None) -> None:
    if not 0 < eval_fraction < 1:
        raise ValueError(f"data.eval_fraction must lie between 0 and 1, not be {eval_fraction}")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"data.num_workers must be 1 or more, or null for every core, not {num_workers}")
    if language is not None and not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", language):
        raise ValueError(f"data.language takes a language code such as en, ko or pt-BR, not {language!r}")
