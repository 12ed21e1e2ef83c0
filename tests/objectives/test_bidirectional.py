"""The objective `bidirectional` asks at every token for the next and for the previous one of its document."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bertkit.data import row_stream
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.bidirectional import BidirectionalArguments, BidirectionalObjective
from bertkit.objectives.causal import CausalArguments, CausalObjective
from bertkit.objectives.spans import Spans, whole_spans

BOS, EOS = 2, 3


def batches(tokenizer, store, *, seed=0, training=True, **settings):
    objective = BidirectionalObjective(BidirectionalArguments(**settings), tokenizer)
    return ObjectiveBatches(objective, store, batch_size=16, seed=seed, training=training)


def examples_of(batch):
    """Cut a batch back into its examples: (input_ids, shift_labels, backward_labels) each."""
    for row, positions in enumerate(batch["position_ids"]):
        starts = np.flatnonzero(positions == 0)
        for start, end in pairwise([*starts, batch["attention_mask"][row].sum()]):
            yield tuple(batch[name][row, start:end] for name in ("input_ids", "shift_labels", "backward_labels"))


def assert_labels_are_the_documents(store, spans, examples):
    """Read the labels along each document, span after span: they are its own tokens, in order, and its end or beginning."""
    after, before = ([[] for _ in store.document_starts[1:]] for _ in range(2))
    in_order = sorted(zip(spans.start, spans.length, examples, strict=True), key=lambda span: span[0])
    for start, length, (input_ids, shift_labels, backward_labels) in in_order:
        assert input_ids.tolist() == [BOS, *store.token_ids[start : start + length], EOS]
        assert shift_labels[-1] == backward_labels[0] == -100
        assert (shift_labels[1:-1] != -100).all() and (backward_labels[1:-1] != -100).all()
        assert (shift_labels[0] != -100) == (start in store.document_starts)
        assert (backward_labels[-1] != -100) == (start + length in store.document_starts)
        document = np.searchsorted(store.document_starts, start, side="right") - 1
        after[document] += shift_labels[shift_labels != -100].tolist()
        before[document] += backward_labels[backward_labels != -100].tolist()
    documents = [store.token_ids[first:end].tolist() for first, end in pairwise(store.document_starts)]
    assert after == [[*document, EOS] for document in documents]
    assert before == [[BOS, *document] for document in documents]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), data=st.data())
def test_however_documents_are_cut_each_token_is_a_label_once_forward_and_once_backward(
    tokenizer, make_corpus, lengths, data
):
    store = make_corpus(lengths, mean_sentence=1)
    cuts = data.draw(st.sets(st.integers(0, int(store.document_starts[-1]) - 1)))
    starts = np.array(sorted({*cuts, *store.document_starts[:-1].tolist()}))
    spans = Spans(start=starts, length=np.diff([*starts, store.document_starts[-1]]), row=np.arange(len(starts)))
    arguments = {"block_size": max(16, int(spans.length.max()) + 2)}
    ways, forward = (
        objective.collate(store, whole_spans(spans, 0), num_rows=len(starts), progress=0.0, training=True, seed=0)
        for objective in (
            BidirectionalObjective(BidirectionalArguments(**arguments), tokenizer),
            CausalObjective(CausalArguments(**arguments), tokenizer),
        )
    )
    assert_labels_are_the_documents(store, spans, examples_of(ways))
    assert (ways["shift_labels"] == forward["shift_labels"]).all()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sentences=st.lists(st.integers(1, 60), min_size=3, max_size=40),
    block_size=st.integers(16, 90),
    epoch=st.integers(0, 3),
)
def test_packed_rows_of_any_size_ask_for_the_whole_text_both_ways_as_causal_does_forward(
    tokenizer, make_corpus, sentences, block_size, epoch
):
    store = make_corpus(sentences, mean_sentence=4)
    drawn = batches(tokenizer, store, block_size=block_size)
    causal = CausalObjective(CausalArguments(block_size=block_size), tokenizer)
    forward = ObjectiveBatches(causal, store, batch_size=16, training=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_stream, "BLOCK_TOKENS", 100)  # several blocks
        spans, others = (each._stream.rows(epoch * len(each), (epoch + 1) * len(each)) for each in (drawn, forward))
        batch, labels = epoch_of(drawn, epoch), epoch_of(forward, epoch)["shift_labels"]
    assume(spans.length.sum() == others.length.sum() == len(store.token_ids))  # packing found room for every token
    assert_labels_are_the_documents(store, spans, examples_of(batch))
    counts = [np.bincount(found[found != -100], minlength=1000) for found in (batch["shift_labels"], labels)]
    assert (counts[0] == counts[1]).all()


def epoch_of(drawn, number=0):
    return drawn.batch(number * len(drawn), (number + 1) * len(drawn), 0.0)


@pytest.mark.parametrize("name", ["books", "lines"])
def test_every_token_and_every_end_is_predicted_once_an_epoch_in_each_direction(tokenizer, corpora, name):
    store = corpora[name]
    batch = epoch_of(batches(tokenizer, store), number=1)
    for name, end in (("shift_labels", EOS), ("backward_labels", BOS)):
        expected = np.bincount(store.token_ids, minlength=1000)
        expected[end] = store.metadata.num_documents
        missing = expected - np.bincount(batch[name][batch[name] != -100], minlength=1000)
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
    nats = {"forward": 3.0, "backward": 2.0}
    labels, of_text = (dict.fromkeys(nats, 0) for _ in range(2))
    for start in (0, 16):
        batch = {name: torch.from_numpy(array) for name, array in drawn.batch(start, start + 16, 0.0).items()}
        losses = {}
        for way, name in (("forward", "shift_labels"), ("backward", "backward_labels")):
            count = int((batch[name] != -100).sum())
            labels[way] += count
            of_text[way] += int((batch[name] > 4).sum())
            losses[f"{way}_loss"] = torch.tensor(nats[way] * count)
        evaluation.add(losses, batch)
    found = evaluation.compute()
    assert labels["forward"] != labels["backward"]  # documents begin in a batch that end in another
    assert set(found) | {"loss"} == set(drawn.metric_names)
    for way, loss in nats.items():
        assert found[f"{way}_loss"] == pytest.approx(loss)
        assert found[f"{way}_perplexity_per_token"] == pytest.approx(math.exp(loss))
        bits = loss * labels[way] / (4.0 * of_text[way]) / math.log(2)
        assert found[f"{way}_bits_per_byte"] == pytest.approx(bits)


def test_the_floor_and_the_bits_of_a_nat_count_the_ends_of_documents_and_not_of_examples(tokenizer):
    found = []
    store = SimpleNamespace(
        document_starts=np.array([0, 30, 130]),
        token_ids=np.full(130, 7),
        metadata=SimpleNamespace(num_documents=2),
        bytes_per_token=4.0,
        unigram_entropy=lambda ends: found.append(ends) or 1.5,
    )
    objective = BidirectionalObjective(BidirectionalArguments(block_size=32), tokenizer)
    assert objective.loss_floor(store) == 1.5 and found == [2]
    for way in ("forward", "backward"):
        loss, bits = objective.bits_per_nat(store)[f"{way}_bits_per_byte"]
        assert loss == f"{way}_loss" and bits == pytest.approx(132 / (130 * 4.0) / math.log(2))
