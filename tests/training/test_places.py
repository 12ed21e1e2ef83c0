"""Where the examples of every micro-batch lie, for any number of processes and any batch-size schedule."""

from itertools import islice

import torch
from hypothesis import given
from hypothesis import strategies as st

from bertkit.training.batch_sizes import BatchSizes
from bertkit.training.places import Places


@st.composite
def batch_sizes(draw, smallest=1):
    first = draw(st.integers(smallest, 20))
    return BatchSizes(final=draw(st.integers(first, 40)), first=first, growing_steps=draw(st.integers(0, 9)))


@given(batch_sizes(), st.integers(0, 20))
def test_the_examples_before_a_step_are_those_of_the_steps_before_it(sizes, step):
    assert sizes.before(step) == sum(map(sizes.of, range(step)))
    assert sizes.of(0) == (sizes.first if sizes.growing_steps else sizes.final)
    assert sizes.of(sizes.growing_steps) == sizes.final


@given(batch_sizes(), st.integers(0, 500))
def test_steps_for_examples_are_just_enough(sizes, examples):
    steps = sizes.steps_for(examples)
    assert sizes.before(steps) >= examples
    assert steps == 0 or sizes.before(steps - 1) < examples


@given(st.data(), st.integers(1, 4), st.integers(1, 9) | st.none(), st.integers(0, 12))
def test_all_processes_together_cover_a_step_once_in_micro_batches_that_are_not_empty(data, processes, micro, step):
    sizes = data.draw(batch_sizes(smallest=processes))
    covered = []
    for rank in range(processes):
        places = Places(sizes, rank, processes, micro, max_steps=99, share_of_time=torch.zeros(()))
        numbers = list(islice(places.from_step(step), places.micro_batches(step)))
        assert {number[0] for number in numbers} == {step}
        for number in numbers:
            start, stop = places.bounds(*number)
            assert stop > start
            covered += range(start, stop)
    assert sorted(covered) == list(range(sizes.before(step), sizes.before(step + 1)))
