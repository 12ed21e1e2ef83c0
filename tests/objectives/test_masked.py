"""The objective `masked` makes batches as the BERT paper describes them, with next to no padding."""

import numpy as np
import pytest

from bertkit.objectives.batches import ObjectiveBatches
from bertkit.objectives.masked import MaskedArguments, MaskedObjective


def batches(tokenizer, store, *, seed=0, training=True, **settings):
    return ObjectiveBatches(
        MaskedObjective(MaskedArguments(**settings), tokenizer), store, batch_size=16, seed=seed, training=training
    )


def examples_of(batch):
    """Cut a batch back into its examples: (input_ids, token_type_ids, labels or −100) each."""
    labels = np.full(batch["input_ids"].size, -100)
    real = batch["labels"] != -100
    labels[batch["label_positions"][real]] = batch["labels"][real]
    labels = labels.reshape(batch["input_ids"].shape)
    for row in range(len(labels)):
        starts = np.flatnonzero(batch["position_ids"][row] == 0)
        ends = [*starts[1:], batch["attention_mask"][row].sum()]
        for start, end in zip(starts, ends, strict=True):
            yield tuple(part[row, start:end] for part in (batch["input_ids"], batch["token_type_ids"], labels))


@pytest.mark.parametrize("name", ["books", "paragraphs", "lines"])
@pytest.mark.parametrize("next_sentence", [True, False])
def test_at_least_97_percent_of_the_tokens_computed_are_real(tokenizer, name, next_sentence, corpora):
    if name == "lines" and next_sentence:
        pytest.skip("a line has no second sentence")
    drawn = batches(tokenizer, corpora[name], next_sentence=next_sentence)
    real = [drawn.batch(i, i + 64, 0.0)["attention_mask"].mean() for i in range(0, 640, 64)]
    assert np.mean(real) >= 0.97


@pytest.mark.parametrize("name", ["books", "paragraphs", "lines"])
def test_an_epoch_shows_the_whole_text(tokenizer, name, corpora):
    store = corpora[name]
    rows = batches(tokenizer, store, next_sentence=False)._stream
    examples = rows.rows(0, rows.rows_per_epoch)
    assert examples.length.sum() >= 0.999 * len(store.token_ids)
    assert len(np.unique(examples.start)) == len(examples.start)


def test_every_example_is_a_stretch_of_the_text_between_special_tokens(tokenizer, corpora):
    store = corpora["paragraphs"]
    text = store.token_ids.tobytes()
    for input_ids, token_types, labels in examples_of(batches(tokenizer, store).batch(0, 32, 0.0)):
        true = np.where(labels >= 0, labels, input_ids).astype(np.uint16)
        separators = np.flatnonzero(input_ids == 3)
        assert input_ids[0] == 2 and separators[-1] == len(input_ids) - 1 and len(separators) in (1, 2)
        assert (labels[[0, *separators]] == -100).all()
        for segment in np.split(true[1:-1], separators[:-1] - 1):
            assert segment[segment != 3].tobytes() in text
        assert (token_types == (np.cumsum(input_ids == 3) - (input_ids == 3) > 0)).all()


def test_pairs_are_half_true_and_a_true_one_follows_where_a_false_one_comes_from_elsewhere(tokenizer, corpora):
    store = corpora["books"]
    objective = MaskedObjective(MaskedArguments(), tokenizer)
    examples = objective.stream(store, batch_size=16, seed=0, shuffle=True).rows(0, 2000)
    pairs = examples.next_sentence_label != -100
    assert pairs.mean() > 0.9
    assert (examples.next_sentence_label[pairs] == 1).mean() == pytest.approx(0.5, abs=0.03)
    true = examples.next_sentence_label == 0
    assert (examples.second_start[true] == (examples.start + examples.length)[true]).all()
    assert np.isin(examples.second_start[pairs], store.sentence_starts).all()
    false = examples.next_sentence_label == 1

    def document(start):
        return np.searchsorted(store.document_starts, start, side="right") - 1

    assert (document(examples.start) != document(examples.second_start))[false].all()
    inside = document(examples.second_start + examples.second_length - 1) == document(examples.second_start)
    assert inside[pairs].all()


@pytest.mark.parametrize("name", ["books", "paragraphs"])
def test_neither_length_nor_where_a_pair_ends_gives_the_answer_away(tokenizer, name, corpora):
    store = corpora[name]
    objective = MaskedObjective(MaskedArguments(), tokenizer)
    examples = objective.stream(store, batch_size=16, seed=0, shuffle=True).rows(0, 8000)
    true, false = (examples.next_sentence_label == label for label in (0, 1))
    total = examples.length + examples.second_length
    ends_sentence = np.isin(examples.second_start + examples.second_length, store.sentence_starts)
    assert ends_sentence[true].mean() == pytest.approx(ends_sentence[false].mean(), abs=0.05)
    assert examples.second_length[true].mean() == pytest.approx(examples.second_length[false].mean(), rel=0.07)
    assert (total[true] == 125).mean() == pytest.approx((total[false] == 125).mean(), abs=0.04)


def test_a_batch_depends_on_its_place_alone(tokenizer, corpora):
    whole = batches(tokenizer, corpora["books"]).batch(100, 164, 0.0)
    again = batches(tokenizer, corpora["books"])
    again.batch(5, 37, 0.0)
    half = again.batch(132, 164, 0.0)
    for name in ("input_ids", "position_ids", "attention_mask", "token_type_ids"):
        assert (whole[name][32:] == half[name]).all()


def test_another_seed_or_epoch_gives_another_batch_and_evaluation_never_does(tokenizer, corpora):
    store = corpora["paragraphs"]
    drawn = batches(tokenizer, store)
    first = drawn.batch(0, 8, 0.0)["input_ids"]
    assert (first != drawn.batch(len(drawn), len(drawn) + 8, 0.0)["input_ids"]).mean() > 0.9
    assert (first != batches(tokenizer, store, seed=1).batch(0, 8, 0.0)["input_ids"]).mean() > 0.9
    evaluations = [batches(tokenizer, store, seed=seed, training=False).batch(0, 8, 0.5) for seed in (0, 1)]
    for name, array in evaluations[0].items():
        assert (array == evaluations[1][name]).all()


def test_the_masking_rate_moves_with_the_training_and_stays_in_evaluation(tokenizer, corpora):
    settings = {"next_sentence": False, "mlm_probability": 0.4, "mlm_probability_end": 0.1}

    def rate(batch):
        return (batch["labels"] != -100).sum() / batch["attention_mask"].sum()

    training = batches(tokenizer, corpora["books"], **settings)
    assert rate(training.batch(0, 64, 0.0)) == pytest.approx(0.4, abs=0.02)
    assert rate(training.batch(0, 64, 0.5)) == pytest.approx(0.25, abs=0.02)
    assert rate(training.batch(0, 64, 1.0)) == pytest.approx(0.1, abs=0.02)
    evaluation = batches(tokenizer, corpora["books"], training=False, **settings)
    assert rate(evaluation.batch(0, 64, 1.0)) == pytest.approx(0.15, abs=0.02)


def test_label_positions_point_at_ordinary_tokens_and_padding_is_ignored(tokenizer, corpora):
    batch = batches(tokenizer, corpora["paragraphs"]).batch(0, 16, 0.0)
    real = batch["labels"] != -100
    assert len(real) % 32 == 0 and (batch["label_positions"][~real] == 0).all()
    assert batch["labels"][real].min() > 4 and batch["labels"].max() < len(tokenizer)
    assert (batch["attention_mask"].ravel()[batch["label_positions"][real]] == 1).all()
    starts = batch["example_starts"][: (batch["position_ids"] == 0).sum()]
    assert (starts == np.flatnonzero(batch["position_ids"].ravel() == 0)).all()
    assert len(batch["next_sentence_label"]) == len(batch["example_starts"])


@pytest.mark.parametrize("sentences", [[20], [1, 1, 1, 1]])
def test_a_corpus_that_cannot_give_pairs_is_refused_with_a_remedy(tokenizer, make_corpus, sentences):
    with pytest.raises(ValueError, match=r"turn objective\.next_sentence off"):
        len(batches(tokenizer, make_corpus(sentences)))


@pytest.mark.parametrize(
    "wrong",
    [{"mlm_probability": 0}, {"mlm_probability_end": 1.5}, {"mask_replace_prob": 0.95}, {"block_size": 4},
     {"short_sequence_prob": -1}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MaskedArguments(**wrong)


def test_a_tokenizer_without_a_mask_token_is_refused(tokenizer):
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="mask_token"):
        MaskedObjective(MaskedArguments(), tokenizer)
