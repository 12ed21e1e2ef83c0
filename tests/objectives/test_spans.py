"""Documents are cut into spans that hold every token once, in a number of rows known beforehand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.row_stream import block_boundaries
from bertkit.objectives.spans import SpanCutter

documents = st.lists(st.integers(1, 700), min_size=1, max_size=60).map(lambda n: np.concatenate([[0], np.cumsum(n)]))


def cutter(**options):
    return SpanCutter(**{"block_size": 64, "special_tokens": 2, "short_sequence_prob": 0.1, "seed": 0, **options})


@given(documents, st.integers(0, 50), st.sampled_from([2, 3]), st.sampled_from([0.0, 0.1, 1.0]))
def test_a_block_fills_exactly_the_rows_announced_in_every_epoch(document_starts, epoch, special_tokens, short):
    cut = cutter(special_tokens=special_tokens, short_sequence_prob=short)
    announced = cut.rows_per_block(document_starts, np.array([0, len(document_starts) - 1]))
    spans = cut.plan(document_starts, epoch=epoch, block=0)
    assert spans.row.max() < announced[0]
    assert (np.diff(spans.row) >= 0).all()
    assert np.bincount(spans.row, weights=spans.length + special_tokens).max() <= 64
    assert spans.length.min() >= 1


@given(documents, st.integers(0, 50))
def test_spans_do_not_overlap_nor_cross_documents_and_leave_next_to_nothing_out(document_starts, epoch):
    spans = cutter().plan(document_starts, epoch=epoch, block=0)
    order = np.argsort(spans.start)
    start, end = spans.start[order], (spans.start + spans.length)[order]
    assert (start[1:] >= end[:-1]).all()
    first = np.searchsorted(document_starts, start, side="right")
    assert (end <= document_starts[first]).all()
    assert spans.length.sum() >= document_starts[-1] - 64


def test_cuts_fall_elsewhere_in_another_epoch():
    document_starts = np.array([0, 10_000, 20_000])
    one, other = (set(cutter().plan(document_starts, epoch=epoch, block=0).start) for epoch in (0, 1))
    assert len(one & other) < 0.2 * len(one)


def test_most_rows_are_one_full_span_and_the_asked_share_is_cut_in_two():
    document_starts = np.arange(0, 1_000_000, 50_000)
    spans = cutter(short_sequence_prob=0.25).plan(document_starts, epoch=0, block=0)
    full = (spans.length == 62).sum()
    assert full / (950_000 / 62) == pytest.approx(0.75, abs=0.01)


def test_rows_per_block_add_up_block_by_block():
    document_starts = np.concatenate([[0], np.cumsum(np.random.default_rng(0).integers(1, 5000, 3000))])
    boundaries = block_boundaries(document_starts)
    together = cutter().rows_per_block(document_starts, boundaries)
    for block, (first, last) in enumerate(itertools.pairwise(boundaries)):
        alone = cutter().rows_per_block(document_starts[first : last + 1], np.array([0, last - first]))
        assert alone[0] == together[block]
