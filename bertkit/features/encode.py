"""A frozen checkpoint turns texts into vectors, without computing padding.

Texts of like length share a batch, laid into rows as long as its longest text; where several texts share a row they are
packed, and none sees another. A vector is pooled over its own text's tokens alone.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

import numpy as np

from bertkit.data.packing import flat_starts, pack_rows, ranges

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.models.modeling_scalar_mix import ScalarMix

logger = logging.getLogger(__name__)

Pooling: TypeAlias = Literal["cls", "mean", "max", "last"]

_TEXTS_AT_ONCE = 1000  # given to the tokenizer together
_FULL_ENOUGH = 8  # a batch that is filled to this part may end where the next text is shorter


# Model


def load_encoder(checkpoint: str | Path) -> PreTrainedModel:
    """Load the encoder of a checkpoint in float32, whatever head it was saved with.

    Args:
        checkpoint: folder or Hub name of a bertkit checkpoint, or of a BERT of transformers.

    Returns:
        The model in evaluation mode, without its head unless that has learned how to mix the layers.

    Raises:
        ValueError: there is no checkpoint, or it is of an architecture that does not pack.
    """
    from bertkit.hub.checkpoints import checkpoint_folder, load_checkpoint, saved_auto_class

    folder = checkpoint_folder(str(checkpoint))
    # In the class it was saved as, so that no weight is left over or missing.
    model = load_checkpoint(folder, saved_auto_class(folder) or "AutoModel")
    return cast("PreTrainedModel", (model if hasattr(model, "scalar_mix") else model.base_model).float())


# Vectors


def extract_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    text_pairs: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    layers: int | Sequence[int] | Literal["mix"] = -1,
    max_length: int | None = None,
    batch_tokens: int = 4096,
    quiet: bool = False,
) -> np.ndarray:
    """Turn every text, or pair of texts, into a vector.

    What a vector is depends neither on the other texts nor on `batch_tokens`, beyond rounding. Texts longer than
    `max_length` are cut, and a warning says how many.

    Args:
        model: a model of a bertkit family, with or without a head; it computes where it is, without dropout.
        tokenizer: a fast tokenizer, the model's.
        texts: the texts; an empty one has its special tokens only.
        text_pairs: the second text of each pair.
        pooling: how the token states of a text become one vector: "cls" takes the first token's, "last" the last
            one's, "mean" and "max" go over all its tokens, special tokens included.
        layers: one layer or several, whose vectors are then joined in this order: 0 is the embeddings, 1 the first
            layer, -1 the last. "mix" is the scalar mix of all, embeddings counted (Peters et al. 2018): as a task has learned
            it, if the model was fine-tuned so, else their mean.
        max_length: longest text (or pair) in tokens, special tokens included; by default what model and tokenizer take.
        batch_tokens: tokens computed at a time, at most; one text may be longer. It decides on memory and speed only.
        quiet: no progress bar.

    Returns:
        (texts, features) float32, in the order of the texts; features are hidden_size times the number of layers,
        once where they are mixed.

    Raises:
        ValueError: an architecture that does not pack, an argument out of range, a tokenizer that is not the model's,
            or a text without any token.
    """
    import torch
    from tqdm import tqdm

    mix = None
    if isinstance(layers, str):
        if layers != "mix":
            raise ValueError(f"unknown layers {layers!r}; give numbers, or mix")
        mix, layers = _layer_mix(model), -1
    layers = [layers] if isinstance(layers, int) else list(layers)
    _check_arguments(model, tokenizer, texts, text_pairs, pooling=pooling, layers=layers, batch_tokens=batch_tokens)
    max_length = _choose_max_length(model, tokenizer, max_length, pairs=text_pairs is not None)
    examples = _tokenize(tokenizer, texts, text_pairs, max_length, quiet=quiet)
    encoder = model.base_model
    features = np.empty((len(texts), len(layers) * model.config.hidden_size), dtype=np.float32)
    training = model.training
    model.eval()
    start, done = time.monotonic(), 0
    try:
        # The bar counts tokens: batches come longest texts first, so that texts would not tell the time left.
        with (
            torch.inference_mode(),
            tqdm(total=len(examples.token_ids), desc="Encoding", unit=" tokens", unit_scale=True, disable=quiet) as bar,
        ):
            for numbers in cut_batches(examples.lengths, batch_tokens):
                inputs, example_of = _pack(examples, numbers, pad_token_id=tokenizer.pad_token_id or 0)
                outputs = encoder(
                    **{name: torch.from_numpy(array).to(model.device) for name, array in inputs.items()},
                    output_hidden_states=True,
                    return_dict=True,
                )
                if mix is not None:
                    states = mix(outputs.hidden_states)  # (rows, seq, features)
                else:
                    states = torch.cat([outputs.hidden_states[layer] for layer in layers], dim=-1)
                example_of_position = torch.from_numpy(example_of).to(model.device)
                pooled = pool(states.flatten(0, 1).float(), example_of_position, len(numbers), pooling)
                features[numbers] = pooled.cpu().numpy()
                done += len(numbers)
                bar.set_postfix_str(f"{done / (time.monotonic() - start):,.0f} texts/s", refresh=False)
                bar.update(int(examples.lengths[numbers].sum()))
    finally:
        model.train(training)
    return features


def pool(states: torch.Tensor, example_of: torch.Tensor, num_examples: int, pooling: Pooling) -> torch.Tensor:
    """Make one vector of the states of each example's tokens.

    Args:
        states: (positions, features).
        example_of: (positions,) int64 example of each position, `num_examples` at padding; the positions of an example
            stand side by side.
        num_examples: how many examples there are, each with at least one position.
        pooling: see `extract_features`.

    Returns:
        (num_examples, features).

    >>> import torch
    >>> states, example_of = torch.tensor([[1.0], [4.0], [2.0], [9.0]]), torch.tensor([1, 0, 0, 2])
    >>> [pool(states, example_of, 2, how).flatten().tolist() for how in ("cls", "last", "mean", "max")]
    [[4.0, 1.0], [2.0, 1.0], [3.0, 1.0], [4.0, 1.0]]
    """
    import torch

    if pooling in ("cls", "last"):
        places = torch.arange(len(states), device=states.device)
        chosen = places.new_zeros(num_examples + 1).scatter_reduce(
            0, example_of, places, "amin" if pooling == "cls" else "amax", include_self=False
        )
        return states[chosen[:-1]]
    index = example_of[:, None].expand_as(states)
    pooled = states.new_zeros(num_examples + 1, states.shape[1]).scatter_reduce(
        0, index, states, "mean" if pooling == "mean" else "amax", include_self=False
    )
    return pooled[:-1]


def cut_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Put texts of like length together, the longest first.

    A batch that is an eighth full ends where the next text is shorter than its longest. So most rows are one text each,
    all of one length, with nothing to mask: attention is at its cheapest, and next to nothing is padded.

    Args:
        lengths: (texts,) lengths in tokens.
        batch_tokens: tokens of a batch, at most; a longer text is a batch of its own.

    Yields:
        The numbers of the texts of a batch.

    >>> [batch.tolist() for batch in cut_batches(np.array([2, 5, 2, 3, 2]), batch_tokens=6)]
    [[1], [3], [0, 2, 4]]
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    ends = np.cumsum(descending)
    first = 0
    while first < len(order):
        before = ends[first] - descending[first]
        full = np.searchsorted(ends, before + batch_tokens, side="right")
        full_enough = np.searchsorted(ends, before + batch_tokens / _FULL_ENOUGH) + 1
        same_length = np.searchsorted(-descending, -descending[first], side="right")
        last = int(max(first + 1, min(full, max(full_enough, same_length))))
        yield order[first:last]
        first = last


@dataclass(frozen=True)
class _Examples:
    """Tokenized texts, one after the other."""

    token_ids: np.ndarray
    """(tokens,) int32."""
    token_type_ids: np.ndarray | None
    """(tokens,) int32, where the tokenizer gives them."""
    lengths: np.ndarray
    """(texts,) int64 tokens of each text."""
    starts: np.ndarray
    """(texts,) int64 place of its first token."""


def _layer_mix(model: PreTrainedModel) -> ScalarMix:
    from bertkit.models.modeling_scalar_mix import ScalarMix

    fresh = ScalarMix(model.config.num_hidden_layers + 1).to(model.device)
    return cast("ScalarMix", getattr(model, "scalar_mix", fresh))


def _check_arguments(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    *,
    pooling: str,
    layers: list[int],
    batch_tokens: int,
) -> None:
    from bertkit.models import FAMILIES, family_of

    if family_of(model.config) is None:
        raise ValueError(
            f"{type(model).__name__} does not take packed rows; give a model of bertkit ({', '.join(FAMILIES)}), or load "
            "a BERT of transformers by load_encoder"
        )
    if model.config.is_encoder_decoder:
        raise ValueError(f"{type(model).__name__} translates and has no features; give a model that reads one text")
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer; give one saved with a tokenizer.json")
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens and the model {model.config.vocab_size}; give the tokenizer the "
            "model was trained with"
        )
    if text_pairs is not None and len(text_pairs) != len(texts):
        raise ValueError(f"there are {len(texts)} texts and {len(text_pairs)} text_pairs; give each text its second")
    if pooling not in get_args(Pooling):
        raise ValueError(f"unknown pooling {pooling!r}; choose from {', '.join(get_args(Pooling))}")
    num_layers = model.config.num_hidden_layers
    outside = [layer for layer in layers if not -num_layers - 1 <= layer <= num_layers]
    if outside or not layers:
        given = f"layer {outside[0]} is out of range" if outside else "no layer is named"
        raise ValueError(
            f"{given}; the model has layers 0 (embeddings) to {num_layers}, or from the end -1 to {-num_layers - 1}"
        )
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens is {batch_tokens}; give 1 or more")


def _choose_max_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None, *, pairs: bool
) -> int:
    most = getattr(model.config, "max_position_embeddings", sys.maxsize)  # a recurrent model takes any length
    least = tokenizer.num_special_tokens_to_add(pair=pairs) + 1
    if max_length is None:
        return min(most, tokenizer.model_max_length)
    if not least <= max_length <= most:
        raise ValueError(
            f"max_length is {max_length}; give {least} (special tokens and one more) to {most} (what the model takes)"
        )
    return max_length


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    max_length: int,
    *,
    quiet: bool,
) -> _Examples:
    from tqdm import tqdm

    with_types = "token_type_ids" in tokenizer.model_input_names
    ids: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    types: list[np.ndarray] = [np.zeros(0, dtype=np.int32)]
    lengths: list[int] = []
    num_cut = 0
    with tqdm(total=len(texts), desc="Tokenizing", unit=" texts", unit_scale=True, disable=quiet) as bar:
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            some = slice(first, first + _TEXTS_AT_ONCE)
            pairs = None if text_pairs is None else list(text_pairs[some])
            batch = tokenizer(list(texts[some]), pairs, truncation="longest_first", max_length=max_length)
            for encoding in batch.encodings or ():
                lengths.append(len(encoding.ids))
                ids.append(np.array(encoding.ids, dtype=np.int32))
                if with_types:
                    types.append(np.array(encoding.type_ids, dtype=np.int32))
                num_cut += bool(encoding.overflowing)
            bar.update(len(lengths) - first)
    if 0 in lengths:
        raise ValueError(f"text {lengths.index(0) + 1} has no token; leave empty texts out")
    if num_cut:
        logger.warning("%s of %s texts were cut to %s tokens", f"{num_cut:,}", f"{len(texts):,}", max_length)
    ends = np.cumsum(np.array(lengths, dtype=np.int64))
    return _Examples(
        token_ids=np.concatenate(ids),
        token_type_ids=np.concatenate(types) if with_types else None,
        lengths=np.array(lengths, dtype=np.int64),
        starts=ends - np.array(lengths, dtype=np.int64),
    )


def _pack(examples: _Examples, numbers: np.ndarray, *, pad_token_id: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Lay the texts of a batch into rows as long as the longest of them.

    Args:
        examples: all tokenized texts.
        numbers: (batch,) which of them.
        pad_token_id: what stands in the positions that are left over.

    Returns:
        The model's inputs, (rows, seq) int64 each: without position_ids where every row is one text, and without
        attention_mask where there is no padding; and for each of the (rows * seq) positions the place of its text in
        `numbers`, len(numbers) at padding.
    """
    lengths = examples.lengths[numbers]
    seq = int(lengths.max())
    row = pack_rows(lengths, seq)
    num_rows = int(row.max()) + 1
    places = ranges(flat_starts(lengths, row, seq), lengths)  # (tokens,) where each token comes to lie
    sources = ranges(examples.starts[numbers], lengths)  # (tokens,) where it comes from

    def lay(values: np.ndarray, padding: int) -> np.ndarray:
        flat = np.full(num_rows * seq, padding, dtype=np.int64)
        flat[places] = values
        return flat

    flat_inputs = {"input_ids": lay(examples.token_ids[sources], pad_token_id)}
    if examples.token_type_ids is not None:
        flat_inputs["token_type_ids"] = lay(examples.token_type_ids[sources], 0)
    if len(places) < num_rows * seq:
        flat_inputs["attention_mask"] = lay(np.ones_like(places), 0)
    if num_rows < len(numbers):
        flat_inputs["position_ids"] = lay(ranges(np.zeros_like(lengths), lengths), 1)  # 0 would start a text
    example_of = lay(np.repeat(np.arange(len(numbers)), lengths), len(numbers))
    return {name: flat.reshape(num_rows, seq) for name, flat in flat_inputs.items()}, example_of
