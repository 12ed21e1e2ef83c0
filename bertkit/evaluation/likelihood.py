"""How likely a model holds a text: the sum of the log probabilities of its tokens, in nats.

Left-to-right models are read through windows where their context is bounded (each token then has at least `context - stride`
tokens before it), and from end to end where they carry a state. Masked models have no likelihood; theirs is the
pseudo-log-likelihood of Salazar et al. 2020 (https://arxiv.org/abs/1910.14659): every token is masked in its turn. With the
tokens of a word that follow masked too (Kauf and Ivanova 2023, https://arxiv.org/abs/2305.10588), a word of many pieces is not
given away by its own end.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

TokenIds: TypeAlias = Sequence[int] | np.ndarray

LOGITS_AT_ONCE = 2**26
"""Scores of the vocabulary that are in memory at a time: 256 MB of float32."""
_CHUNK = 256  # tokens that a recurrent model reads at a time


class Likelihoods(NamedTuple):
    """The likelihood of texts; arrays are (texts,)."""

    nats: np.ndarray
    """float64 log probability of each text: the sum over its predicted tokens, each computed in float32."""
    tokens: np.ndarray
    """int64 predicted tokens of each text."""


class Window(NamedTuple):
    """A stretch of a text that is read at once."""

    text: int
    """Which text."""
    begin: int
    """First input position."""
    first_label: int
    """First position whose prediction counts; those before it are context."""
    end: int
    """Behind the last position."""


def cut_windows(length: int, *, context: int, stride: int, text: int = 0) -> list[Window]:
    """Cut a text into windows so that every position is predicted once, with as much context as the stride leaves.

    Args:
        length: input positions of the text.
        context: most positions of a window.
        stride: positions that each window behind the first adds.
        text: number of the text.

    >>> [window[1:] for window in cut_windows(7, context=4, stride=2)]
    [(0, 0, 4), (2, 4, 6), (3, 6, 7)]
    """
    windows = [Window(text, 0, 0, min(length, context))]
    while windows[-1].end < length:
        done = windows[-1].end
        end = min(done + stride, length)
        windows.append(Window(text, end - context, done, end))
    return windows


def token_log_probabilities(logits: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """Return the log probability of tokens, in nats.

    Args:
        logits: (..., vocab).
        token_ids: (...) int64.

    Returns:
        (...) float32.
    """
    logits = logits.float()
    return logits.gather(-1, token_ids[..., None]).squeeze(-1) - logits.logsumexp(-1)


def log_probabilities_to_end(
    logits: torch.Tensor, token_ids: torch.Tensor, end: int | list[int] | None
) -> torch.Tensor:
    """Add up the log probabilities of each row's tokens, as far as the first one that ends it, that one included.

    Args:
        logits: (rows, seq, vocab), before each token.
        token_ids: (rows, seq) int64, of any kind behind the end.
        end: the token that ends a row, or several; None where no token does.

    Returns:
        (rows,) float32, in nats.

    >>> logits = torch.zeros(2, 3, 4)  # every token has the probability 1/4
    >>> (log_probabilities_to_end(logits, torch.tensor([[1, 3, 0], [1, 1, 1]]), 3).exp() ** -1).tolist()
    [16.0, 64.0]
    """
    ends = torch.tensor([] if end is None else end, dtype=token_ids.dtype, device=token_ids.device)
    is_end = torch.isin(token_ids, ends).long()
    behind = is_end.cumsum(-1) - is_end > 0
    return token_log_probabilities(logits, token_ids).masked_fill(behind, 0.0).sum(-1)


def causal_likelihoods(
    model: PreTrainedModel,
    texts: Sequence[TokenIds],
    *,
    bos_token_id: int,
    eos_token_id: int,
    context: int | None = None,
    stride: int | None = None,
    quiet: bool = False,
) -> Likelihoods:
    """Score texts with a left-to-right model; each begins behind bos, and its end (eos) is predicted, too.

    Args:
        model: an `AutoModelForCausalLM`, in evaluation mode.
        texts: token ids of each, without special tokens.
        bos_token_id: stands before every text.
        eos_token_id: is predicted behind every text.
        context: most tokens the model reads at once. None: all of a text, by a model that carries a state.
        stride: positions a window adds; None: half of the context.
        quiet: no progress bar.

    Raises:
        ValueError: a stride that is not from 1 to the context.
    """
    inputs = [np.array([bos_token_id, *text], dtype=np.int64) for text in texts]
    labels = [np.array([*text, eos_token_id], dtype=np.int64) for text in texts]
    nats = np.zeros(len(texts))
    if context is None:
        _score_end_to_end(model, inputs, labels, nats, quiet=quiet)
    else:
        stride = max(context // 2, 1) if stride is None else stride
        if not 1 <= stride <= context:
            raise ValueError(f"the stride is {stride}; it must be from 1 to the context of {context} tokens")
        _score_windows(model, inputs, labels, nats, context=context, stride=stride, quiet=quiet)
    return Likelihoods(nats, np.array([len(label) for label in labels]))


@torch.no_grad()
def _score_windows(
    model: PreTrainedModel,
    inputs: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    nats: np.ndarray,
    *,
    context: int,
    stride: int,
    quiet: bool,
) -> None:
    windows = [
        window
        for text, tokens in enumerate(inputs)
        for window in cut_windows(len(tokens), context=context, stride=stride, text=text)
    ]
    lengths = np.array([window.end - window.begin for window in windows])
    for numbers in _batches(lengths, LOGITS_AT_ONCE // model.config.vocab_size, quiet=quiet):
        some = [windows[number] for number in numbers]
        input_ids, attention_mask = _pad([inputs[w.text][w.begin : w.end] for w in some])
        targets, _ = _pad([labels[w.text][w.begin : w.end] for w in some])
        device = model.device
        logits = model(
            input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), use_cache=False
        ).logits  # (windows, seq, vocab)
        scores = token_log_probabilities(logits, targets.to(device)).double().cpu().numpy()
        for window, row in zip(some, scores, strict=True):
            nats[window.text] += row[window.first_label - window.begin : window.end - window.begin].sum()


@torch.no_grad()
def _score_end_to_end(
    model: PreTrainedModel,
    inputs: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    nats: np.ndarray,
    *,
    quiet: bool,
) -> None:
    lengths = np.array([len(tokens) for tokens in inputs])
    rows = max(LOGITS_AT_ONCE // (model.config.vocab_size * _CHUNK), 1)
    for numbers in _batches(np.minimum(lengths, _CHUNK), rows * _CHUNK, quiet=quiet, ties=lengths):
        state = None
        for begin in range(0, int(lengths[numbers].max()), _CHUNK):
            # A text that has ended brings nothing but padding, behind which its row's state is of no interest.
            input_ids, attention_mask = _pad([inputs[text][begin : begin + _CHUNK] for text in numbers])
            targets, _ = _pad([labels[text][begin : begin + _CHUNK] for text in numbers])
            outputs = model(
                input_ids=input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                past_key_values=state,
                use_cache=True,
            )
            state = outputs.past_key_values
            scores = token_log_probabilities(outputs.logits, targets.to(model.device)).double().cpu().numpy()
            nats[numbers] += (scores * attention_mask.numpy()).sum(1)


@torch.no_grad()
def bidirectional_likelihoods(
    model: PreTrainedModel,
    texts: Sequence[TokenIds],
    *,
    bos_token_id: int,
    eos_token_id: int,
    quiet: bool = False,
) -> Likelihoods:
    """Score texts with a forward and a backward language model, each from end to end: the mean of the two likelihoods.

    Args:
        model: an ELMo's `AutoModelForPreTraining`, in evaluation mode.
        texts: token ids of each, without special tokens.
        bos_token_id: stands before every text, and is predicted by the backward direction.
        eos_token_id: stands behind every text, and is predicted by the forward direction.
        quiet: no progress bar.
    """
    rows = [np.array([bos_token_id, *text, eos_token_id], dtype=np.int64) for text in texts]
    lengths = np.array([len(row) for row in rows])
    nats = np.zeros(len(texts))
    for numbers in _batches(lengths, LOGITS_AT_ONCE // (2 * model.config.vocab_size), quiet=quiet):
        input_ids, attention_mask = _pad([rows[number] for number in numbers])
        input_ids, attention_mask = input_ids.to(model.device), attention_mask.to(model.device)
        outputs = model(input_ids=input_ids, attention_mask=attention_mask)
        inner = attention_mask[:, 1:].double()  # where there is a token and one before it
        after = token_log_probabilities(outputs.forward_logits[:, :-1], input_ids[:, 1:])
        before = token_log_probabilities(outputs.backward_logits[:, 1:], input_ids[:, :-1])
        nats[numbers] = ((after.double() + before.double()) * inner / 2).sum(1).cpu().numpy()
    return Likelihoods(nats, lengths - 1)


@torch.no_grad()
def pseudo_likelihoods(
    model: PreTrainedModel,
    texts: Sequence[TokenIds],
    *,
    cls_token_id: int,
    sep_token_id: int,
    mask_token_id: int,
    is_continuation: np.ndarray,
    quiet: bool = False,
) -> Likelihoods:
    """Score texts with a masked language model: every token is masked in turn, and so is the rest of its word behind it.

    Args:
        model: an `AutoModelForMaskedLM` of bertkit, in evaluation mode.
        texts: token ids of each, without special tokens; at most the model's positions less two.
        cls_token_id: stands before every text.
        sep_token_id: stands behind every text.
        mask_token_id: what a masked token is shown as.
        is_continuation: (vocab,) bool: which tokens continue a word.
        quiet: no progress bar.
    """
    nats = np.zeros(len(texts))
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])  # (rows,): a row masks one token
    place_of = np.concatenate([np.arange(len(text)) for text in texts]) if len(texts) else np.zeros(0, dtype=np.int64)
    lengths = np.array([len(text) + 2 for text in texts])[text_of]
    # The vocabulary is scored at one position a row, so the width of the hidden states bounds a batch instead.
    tokens_at_once = LOGITS_AT_ONCE // (16 * model.config.hidden_size)
    for numbers in _batches(lengths, tokens_at_once, quiet=quiet):
        rows, targets = [], []
        for number in numbers:
            tokens, place = np.array(texts[text_of[number]], dtype=np.int64), int(place_of[number])
            targets.append(tokens[place])
            shown = tokens.copy()
            shown[place] = mask_token_id
            for behind in range(place + 1, len(tokens)):
                if not is_continuation[tokens[behind]]:
                    break
                shown[behind] = mask_token_id
            rows.append(np.concatenate([[cls_token_id], shown, [sep_token_id]]))
        input_ids, attention_mask = _pad(rows)
        positions = torch.from_numpy(np.arange(len(rows)) * input_ids.shape[1] + place_of[numbers] + 1)
        device = model.device
        logits = model(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            label_positions=positions.to(device),
        ).logits  # (rows, vocab)
        scores = token_log_probabilities(logits, torch.tensor(np.array(targets), device=device))
        np.add.at(nats, text_of[numbers], scores.double().cpu().numpy())
    return Likelihoods(nats, np.array([len(text) for text in texts]))


def _batches(
    lengths: np.ndarray, tokens_at_once: int, *, quiet: bool, ties: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield the numbers of rows of about equal length, the longest first, as many as fit with their padding.

    Args:
        lengths: (rows,) tokens of each.
        tokens_at_once: most tokens of a batch, padding included; a single row may have more.
        quiet: no progress bar.
        ties: (rows,) which of equally long rows come first: the larger.
    """
    order = np.lexsort((np.arange(len(lengths)), -(lengths if ties is None else ties), -lengths))
    start = 0
    with tqdm(total=int(lengths.sum()), desc="scoring", unit=" tokens", unit_scale=True, disable=quiet) as bar:
        while start < len(order):
            count = max(tokens_at_once // max(int(lengths[order[start]]), 1), 1)
            numbers = order[start : start + count]
            yield numbers
            bar.update(int(lengths[numbers].sum()))
            start += count


def _pad(rows: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows side by side, filled up with 0 behind their ends, and where they are real: (rows, seq) int64 each."""
    width = max(len(row) for row in rows)
    padded = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return torch.from_numpy(padded), torch.from_numpy(mask)
