"""Processes that prepare batches may be started anew instead of forked, as on macOS and by default from Python 3.14 on."""

import multiprocessing

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bertkit.tasks.labelled_data import LabelledText
from bertkit.tasks.sequence_classification import SequenceClassificationArguments, SequenceClassificationTask
from bertkit.tokenization import load_tokenizer
from bertkit.training.batch_sizes import BatchSizes
from bertkit.training.batches import MicroBatches
from bertkit.training.places import Places
from tests.training.runs import assert_same_bits


@pytest.fixture
def spawning():
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def test_a_run_whose_batches_are_prepared_in_a_new_process_is_the_same_run(run, spawning):
    settings = {"training.max_steps": 3, "objective.mlm_probability_end": 0.3}
    assert_same_bits(run(**settings), run(**settings, **{"training.dataloader_num_workers": 1}))


def test_labelled_batches_come_out_of_a_new_process_as_out_of_this_one(tokenizer_folder):
    texts = [LabelledText("ba do ki " * (number % 7 + 1), None, str(number % 2), "") for number in range(30)]
    task = SequenceClassificationTask(
        SequenceClassificationArguments(max_length=32), load_tokenizer(tokenizer_folder), ("0", "1")
    )
    batches = task.batches(texts, seed=3, training=True)
    sizes = BatchSizes(final=8, first=8, growing_steps=0)
    places = Places(sizes, rank=0, processes=1, micro_batch_size=None, max_steps=5, share_of_time=torch.zeros(()))
    micro_batches = MicroBatches(batches, bounds=places.bounds_of, progress=places.progress_of)
    numbers = list(places.from_step(0))
    here = [micro_batches[number] for number in numbers]
    loader = DataLoader(micro_batches, sampler=numbers, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    there = list(loader)
    assert len(here) == len(there) == 5
    for one, other in zip(here, there, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
