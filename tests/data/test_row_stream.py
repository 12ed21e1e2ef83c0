"""The row at any place of the stream is found without walking there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.row_stream import BLOCK_TOKENS, BLOCKS_PER_WINDOW, Examples, RowStream, block_boundaries


def plan_one_example_a_row(rows_per_block):
    def plan(epoch, block):
        rows = np.arange(rows_per_block[block])
        first = int(rows_per_block[:block].sum())
        return Examples(rows, first + rows, rows * 0 + 1, rows * 0, rows * 0, rows * 0 - 100, rows * 0 + epoch)

    return plan


def stream(rows_per_block, **options):
    rows_per_block = np.array(rows_per_block)
    return RowStream(rows_per_block, plan_one_example_a_row(rows_per_block), **{"seed": 0, "shuffle": True, **options})


blocks = st.lists(st.integers(1, 9), min_size=1, max_size=3 * BLOCKS_PER_WINDOW)


@given(blocks, st.integers(0, 1000))
def test_every_epoch_holds_every_row_once(rows_per_block, seed):
    rows = stream(rows_per_block, seed=seed)
    total = sum(rows_per_block)
    for epoch in (0, 1, 5):
        examples = rows.rows(epoch * total, (epoch + 1) * total)
        assert sorted(examples.start) == list(range(total))
        assert set(examples.epoch) == {epoch}


@given(blocks, st.data())
def test_a_row_is_the_same_alone_as_in_any_batch_even_across_epochs(rows_per_block, data):
    total = sum(rows_per_block)
    start = data.draw(st.integers(0, 3 * total))
    whole = stream(rows_per_block).rows(start, start + 2 * total)
    number = data.draw(st.integers(0, 2 * total - 1))
    alone = stream(rows_per_block).rows(start + number, start + number + 1)
    assert alone.start[0] == whole.start[number]
    assert whole.row.tolist() == list(range(2 * total))


def test_epochs_and_seeds_differ_in_order():
    orders = [stream([50] * 20, seed=seed).rows(e * 1000, (e + 1) * 1000).start for seed in (0, 1) for e in (0, 1)]
    for one, order in enumerate(orders):
        for other in orders[one + 1 :]:
            assert (order == other).mean() < 0.02


def test_without_shuffling_rows_come_in_the_order_of_the_corpus():
    assert stream([3, 4, 5], shuffle=False).rows(0, 24).start.tolist() == [*range(12), *range(12)]


def test_a_row_a_billion_steps_on_is_found_without_planning_more_than_its_window():
    planned = []
    plan = plan_one_example_a_row(np.full(100, 50))

    def counting_plan(epoch, block):
        planned.append((epoch, block))
        return plan(epoch, block)

    rows = RowStream(np.full(100, 50), counting_plan, seed=0, shuffle=True)
    rows.rows(10**9, 10**9 + 32)
    assert len(planned) <= BLOCKS_PER_WINDOW


@pytest.mark.parametrize("size", [10, 1000, BLOCK_TOKENS // 3, 5 * BLOCK_TOKENS])
def test_blocks_part_the_documents_at_about_a_million_tokens(size):
    document_starts = np.arange(0, 20 * BLOCK_TOKENS, size)
    boundaries = block_boundaries(document_starts)
    assert boundaries[0] == 0 and boundaries[-1] == len(document_starts) - 1
    assert (np.diff(boundaries) > 0).all()
    tokens = np.diff(document_starts[boundaries])
    assert tokens.max() <= max(2 * BLOCK_TOKENS, size)
