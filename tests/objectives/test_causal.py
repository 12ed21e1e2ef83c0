"""The objective `causal` predicts every token, and the end of every document, once an epoch, in either of its forms."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.data import row_stream
from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.causal import CausalArguments, CausalObjective

BOS, EOS = 2, 3
FORMS = pytest.mark.parametrize("carry_state", [False, True])


def batches(tokenizer, store, *, batch_size=8, seed=0, training=True, **settings):
    objective = CausalObjective(CausalArguments(**settings), tokenizer)
    return ObjectiveBatches(objective, store, batch_size=batch_size, seed=seed, training=training)


def epoch_of(drawn, number=0, at_once=64):
    first, last = number * len(drawn), (number + 1) * len(drawn)
    return [drawn.batch(start, min(start + at_once, last), 0.0) for start in range(first, last, at_once)]


def predicted(batches):
    """Return how often each token is predicted: (vocab,)."""
    labels = np.concatenate([batch["shift_labels"].ravel() for batch in batches])
    return np.bincount(labels[labels != -100], minlength=1000)


def expected(store):
    counts = np.bincount(store.token_ids, minlength=1000)
    counts[EOS] = store.metadata.num_documents
    return counts


@pytest.mark.parametrize("name", ["books", "paragraphs", "lines"])
@FORMS
def test_every_token_and_every_end_is_predicted_once_an_epoch(tokenizer, corpora, name, carry_state):
    store = corpora[name]
    counts = predicted(epoch_of(batches(tokenizer, store, carry_state=carry_state), number=1))
    difference = expected(store) - counts
    assert difference.min() >= 0 and difference.sum() <= (0 if carry_state else 0.001 * len(store.token_ids))


@pytest.mark.parametrize("name", ["books", "paragraphs", "lines"])
@FORMS
def test_at_least_97_percent_of_the_tokens_computed_are_real(tokenizer, corpora, name, carry_state):
    drawn = batches(tokenizer, corpora[name], carry_state=carry_state)
    assert np.mean([drawn.batch(i, i + 64, 0.0)["attention_mask"].mean() for i in range(0, 640, 64)]) >= 0.97


def test_a_packed_example_is_a_stretch_of_a_document_with_the_tokens_that_follow_as_labels(tokenizer, corpora):
    store = corpora["paragraphs"]
    text = store.token_ids.tobytes()
    batch = batches(tokenizer, store).batch(0, 32, 0.0)
    ends = 0
    for row in range(32):
        length = batch["attention_mask"][row].sum()
        starts = np.flatnonzero(batch["position_ids"][row] == 0)
        for start, end in zip(starts, [*starts[1:], length], strict=True):
            input_ids, labels = batch["input_ids"][row, start:end], batch["shift_labels"][row, start:end]
            assert input_ids[0] == BOS and (batch["position_ids"][row, start:end] == np.arange(end - start)).all()
            assert (labels[1:-1] == input_ids[2:]).all() and labels[0] in (-100, input_ids[1])
            ends += labels[-1] == EOS
            stretch = input_ids[1:] if labels[-1] == EOS else [*input_ids[1:], labels[-1]]
            assert np.asarray(stretch, dtype=np.uint16).tobytes() in text
            if labels[0] != -100:  # where a document begins
                assert any(
                    (store.token_ids[at : at + len(stretch)] == stretch).all() for at in store.document_starts[:-1]
                )
        assert (batch["shift_labels"][row, length:] == -100).all() and (batch["position_ids"][row, length:] == 1).all()
    assert 0 < ends < (batch["position_ids"] == 0).sum()


def read_rows(drawn, number):
    """Read an epoch row after row, as a model with a carried state does: input_ids, labels and position_ids of each."""
    size = drawn.carried_rows
    steps = epoch_of(drawn, number, at_once=size)
    for row in range(size):
        real = [batch["attention_mask"][row] == 1 for batch in steps]
        yield tuple(
            np.concatenate([batch[name][row][mask] for batch, mask in zip(steps, real, strict=True)])
            for name in ("input_ids", "shift_labels", "position_ids")
        )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sentences=st.lists(st.integers(1, 60), min_size=3, max_size=40),
    batch_size=st.integers(1, 7),
    block_size=st.integers(16, 90),
    epoch=st.integers(0, 3),
)
def test_rows_that_carry_state_read_the_whole_text_each_document_from_its_beginning_to_its_end(
    tokenizer, make_corpus, sentences, batch_size, block_size, epoch
):
    store = make_corpus(sentences, mean_sentence=4)
    documents = {store.token_ids[start:end].tobytes() for start, end in pairwise(store.document_starts)}
    drawn = batches(tokenizer, store, batch_size=batch_size, block_size=block_size, carry_state=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_stream, "BLOCK_TOKENS", 100)  # several blocks
        rows = list(read_rows(drawn, epoch))
    line = np.concatenate([labels for _, labels, _ in rows])
    read = np.split(line, np.flatnonzero(line == EOS) + 1)
    assert len(read.pop()) == 0
    assert {document[:-1].astype(np.uint16).tobytes() for document in read} == documents
    assert len(read) == len(sentences)
    for input_ids, labels, positions in rows:
        assert positions[0] == 0 and (positions[1:][positions[1:] != 0] == positions[:-1][positions[1:] != 0] + 1).all()
        assert ((labels[:-1] == EOS) == (positions[1:] == 0)).all()  # only an end is followed by a beginning
        continues = positions[1:] != 0
        assert (input_ids[1:][continues] == labels[:-1][continues]).all() and (input_ids[1:][~continues] == BOS).all()


def test_epochs_and_seeds_come_in_another_order_and_evaluation_in_that_of_the_corpus(tokenizer, corpora):
    store = corpora["paragraphs"]
    drawn = batches(tokenizer, store, carry_state=True, batch_size=1)
    lines = [next(read_rows(drawn, number))[1][:500] for number in (0, 1)]
    lines.append(next(read_rows(batches(tokenizer, store, carry_state=True, batch_size=1, seed=1), 0))[1][:500])
    assert len({line.tobytes() for line in lines}) == 3
    for seed in (0, 1):
        in_order = batches(tokenizer, store, carry_state=True, batch_size=1, training=False, seed=seed)
        line = next(read_rows(in_order, 0))[1]
        assert (line[line != EOS][:2000] == store.token_ids[:2000]).all()


@FORMS
def test_a_batch_depends_on_its_place_alone(tokenizer, corpora, carry_state):
    whole = batches(tokenizer, corpora["books"], carry_state=carry_state).batch(96, 160, 0.0)
    again = batches(tokenizer, corpora["books"], carry_state=carry_state)
    again.batch(5, 37, 0.0)
    half = again.batch(128, 160, 0.5)
    for name, array in whole.items():
        assert (array[32:] == half[name]).all(), name


def test_a_far_step_of_rows_that_carry_state_costs_what_a_near_one_does(tokenizer, corpora, monkeypatch):
    drawn = batches(tokenizer, corpora["paragraphs"], carry_state=True)
    line = drawn._stream.line
    laid_out = []
    document_sizes = line.document_sizes
    monkeypatch.setattr(line, "document_sizes", lambda *of: laid_out.append(of) or document_sizes(*of))
    drawn.batch(8 * 10, 8 * 11, 0.0)
    near = len(laid_out)
    drawn.batch(8 * 1_000_000, 8 * 1_000_001, 0.0)
    assert 0 < len(laid_out) - near <= near + 2


def test_a_text_too_short_for_its_rows_is_refused_with_a_remedy(tokenizer, make_corpus):
    with pytest.raises(ValueError, match=r"9 rows .* let fewer rows go on"):
        len(batches(tokenizer, make_corpus([2], mean_sentence=4), batch_size=9, carry_state=True))


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    tokenizer.sep_token_id = None
    with pytest.raises(ValueError, match="needs a eos_token or sep_token"):
        CausalObjective(CausalArguments(), tokenizer)
    tokenizer.eos_token_id = 7
    assert CausalObjective(CausalArguments(), tokenizer).config_settings == {"bos_token_id": 2, "eos_token_id": 7}


def test_a_row_too_short_is_refused_by_name():
    with pytest.raises(ValueError, match=r"objective\.block_size is 4"):
        CausalArguments(block_size=4)
