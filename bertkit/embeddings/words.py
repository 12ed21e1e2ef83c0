"""What a word is to vectors of words: a tokenizer that knows whole words, and texts as numbers of words."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bertkit.data.errors import DataError
from bertkit.tokenization import SPECIAL_TOKENS, count_words

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

    from bertkit.data.token_store import TokenStore

# Letters, digits and their marks; an apostrophe stays where it stands between two of them ("don't"). All else parts words.
_WORD = r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*"
_SENTENCES_AT_ONCE = 1 << 16


@dataclass(kw_only=True)
class VocabularyArguments:
    """Which words get a vector. A word is a run of letters, digits and marks, which apostrophes may join (don't).

    Raises:
        ValueError: if a value is outside what its field takes.
    """

    lowercase: bool | None = None
    """Read all text in lower case; null means true. With --tokenizer that one decides."""
    max_words: int | None = None
    """At most this many words, the most frequent ones; null sets no bound. With --tokenizer that one decides."""

    def __post_init__(self) -> None:
        if self.max_words is not None and self.max_words < 1:
            raise ValueError(f"vocabulary.max_words is {self.max_words}; it must be at least 1")


def train_word_tokenizer(
    documents: Iterable[list[str]], arguments: VocabularyArguments, *, min_count: int, quiet: bool = False
) -> "PreTrainedTokenizerFast":
    """Collect the words of documents into a tokenizer that plain AutoTokenizer loads.

    It knows [PAD] [UNK] [CLS] [SEP] [MASK] as the ids 0 to 4, as bertkit's others do; then come the words, the most frequent
    first, equally frequent ones by their letters. It sets [CLS] before a text, so that one without any word has a token, too.

    Args:
        documents: lists of paragraphs, read once; memory grows with the number of different words.
        arguments: which words.
        min_count: words that occur less often are unknown.
        quiet: no progress bar.

    Raises:
        DataError: no word occurs so often.
    """
    from tokenizers import Regex, normalizers, pre_tokenizers

    lowercase = arguments.lowercase is not False
    normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    counts = count_words(documents, normalizer, pre_tokenizer, quiet=quiet)
    words = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
    if not words:
        raise DataError(
            f"no word of the text occurs {min_count} times (it has {len(counts):,} different ones); give more text, or a lower "
            "min_count"
        )
    return _tokenizer_of(words[: arguments.max_words], normalizer, pre_tokenizer)


def given_word_tokenizer(words: Sequence[str], *, lowercase: bool) -> "PreTrainedTokenizerFast":
    """Make a tokenizer of words that somebody else counted, as a file of vectors has them.

    It is that of `train_word_tokenizer`, but what is no word stands for itself, a character each, since such files have
    vectors of punctuation.

    Args:
        words: in the order of their ids, which start behind those of the special tokens.
        lowercase: read all text in lower case.
    """
    from tokenizers import Regex, normalizers, pre_tokenizers

    normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    pre_tokenizer = pre_tokenizers.Split(Regex(rf"{_WORD}|[^\s\p{{L}}\p{{M}}\p{{N}}]"), behavior="removed", invert=True)
    return _tokenizer_of(words, normalizer, pre_tokenizer)


def _tokenizer_of(
    words: Sequence[str], normalizer: "Normalizer", pre_tokenizer: "PreTokenizer"
) -> "PreTrainedTokenizerFast":
    """Make a tokenizer of whole words, behind BERT's special tokens."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    special = [*SPECIAL_TOKENS.values()]
    entries = [*special, *(word for word in words if word not in special)]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(entries)}, unk_token=SPECIAL_TOKENS["unk_token"])
    )
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B:1", special_tokens=[("[CLS]", entries.index("[CLS]"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def texts_of(store: "TokenStore") -> Iterator[np.ndarray]:
    """Yield the token ids of every sentence of a store, in order and in constant memory.

    Args:
        store: a tokenized corpus.

    Yields:
        (tokens,) integers.
    """
    for first in range(0, len(store.sentence_starts) - 1, _SENTENCES_AT_ONCE):
        starts = store.sentence_starts[first : first + _SENTENCES_AT_ONCE + 1].tolist()
        token_ids = np.array(store.token_ids[starts[0] : starts[-1]])
        for start, end in pairwise(starts):
            yield token_ids[start - starts[0] : end - starts[0]]


def frequent_tokens(
    store: "TokenStore", tokenizer: "PreTrainedTokenizerFast", *, min_count: int
) -> tuple[list[str], np.ndarray]:
    """Choose the tokens of a store that get a vector, and number them.

    Args:
        store: the corpus.
        tokenizer: the one it was tokenized by; its special tokens get no vector.
        min_count: nor do tokens that occur less often.

    Returns:
        The tokens, the most frequent first, equally frequent ones by their ids; and (vocab,) int64, the number of each token id
        among them, -1 for those left out.

    Raises:
        DataError: none is left.
    """
    counts = np.array(store.token_counts)
    counts[[number for number in tokenizer.all_special_ids if number < len(counts)]] = 0
    order = np.argsort(-counts, kind="stable")
    chosen = order[counts[order] >= min_count]
    if not len(chosen):
        raise DataError(f"no token of the text occurs {min_count} times; give more text, or a lower min_count")
    numbers = np.full(len(counts), -1, dtype=np.int64)
    numbers[chosen] = np.arange(len(chosen))
    return [str(token) for token in tokenizer.convert_ids_to_tokens(chosen.tolist())], numbers
