"""Examples as token ids, and batches of them: packed into rows as in pretraining, so that next to no padding is computed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bertkit.data.keyed_random import keyed_permutation
from bertkit.data.packing import flat_starts, pack_rows, pad_to_multiple, ranges

if TYPE_CHECKING:
    import torch

# What is padded grows to these multiples: a GPU then meets few different shapes.
_WIDTH_MULTIPLE = 8
EXAMPLES_MULTIPLE = 8
_TOKENIZED_AT_ONCE = 1000
IGNORED = -100


class TokenizedExamples(NamedTuple):
    """Examples as token ids, end to end."""

    token_ids: np.ndarray
    """(tokens,), special ones included."""
    token_type_ids: np.ndarray
    """(tokens,) 0 in the first text, 1 in the second."""
    starts: np.ndarray
    """(examples + 1,) where each example begins, and the end."""
    num_truncated: int
    """Examples that were cut to the longest length allowed."""
    spellings: np.ndarray | None = None
    """(ids, characters) what stands for every token id, where the model reads characters."""

    @property
    def lengths(self) -> np.ndarray:
        """(examples,) in tokens."""
        return np.diff(self.starts)


class Layout(NamedTuple):
    """Where the examples of a batch come to lie."""

    example_ids: np.ndarray
    """(examples,) which examples, in the order of their places in the rows."""
    starts: np.ndarray
    """(examples,) flat index of each example's first token."""
    source: np.ndarray
    """(tokens,) where each token comes from, in the examples end to end."""
    target: np.ndarray
    """(tokens,) flat index of where it comes to lie."""
    shape: tuple[int, int]
    """Rows and width."""

    def spread(self, values: np.ndarray | int, filler: int) -> np.ndarray:
        """Lay a value for each token into the rows, (rows, width), with `filler` where no token lies."""
        flat = np.full(self.shape[0] * self.shape[1], filler)
        flat[self.target] = values
        return flat.reshape(self.shape)


def lay_out(tokenized: TokenizedExamples, example_ids: np.ndarray, *, max_width: int) -> Layout:
    """Pack examples into rows.

    Args:
        tokenized: all examples.
        example_ids: (examples,) which of them.
        max_width: longest row.
    """
    lengths = tokenized.lengths[example_ids]
    rows, width = _pack(lengths, max_width)
    in_rows = np.argsort(rows, kind="stable")
    example_ids, lengths, rows = example_ids[in_rows], lengths[in_rows], rows[in_rows]
    starts = flat_starts(lengths, rows, width)
    return Layout(
        example_ids=example_ids,
        starts=starts,
        source=ranges(tokenized.starts[example_ids], lengths),
        target=ranges(starts, lengths),
        shape=(int(rows[-1]) + 1, width),
    )


def model_inputs(tokenized: TokenizedExamples, layout: Layout, *, pad_token_id: int) -> dict[str, np.ndarray]:
    """Make of a layout what a model's forward takes.

    Args:
        tokenized: all examples.
        layout: where those of the batch lie.
        pad_token_id: what stands where no token lies.

    Returns:
        `input_ids`, (rows, width), or (rows, width, characters) where tokens are spelt; `attention_mask`, `token_type_ids` and
        `position_ids`, each (rows, width); `position_ids` is 0 where an example starts and nowhere else. `example_starts`
        (examples,), flat indices into the rows, padded with 0.
    """
    position = layout.source - np.repeat(tokenized.starts[layout.example_ids], tokenized.lengths[layout.example_ids])
    input_ids = layout.spread(tokenized.token_ids[layout.source], pad_token_id)
    if tokenized.spellings is not None:
        input_ids = tokenized.spellings[input_ids].astype(np.int64)  # (rows, width, characters)
    return {
        "input_ids": input_ids,
        "attention_mask": layout.spread(1, 0),
        "token_type_ids": layout.spread(tokenized.token_type_ids[layout.source], 0),
        "position_ids": layout.spread(position, 1),  # padding starts no example
        "example_starts": pad_to_multiple(layout.starts, EXAMPLES_MULTIPLE, 0),
    }


def num_tokens(batch: Mapping[str, "torch.Tensor"]) -> int:
    """Return the real tokens of a batch, special ones included."""
    return int(batch["attention_mask"].sum())


class ExampleOrder:
    """Which example stands at which place of an endless stream of epochs.

    Args:
        num_examples: examples of an epoch.
        seed: key of their order.
        shuffle: a new order each epoch; else as they come.
    """

    def __init__(self, num_examples: int, *, seed: int, shuffle: bool) -> None:
        self.num_examples = num_examples
        self.seed = seed
        self.shuffle = shuffle

    def __getitem__(self, place: int) -> int:
        epoch, position = divmod(place, self.num_examples)
        return int(_shuffled(self.num_examples, self.seed, epoch)[position]) if self.shuffle else position

    def between(self, start: int, stop: int) -> np.ndarray:
        """Return the examples at places `start` to `stop`."""
        return np.array([self[place] for place in range(start, stop)])


@lru_cache(maxsize=2)
def _shuffled(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of an epoch, (examples,)."""
    return keyed_permutation(num_examples, seed, "example order", epoch)


def _pack(lengths: np.ndarray, max_width: int) -> tuple[np.ndarray, int]:
    """Give examples rows of the width that leaves the least padding.

    A few examples rarely fill rows as long as the longest of them; in rows up to twice as long their gaps close.

    Args:
        lengths: (examples,) in tokens.
        max_width: longest row.

    Returns:
        (examples,) row numbers, and the width.
    """
    narrowest = -(-int(lengths.max()) // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
    widths = range(narrowest, min(2 * narrowest, max_width) + 1, _WIDTH_MULTIPLE) or [max_width]
    packings = [(pack_rows(lengths, width), width) for width in widths]
    return min(packings, key=lambda packing: (int(packing[0].max()) + 1) * packing[1])


def pieces_of(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the token ids of each text, without special ones.

    Texts are cut by the tasks and not by the tokenizer, which keeps every combination of the parts that it cuts off: of a
    pair of long texts that is a thousand times what is used.

    Args:
        tokenizer: a task's `reader`.
        texts: the texts.
    """
    for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
        some = list(texts[start : start + _TOKENIZED_AT_ONCE])
        yield from tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]


def end_to_end(
    filled: Iterable[tuple[np.ndarray, np.ndarray]], *, num_truncated: int, spellings: np.ndarray | None
) -> TokenizedExamples:
    """Put examples one after the other.

    Args:
        filled: token ids and token type ids of each, as `Template.fill` gives them.
        num_truncated: how many of them were cut.
        spellings: (ids, characters) what stands for every token id, where the model reads characters.
    """
    token_ids, token_type_ids = zip(*filled, strict=True)
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in token_ids])])
    return TokenizedExamples(
        np.concatenate(token_ids), np.concatenate(token_type_ids), starts, num_truncated, spellings
    )


class Template:
    """The special tokens that a tokenizer sets around one text or two, learned from what it makes of a short example.

    Args:
        tokenizer: a task's `reader`.
        is_pair: whether examples are pairs.
    """

    def __init__(self, tokenizer: Any, *, is_pair: bool) -> None:
        example = tokenizer("a", "a") if is_pair else tokenizer("a")
        of_text = np.array([-1 if text is None else text for text in example.sequence_ids(0)])
        ids = np.array(example["input_ids"])
        type_ids = np.array(example.get("token_type_ids", np.zeros_like(ids)))
        bounds = [place for text in range(1 + is_pair) for place in _ends(np.flatnonzero(of_text == text))]
        # Special tokens before the first text, behind each text; and the segment that each text belongs to.
        pieces = [slice(stop, start) for stop, start in zip([0, *bounds[1::2]], [*bounds[::2], len(ids)], strict=True)]
        self.special_ids = [ids[piece] for piece in pieces]
        self.special_type_ids = [type_ids[piece] for piece in pieces]
        self.segments = [type_ids[start] for start in bounds[::2]]
        self.num_special_tokens = sum(map(len, self.special_ids))

    def text_starts(self, first: int) -> list[int]:
        """Return where each text begins in an example whose first text has `first` tokens."""
        before = len(self.special_ids[0])
        return [before, before + first + len(self.special_ids[1])][: len(self.segments)]

    def fill(self, *texts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids and token type ids, (tokens,) each, of an example with these texts."""
        ids, type_ids = [self.special_ids[0]], [self.special_type_ids[0]]
        for text, segment, special, special_type in zip(
            texts, self.segments, self.special_ids[1:], self.special_type_ids[1:], strict=False
        ):
            ids += [np.array(text, dtype=np.int64), special]
            type_ids += [np.full(len(text), segment), special_type]
        return np.concatenate(ids), np.concatenate(type_ids)


def _ends(places: np.ndarray) -> tuple[int, int]:
    return int(places[0]), int(places[-1]) + 1


def truncated_lengths(first: int, second: int, room: int, truncation: str) -> tuple[int, int]:
    """Return how many tokens of each text of a pair stay.

    Args:
        first: tokens of the first text.
        second: tokens of the second.
        room: tokens that fit.
        truncation: which text is cut: `longest_first`, `only_first` or `only_second`.

    >>> truncated_lengths(30, 4, 20, "longest_first"), truncated_lengths(30, 40, 21, "longest_first")
    ((16, 4), (10, 11))
    """
    if first + second <= room:
        return first, second
    if truncation == "only_first":
        return max(room - second, 0), min(second, room)
    if truncation == "only_second":
        return min(first, room), max(room - first, 0)
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
