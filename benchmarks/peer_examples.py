"""What transformers' Trainer trains on: examples made beforehand, as its users make them.

`grouped` and `lines` are the two modes of transformers' run_mlm. `filled_pairs` are those of Devlin et al. 2019
(https://arxiv.org/abs/1810.04805), appendix A.2, for which transformers had a data set class until version 4;
`sentence_pairs` are the pairs of two sentences that many tutorials make instead. Special tokens are there already; the
collator pads a batch to its longest example, which of 32 is all but always one of 128 tokens.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bertkit.data.sentences import split_sentences

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Columns: TypeAlias = dict[str, list]
Sentence: TypeAlias = list[int]
Pair: TypeAlias = tuple[list[int], list[int], int]
"""Two segments, and 1 where the second is from another document, else 0."""

SHORT_PAIR_PROB = 0.1
SPECIAL_TOKENS_OF_PAIR = 3
SEED = 0


def grouped(corpus: Path, tokenizer: "PreTrainedTokenizerBase", block_size: int) -> Columns:
    """Concatenate the tokens of all lines and cut them into full rows; the tail is dropped."""
    columns = {}
    for name, values in tokenizer(read_lines(corpus), return_special_tokens_mask=True, verbose=False).items():
        stream = flat(values)
        last = len(stream) - len(stream) % block_size
        columns[name] = [stream[start : start + block_size] for start in range(0, last, block_size)]
    return columns


def lines(corpus: Path, tokenizer: "PreTrainedTokenizerBase", block_size: int) -> Columns:
    """Make every line an example; what is longer than `block_size` tokens is cut off."""
    return dict(tokenizer(read_lines(corpus), truncation=True, max_length=block_size, return_special_tokens_mask=True))


def filled_pairs(corpus: Path, tokenizer: "PreTrainedTokenizerBase", block_size: int) -> Columns:
    """Pair segments of as many sentences as fill the row; in half of the pairs the second is from another document."""
    rng = random.Random(SEED)
    documents = encode_documents(corpus, tokenizer)
    capacity = block_size - SPECIAL_TOKENS_OF_PAIR
    pairs = (pair for number in range(len(documents)) for pair in fill_pairs(documents, number, capacity, rng))
    return pair_columns(pairs, tokenizer, capacity, rng)


def sentence_pairs(corpus: Path, tokenizer: "PreTrainedTokenizerBase", block_size: int) -> Columns:
    """Pair each sentence with the next one, or as often with one of another document."""
    rng = random.Random(SEED)
    documents = encode_documents(corpus, tokenizer)
    pairs = (
        (first[:], rng.choice(another(documents, number, rng))[:], 1)
        if rng.random() < 0.5
        else (first[:], second[:], 0)
        for number, sentences in enumerate(documents)
        for first, second in itertools.pairwise(sentences)
    )
    return pair_columns(pairs, tokenizer, block_size - SPECIAL_TOKENS_OF_PAIR, rng)


PEER_EXAMPLES: dict[str, Callable[[Path, "PreTrainedTokenizerBase", int], Columns]] = {
    "grouped": grouped,
    "lines": lines,
    "filled_pairs": filled_pairs,
    "sentence_pairs": sentence_pairs,
}


def fill_pairs(documents: list[list[Sentence]], number: int, capacity: int, rng: random.Random) -> Iterator[Pair]:
    """Yield the pairs of document `number`: sentences up to the wanted length, parted at a random one of them."""
    sentences = documents[number]
    start = 0
    while start < len(sentences):
        wanted = rng.randint(2, capacity) if rng.random() < SHORT_PAIR_PROB else capacity
        stop = end_of_run(sentences, start, wanted)
        middle = rng.randint(start + 1, max(stop - 1, start + 1))
        first = flat(sentences[start:middle])
        if middle < stop and rng.random() < 0.5:
            yield first, flat(sentences[middle:stop]), 0
            start = stop
        else:
            other = another(documents, number, rng)
            other_start = rng.randrange(len(other))
            yield first, flat(other[other_start : end_of_run(other, other_start, wanted - len(first))]), 1
            start = middle  # the sentences that were replaced begin the next pair


def pair_columns(
    pairs: Iterable[Pair], tokenizer: "PreTrainedTokenizerBase", capacity: int, rng: random.Random
) -> Columns:
    """Cut pairs to `capacity` tokens, at either end of the longer segment by chance, and add the special tokens."""
    columns: Columns = {"input_ids": [], "token_type_ids": [], "attention_mask": [], "next_sentence_label": []}
    for first, second, label in pairs:
        while len(first) + len(second) > capacity:
            longer = first if len(first) > len(second) else second
            longer.pop(0 if rng.random() < 0.5 else -1)
        input_ids = [tokenizer.cls_token_id, *first, tokenizer.sep_token_id, *second, tokenizer.sep_token_id]
        columns["input_ids"].append(input_ids)
        columns["token_type_ids"].append([0] * (len(first) + 2) + [1] * (len(second) + 1))
        columns["attention_mask"].append([1] * len(input_ids))
        columns["next_sentence_label"].append(label)
    return columns


def another(documents: list[list[Sentence]], number: int, rng: random.Random) -> list[Sentence]:
    """Return a document that is not `number`."""
    return documents[(number + rng.randint(1, len(documents) - 1)) % len(documents)]


def end_of_run(sentences: list[Sentence], start: int, num_tokens: int) -> int:
    """Return the end of the shortest run of sentences from `start`, at least one, that has `num_tokens`."""
    stop, length = start, 0
    while stop < len(sentences) and (stop == start or length < num_tokens):
        length += len(sentences[stop])
        stop += 1
    return stop


def flat(parts: list[list[int]]) -> list[int]:
    return [value for part in parts for value in part]


# The text


def read_lines(corpus: Path) -> list[str]:
    return [line for line in corpus.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_documents(corpus: Path) -> list[list[str]]:
    """Return the sentences of each document; documents are parted by blank lines."""
    blocks = corpus.read_text(encoding="utf-8").split("\n\n")
    documents = (split_sentences(block.splitlines(), mode="split", language="en") for block in blocks)
    return [sentences for sentences in documents if sentences]


def encode_documents(corpus: Path, tokenizer: "PreTrainedTokenizerBase") -> list[list[Sentence]]:
    """Return the token ids of each sentence of each document."""
    return [
        tokenizer(sentences, add_special_tokens=False, verbose=False)["input_ids"]
        for sentences in read_documents(corpus)
    ]


def write_one_sentence_a_line(corpus: Path, path: Path) -> None:
    """Write the text of `corpus` again, each sentence on a line of its own."""
    path.write_text("\n\n".join("\n".join(sentences) for sentences in read_documents(corpus)), encoding="utf-8")
