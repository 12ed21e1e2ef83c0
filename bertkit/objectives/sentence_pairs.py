"""Next sentence prediction: spans of text become pairs of segments, half of them with a second segment from elsewhere.

Devlin et al. 2019 (https://arxiv.org/abs/1810.04805), section 3.1 and appendix A.2: segment A is cut from segment B at a
sentence boundary; in half of the pairs B is replaced by text of the same length from another document. A replaced B begins
at a sentence, as true ones do, and ends at a sentence where the true one did, so that neither length nor punctuation gives
the answer away.
"""

import numpy as np

from bertkit.data.keyed_random import keyed_integers, keyed_uniform
from bertkit.data.row_stream import NO_PAIR, Examples
from bertkit.data.token_store import TokenStore
from bertkit.objectives.spans import Spans

IS_NEXT, NOT_NEXT = 0, 1
_ATTEMPTS = 32
_LONG_ENOUGH = 0.9  # a replacement cut at a sentence end is accepted at once from this share of the wanted length on


def _draw_replacements(
    store: TokenStore, starts: np.ndarray, lengths: np.ndarray, whole: np.ndarray, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw text of other documents to stand in for second segments.

    Args:
        store: the corpus.
        starts: (pairs,) where the pairs begin; names their documents, and is the key of the draw.
        lengths: (pairs,) tokens wanted.
        whole: (pairs,) bool: the text must end with a sentence, and may be shorter for it.
        seed: key of the draw.
        epoch: key of the draw.

    Returns:
        Starts and lengths, both (pairs,); length 0 where nothing was found in `_ATTEMPTS` draws.
    """
    sentence_starts, document_starts = store.sentence_starts, store.document_starts
    own_document = np.searchsorted(document_starts, starts, side="right") - 1
    found_start, found_length = np.zeros_like(starts), np.zeros_like(lengths)
    open_pairs = np.arange(len(starts))
    for attempt in range(_ATTEMPTS):
        key = starts[open_pairs]
        wanted = lengths[open_pairs]
        position = keyed_integers(int(document_starts[-1]), seed, "other document", epoch, key, attempt)
        document = np.searchsorted(document_starts, position, side="right") - 1
        document_start, document_end = document_starts[document], document_starts[document + 1]
        latest = np.where(whole[open_pairs], document_end - 1, document_end - wanted)
        sentence = np.searchsorted(sentence_starts, np.minimum(position, latest), side="right") - 1
        start = sentence_starts[np.maximum(sentence, 0)]
        last_end = sentence_starts[np.searchsorted(sentence_starts, start + wanted, side="right") - 1]
        end = np.where(whole[open_pairs], np.minimum(last_end, document_end), start + wanted)
        length = end - start
        valid = (document != own_document[open_pairs]) & (start >= document_start) & (length > 0)
        better = valid & (length > found_length[open_pairs])
        found_start[open_pairs[better]] = start[better]
        found_length[open_pairs[better]] = length[better]
        open_pairs = open_pairs[found_length[open_pairs] < _LONG_ENOUGH * wanted]
        if not len(open_pairs):
            break
    return found_start, found_length


def pair_sentences(store: TokenStore, spans: Spans, *, seed: int, epoch: int) -> Examples:
    """Make sentence pairs of the spans of a block.

    A span with no sentence boundary inside stays one segment and asks no question.

    Args:
        store: the corpus that the spans lie in.
        spans: spans of text, in order of rows.
        seed: key of every choice.
        epoch: key of every choice.
    """
    start, length = spans.start, spans.length
    first_boundary = np.searchsorted(store.sentence_starts, start, side="right")
    boundaries = np.searchsorted(store.sentence_starts, start + length, side="left") - first_boundary
    chosen = first_boundary + keyed_integers(np.maximum(boundaries, 1), seed, "split", epoch, start)
    split = np.where(boundaries > 0, store.sentence_starts[np.minimum(chosen, len(store.sentence_starts) - 1)], 0)

    is_pair = boundaries > 0
    first_length = np.where(is_pair, split - start, length)
    second_start = np.where(is_pair, split, 0)
    second_length = np.where(is_pair, start + length - split, 0)
    label = np.where(is_pair, IS_NEXT, NO_PAIR)

    replace = np.flatnonzero(is_pair & (keyed_uniform(seed, "next sentence", epoch, start) < 0.5))
    span_end = (start + length)[replace]
    ends_sentence = store.sentence_starts[np.searchsorted(store.sentence_starts, span_end)] == span_end
    other_start, other_length = _draw_replacements(
        store, start[replace], second_length[replace], ends_sentence, seed=seed, epoch=epoch
    )
    found = other_length > 0
    second_start[replace[found]] = other_start[found]
    second_length[replace[found]] = other_length[found]
    label[replace[found]] = NOT_NEXT
    return Examples(
        row=spans.row,
        start=start,
        length=first_length,
        second_start=second_start,
        second_length=second_length,
        next_sentence_label=label,
        epoch=np.full_like(start, epoch),
    )
