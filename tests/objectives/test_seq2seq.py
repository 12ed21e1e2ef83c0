"""The objective `seq2seq` shows every pair once an epoch, in batches of about one length."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.data import row_stream
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.seq2seq import Seq2SeqArguments, Seq2SeqObjective

BOS, EOS = 2, 3


def batches(tokenizer, store, *, batch_size=16, seed=0, training=True, **settings):
    objective = Seq2SeqObjective(Seq2SeqArguments(**settings), tokenizer)
    return ObjectiveBatches(objective, store, batch_size=batch_size, seed=seed, training=training)


@pytest.fixture(scope="session")
def pairs(make_corpus):
    """Five thousand pairs."""
    return make_corpus(np.full(5000, 2), mean_sentence=15)


def pairs_of(batch):
    """Return the pairs of a batch: (source, target) token ids each."""
    for input_ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        source, target = input_ids[mask == 1], labels[labels != -100]
        assert source[0] == BOS and source[-1] == EOS and target[-1] == EOS
        assert (np.diff(mask) <= 0).all() and (np.diff((labels != -100).astype(int)) <= 0).all()
        yield tuple(source[1:-1].tolist()), tuple(target[:-1].tolist())


def expected_pairs(store, max_source=126, max_target=127):
    found = []
    sentences = np.split(store.token_ids, store.sentence_starts[1:-1])
    numbers = np.searchsorted(store.sentence_starts, store.document_starts)
    for first, last in pairwise(numbers):
        if last - first == 2 and len(sentences[first]) <= max_source and len(sentences[first + 1]) <= max_target:
            found.append((tuple(sentences[first].tolist()), tuple(sentences[first + 1].tolist())))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sentences=st.lists(st.sampled_from([2, 2, 2, 1, 3]), min_size=2, max_size=60).filter(lambda of: 2 in of),
    batch_size=st.integers(1, 9),
    epoch=st.integers(0, 2),
    max_length=st.integers(6, 20),
)
def test_every_pair_is_shown_once_an_epoch_but_for_those_that_fill_its_last_step(
    tokenizer, make_corpus, sentences, batch_size, epoch, max_length
):
    store = make_corpus(sentences, mean_sentence=5)
    limits = {"max_source_length": max_length, "max_target_length": max_length + 2}
    expected = sorted(expected_pairs(store, max_length - 2, max_length + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_stream, "BLOCK_TOKENS", 50)
        patch.setattr("bertkit.data.pair_batches.BATCHES_AT_ONCE", 3)
        drawn = batches(tokenizer, store, batch_size=batch_size, **limits)
        if not expected:
            with pytest.raises(ValueError, match=r"0 of .* are used"):
                len(drawn)
            return
        shown = [
            pair
            for start in range(epoch * len(drawn), (epoch + 1) * len(drawn), batch_size)
            for pair in pairs_of(drawn.batch(start, start + batch_size, 0.0))
        ]
        evaluation = batches(tokenizer, store, batch_size=batch_size, training=False, **limits)
        asked = [*pairs_of(evaluation.batch(0, len(evaluation), 0.0))]
    assert sorted(asked) == expected
    assert len(shown) == -(-len(expected) // batch_size) * batch_size
    for pair in expected:
        shown.remove(pair)
    assert len(shown) < batch_size and set(shown) <= set(expected)


def test_little_padding_is_computed_and_batches_come_in_no_order_of_length(tokenizer, pairs):
    drawn = batches(tokenizer, pairs)
    real = computed = 0
    widths = []
    for start in range(0, len(drawn), 16):
        batch = drawn.batch(start, start + 16, 0.0)
        real += batch["attention_mask"].sum() + (batch["labels"] != -100).sum()
        computed += batch["input_ids"].size + batch["labels"].size
        widths.append(batch["labels"].shape[1])
    assert real / computed > 0.9
    assert abs(np.corrcoef(widths[:-1], widths[1:])[0, 1]) < 0.3


def test_a_batch_depends_on_its_place_alone(tokenizer, pairs):
    whole = [*pairs_of(batches(tokenizer, pairs).batch(320, 384, 0.0))]
    again = batches(tokenizer, pairs)
    again.batch(5, 37, 0.0)
    parts = [pair for bounds in pairwise((320, 326, 350, 384)) for pair in pairs_of(again.batch(*bounds, 0.9))]
    assert parts == whole


def test_another_seed_or_epoch_gives_another_order_and_evaluation_never_does(tokenizer, pairs):
    drawn = batches(tokenizer, pairs)
    first = set(pairs_of(drawn.batch(0, 64, 0.0)))
    assert len(first & set(pairs_of(drawn.batch(len(drawn), len(drawn) + 64, 0.0)))) < 8
    assert len(first & set(pairs_of(batches(tokenizer, pairs, seed=1).batch(0, 64, 0.0)))) < 8
    evaluations = [batches(tokenizer, pairs, training=False, seed=seed).batch(0, 64, 0.0) for seed in (0, 1)]
    assert all((array == evaluations[1][name]).all() for name, array in evaluations[0].items())


def test_a_far_step_costs_what_a_near_one_does(tokenizer, pairs, monkeypatch):
    monkeypatch.setattr(row_stream, "BLOCK_TOKENS", 5000)
    drawn = batches(tokenizer, pairs)
    line, looked_at = drawn._stream.line, []
    document_sizes = line.document_sizes
    monkeypatch.setattr(line, "document_sizes", lambda *of: looked_at.append(of) or document_sizes(*of))
    drawn.batch(160, 176, 0.0)
    near = len(looked_at)
    drawn.batch(16_000_000, 16_000_016, 0.0)
    assert 0 < len(looked_at) - near <= near + 2 < len(line.block_sizes)


def test_what_is_left_out_is_counted(tokenizer, make_corpus):
    store = make_corpus([2] * 50 + [1] * 3 + [3] * 4, mean_sentence=10)
    store.metadata.num_documents = 57
    expected = len(expected_pairs(store, 10, 11))
    objective = Seq2SeqObjective(Seq2SeqArguments(max_source_length=12, max_target_length=12), tokenizer)
    finding = objective.checks(store)[0]
    assert finding.verdict == "warning" and 0 < expected < 50
    assert f"{expected} of 57 are used; {50 - expected} are longer" in finding.what and "7 are not two" in finding.what
    assert Seq2SeqObjective(Seq2SeqArguments(), tokenizer).checks(make_corpus([2] * 9))[0].verdict == "ok"
    assert Seq2SeqObjective(Seq2SeqArguments(), tokenizer).checks(make_corpus([3] * 9))[0].verdict == "stop"


def test_floor_and_bits_per_byte_are_those_of_the_targets(tokenizer, pairs):
    drawn = batches(tokenizer, pairs)
    targets = [token for _, target in expected_pairs(pairs) for token in target]
    counts = np.array([*np.unique(targets, return_counts=True)[1], 5000])
    shares = counts / counts.sum()
    assert drawn.loss_floor == pytest.approx(-(shares * np.log(shares)).sum())
    batch = {name: torch.from_numpy(array) for name, array in drawn.batch(0, 16, 0.0).items()}
    labels = int((batch["labels"] != -100).sum())
    assert drawn.num_tokens(batch) == int(batch["attention_mask"].sum()) + labels
    evaluation = drawn.evaluation()
    evaluation.add(SimpleNamespace(loss=torch.tensor(2.0 * labels)), batch)
    found = evaluation.compute()
    assert tuple(found) == ("loss", "bits_per_target_byte", "teacher_forced_perplexity_per_token")
    assert set(found) == set(drawn.metric_names)
    assert found["teacher_forced_perplexity_per_token"] == pytest.approx(math.exp(2))
    bytes_per_token = pairs.sentence_bytes[1::2].sum() / len(targets)
    assert found["bits_per_target_byte"] == pytest.approx(2 * labels / math.log(2) / ((labels - 16) * bytes_per_token))


def test_a_length_without_room_is_refused_by_name():
    with pytest.raises(ValueError, match=r"objective\.max_target_length is 1"):
        Seq2SeqArguments(max_target_length=1)
