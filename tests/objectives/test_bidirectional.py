"""The objective `bidirectional` asks at every token of an example for the next and for the previous one."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.bidirectional import BidirectionalArguments, BidirectionalObjective

BOS, EOS = 2, 3


def batches(tokenizer, store, *, seed=0, training=True, **settings):
    objective = BidirectionalObjective(BidirectionalArguments(**settings), tokenizer)
    return ObjectiveBatches(objective, store, batch_size=16, seed=seed, training=training)


def examples_of(batch):
    """Cut a batch back into its examples: (input_ids, shift_labels, backward_labels) each."""
    for row, positions in enumerate(batch["position_ids"]):
        starts = np.flatnonzero(positions == 0)
        ends = [*starts[1:], batch["attention_mask"][row].sum()]
        for start, end in zip(starts, ends, strict=True):
            yield tuple(batch[name][row, start:end] for name in ("input_ids", "shift_labels", "backward_labels"))


def test_labels_are_the_neighbours_within_the_example(tokenizer, corpora):
    text = corpora["paragraphs"].token_ids.tobytes()
    for input_ids, shift_labels, backward_labels in examples_of(
        batches(tokenizer, corpora["paragraphs"]).batch(0, 32, 0.0)
    ):
        assert input_ids[0] == BOS and input_ids[-1] == EOS
        assert input_ids[1:-1].astype(np.uint16).tobytes() in text
        assert (shift_labels[:-1] == input_ids[1:]).all() and shift_labels[-1] == -100
        assert (backward_labels[1:] == input_ids[:-1]).all() and backward_labels[0] == -100


@pytest.mark.parametrize("name", ["books", "lines"])
def test_every_token_is_predicted_once_an_epoch_in_each_direction(tokenizer, corpora, name):
    store = corpora[name]
    drawn = batches(tokenizer, store)
    text = np.bincount(store.token_ids, minlength=1000)
    parts = [drawn.batch(start, min(start + 256, len(drawn)), 0.0) for start in range(0, len(drawn), 256)]
    for labels in ("shift_labels", "backward_labels"):
        found = np.concatenate([part[labels][part[labels] != -100] for part in parts])
        missing = (text - np.bincount(found, minlength=1000))[4:]
        assert missing.min() >= 0 and missing.sum() <= 0.001 * len(store.token_ids)


def test_a_batch_depends_on_its_place_alone_and_evaluation_not_on_the_seed(tokenizer, corpora):
    whole = batches(tokenizer, corpora["books"]).batch(100, 164, 0.0)
    again = batches(tokenizer, corpora["books"])
    again.batch(5, 37, 0.0)
    half = again.batch(132, 164, 1.0)
    other = batches(tokenizer, corpora["books"], seed=1).batch(100, 164, 0.0)
    assert (whole["input_ids"] != other["input_ids"]).mean() > 0.9
    for name, array in whole.items():
        assert (array[32:] == half[name]).all()
    evaluations = [batches(tokenizer, corpora["books"], seed=seed, training=False).batch(0, 8, 0.0) for seed in (0, 1)]
    assert all((array == evaluations[1][name]).all() for name, array in evaluations[0].items())


def test_perplexity_and_bits_per_byte_of_both_directions_are_those_of_their_losses(tokenizer, corpora):
    drawn = batches(tokenizer, corpora["paragraphs"])
    evaluation = drawn.evaluation()
    tokens = labels = 0
    for start in (0, 16):
        batch = {name: torch.from_numpy(array) for name, array in drawn.batch(start, start + 16, 0.0).items()}
        count = int((batch["shift_labels"] != -100).sum())
        tokens += int((batch["input_ids"] > 4).sum())
        labels += count
        losses = {"forward_loss": torch.tensor(3.0 * count), "backward_loss": torch.tensor(2.0 * count)}
        evaluation.add(losses, batch)
    found = evaluation.compute()
    assert set(found) | {"loss"} == set(drawn.metric_names)
    for way, loss in (("forward", 3.0), ("backward", 2.0)):
        assert found[f"{way}_loss"] == pytest.approx(loss)
        assert found[f"{way}_perplexity_per_token"] == pytest.approx(math.exp(loss))
        assert found[f"{way}_bits_per_byte"] == pytest.approx(loss * labels / (4.0 * tokens) / math.log(2))


def test_the_floor_counts_the_ends_of_the_examples(tokenizer):
    found = []
    store = SimpleNamespace(
        document_starts=np.array([0, 30, 130]), unigram_entropy=lambda ends: found.append(ends) or 1.5
    )
    objective = BidirectionalObjective(BidirectionalArguments(block_size=32), tokenizer)
    assert objective.loss_floor(store) == 1.5 and found == [1 + 4]
