"""What every objective of the table promises, whatever it makes of the text."""

import dataclasses

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from transformers.utils import ModelOutput

from bertkit.objectives import OBJECTIVES
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.training.batches import digest

SETTINGS = {
    **{name: (name, {}) for name in OBJECTIVES},
    "masked without next sentences": ("masked", {"next_sentence": False}),
    "causal with a carried state": ("causal", {"carry_state": True}),
}
EVERY = pytest.mark.parametrize("of", SETTINGS)
BATCH_SIZE = 16


@pytest.fixture
def drawn_of(tokenizer, make_corpus):
    """Return a function: name of the settings -> batches of pairs of sentences."""
    store = make_corpus(np.full(3000, 2), mean_sentence=12)

    def build(of, **how):
        name, settings = SETTINGS[of]
        objective = OBJECTIVES[name](OBJECTIVES[name].arguments_class(**settings), tokenizer)
        return ObjectiveBatches(objective, store, batch_size=BATCH_SIZE, **{"training": True} | how)

    return build


def tensors(batch):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


@EVERY
def test_the_digest_of_a_batch_is_that_of_its_parts_and_of_no_other_batch(drawn_of, of):
    drawn = drawn_of(of)

    def digest_of(start, stop):
        return digest(tensors(drawn.batch(start, stop, 0.0)), drawn.label_counts)

    whole = digest_of(16, 32)
    for middle in (17, 21, 30):
        assert (digest_of(16, middle) + digest_of(middle, 32)) % 2**64 == whole
    assert len({digest_of(start, start + 16) for start in range(0, 160, 16)} | {whole}) == 10
    changed = tensors(drawn.batch(16, 32, 0.0))
    counted = next(iter(drawn.label_counts.values()))
    first = tuple(index[0] for index in (changed[counted] != -100).nonzero(as_tuple=True))
    changed[counted][first] += 1
    assert digest(changed, drawn.label_counts) != whole


@EVERY
def test_a_batch_is_the_same_in_every_process_and_has_the_labels_that_are_counted(drawn_of, of):
    one, other = drawn_of(of), drawn_of(of)
    other.batch(100, 116, 0.3)
    batch, again = one.batch(48, 64, 0.5), other.batch(48, 64, 0.5)
    assert batch.keys() == again.keys() and all((array == again[name]).all() for name, array in batch.items())
    for labels in one.label_counts.values():
        assert batch[labels].dtype == np.int64 and (batch[labels] != -100).any()
    assert 0 < one.num_tokens(tensors(batch)) <= one.tokens_per_example * 16
    assert one.objective.max_positions is None or max(batch["input_ids"].shape) <= one.objective.max_positions


@EVERY
def test_no_seed_and_no_progress_change_an_evaluation(drawn_of, of):
    one, other = (drawn_of(of, training=False, seed=seed) for seed in (0, 1))
    assert len(one) == len(other)
    batch, again = one.batch(0, 16, 0.0), other.batch(0, 16, 0.9)
    assert all((array == again[name]).all() for name, array in batch.items())


@EVERY
def test_losses_and_perplexities_are_among_the_metrics(drawn_of, of):
    drawn = drawn_of(of)
    assert drawn.metric_names[0] == "loss" and set(drawn.loss_terms) <= set(drawn.metric_names)
    assert {*drawn.objective.perplexities, *drawn.objective.perplexities.values()} <= set(drawn.metric_names)
    assert drawn.loss_floor > 0 and len(drawn) > 0


@EVERY
def test_a_loss_that_diverged_has_an_infinite_perplexity(drawn_of, of):
    drawn = drawn_of(of, training=False)
    evaluation = drawn.evaluation()
    evaluation.totals = {name: torch.tensor([3e4, 3.0]) for name in drawn.metric_names}
    metrics = evaluation.compute()
    for perplexity, loss in drawn.objective.perplexities.items():
        assert metrics[loss] == 1e4 and metrics[perplexity] == float("inf")


@EVERY
def test_a_nat_is_as_many_bits_a_byte_in_the_log_as_in_an_evaluation_of_the_whole_text(drawn_of, of):
    drawn = drawn_of(of, training=False)
    assert {*drawn.bits_per_nat} == {name for name in drawn.metric_names if name.endswith("byte")}
    bits = {name: 0.0 for name in drawn.bits_per_nat}
    sizes = {**bits}
    for start in range(0, len(drawn) if bits else 0, BATCH_SIZE):
        batch = tensors(drawn.batch(start, min(start + BATCH_SIZE, len(drawn)), 0.0))
        # A nat for each label of each loss.
        counts = [(batch[labels] != -100).sum() for labels in drawn.label_counts.values()]
        outputs = ModelOutput({"loss": counts[0], **dict(zip(drawn.loss_terms, counts, strict=True))})
        for name, (total, size) in drawn.objective.metrics(outputs, batch, drawn.store).items():
            if name in bits:
                bits[name] += float(total)
                sizes[name] += float(size)
    for name, (_, of_a_nat) in drawn.bits_per_nat.items():
        assert bits[name] / sizes[name] == pytest.approx(of_a_nat, rel=1e-6), name


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_setting_has_help_and_the_name_is_that_of_the_table(name):
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    arguments = OBJECTIVES[name].arguments_class
    assert arguments().name == name
    for section in (arguments, OBJECTIVES[name].data_class):
        parser = ArgumentParser()
        parser.add_class_arguments(section)
        for field in dataclasses.fields(section):
            assert parser._option_string_actions[f"--{field.name}"].help, field.name


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_that_are_too_short_are_refused_alike(name):
    arguments = OBJECTIVES[name].arguments_class
    if "block_size" not in {field.name for field in dataclasses.fields(arguments)}:
        pytest.skip("it has pairs, and no rows of one length")
    assert arguments(block_size=16).block_size == 16
    with pytest.raises(ValueError, match=r"^objective\.block_size is 15; a row needs at least 16 tokens$"):
        arguments(block_size=15)
