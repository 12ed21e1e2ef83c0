from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.errors import DataError
from bertkit.models import build_config, build_model
from bertkit.tasks.labelled_data import LabelledText
from bertkit.tasks.metrics import classification_metrics
from bertkit.tasks.sequence_classification import (
    SequenceClassificationArguments,
    SequenceClassificationTask,
    label_names,
)

WORDS = ["good", "great", "fine", "lovely", "bad", "awful", "poor", "dreadful", "film", "actor", "story", "scene"]
texts = st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)


@pytest.fixture
def task(tokenizer):
    return SequenceClassificationTask(
        SequenceClassificationArguments(max_length=32), tokenizer, ["no", "perhaps", "yes"]
    )


@pytest.fixture
def model(task):
    torch.manual_seed(0)
    config = build_config(
        "bert",
        "tiny",
        vocab_size=len(task.tokenizer),
        num_hidden_layers=1,
        hidden_size=32,
        intermediate_size=64,
        initializer_range=0.3,
        **task.config_settings,
    )
    return build_model(config, task.auto_class).eval()


def as_pairs(examples):
    return [
        example._replace(text_pair=other.text)
        for example, other in zip(examples, examples[7:] + examples[:7], strict=True)
    ]


@pytest.mark.parametrize("is_pair", [False, True])
@torch.no_grad()
def test_packed_logits_equal_those_of_each_example_alone(task, model, examples, is_pair):
    examples = as_pairs(examples) if is_pair else examples
    batches = task.batches(examples, seed=3, training=True)
    batch = {name: torch.from_numpy(array) for name, array in batches.batch(10, 40, 0.0).items()}
    example_ids, labels = batch.pop("example_ids"), batch.pop("labels")
    logits = model(**batch).logits
    assert len(batch["input_ids"]) < 30  # packed indeed
    for row, number in enumerate(example_ids.tolist()[:30]):
        example = examples[number]
        alone = task.tokenizer(example.text, example.text_pair, truncation=True, max_length=32, return_tensors="pt")
        torch.testing.assert_close(logits[row], model(**alone).logits[0], atol=1e-5, rtol=1e-5)
        assert labels[row] == task.label_ids[example.label]


def test_padding_is_marked_and_starts_no_example(task, examples):
    batch = task.batches(examples, training=False).batch(0, 30, 0.0)
    assert batch["example_ids"].tolist()[30:] == [-1, -1] and batch["labels"].tolist()[30:] == [-100, -100]
    assert batch["example_starts"].tolist()[30:] == [0, 0]
    padding = batch["attention_mask"] == 0
    assert (batch["input_ids"][padding] == task.tokenizer.pad_token_id).all()
    assert (batch["position_ids"][padding] == 1).all()
    starts = np.flatnonzero((batch["position_ids"] == 0).ravel())
    assert batch["example_starts"][:30].tolist() == starts.tolist()
    assert (batch["input_ids"].ravel()[starts] == task.tokenizer.cls_token_id).all()


def test_rows_are_nearly_full_and_never_longer_than_the_longest_example_allowed(task, examples):
    batches = task.batches(examples, training=True)
    made = [batches.batch(start, start + 32, 0.0)["attention_mask"] for start in range(0, 320, 32)]
    assert sum(mask.sum() for mask in made) / sum(mask.size for mask in made) > 0.95
    assert max(mask.shape[1] for mask in made) <= 32


def test_the_longest_example_fits_where_max_length_is_no_multiple_of_the_width(tokenizer):
    task = SequenceClassificationTask(SequenceClassificationArguments(max_length=13), tokenizer, ["0", "1"])
    batches = task.batches([LabelledText("good " * 40, None, "1", "")], training=False)
    assert batches.batch(0, 1, 0.0)["input_ids"].shape == (1, 13)
    assert batches.tokenized.num_truncated == 1


def contents(batch):
    """List the examples of a batch in order of their numbers: token ids and label."""
    ids, positions, mask = (batch[name].ravel() for name in ("input_ids", "position_ids", "attention_mask"))
    ends = np.append(np.flatnonzero((positions == 0) | (mask == 0)), len(ids))  # the next start, padding or the end
    examples = zip(batch["example_starts"], batch["labels"], batch["example_ids"], strict=True)
    return sorted(
        (number, ids[start : ends[np.searchsorted(ends, start, side="right")]].tolist(), label)
        for start, label, number in examples
        if number >= 0
    )


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 100), size=st.integers(2, 20), cut=st.integers(1, 19))
def test_micro_batches_hold_what_the_whole_batch_holds(tokenizer, start, size, cut):
    examples = [LabelledText(" ".join(WORDS[: 1 + n % 12]), None, str(n % 2), "") for n in range(23)]
    task = SequenceClassificationTask(SequenceClassificationArguments(), tokenizer, ["0", "1"])
    batches = task.batches(examples, seed=1, training=True)
    cut = min(cut, size - 1)
    parts = contents(batches.batch(start, start + cut, 0.0)), contents(batches.batch(start + cut, start + size, 0.0))
    whole = contents(batches.batch(start, start + size, 0.0))
    assert whole == sorted(parts[0] + parts[1])
    assert len(whole) == size


def test_every_epoch_holds_every_example_once_in_another_order(task, examples):
    batches = task.batches(examples, seed=0, training=True)
    epochs = [batches.batch(first, first + 45, 0.0)["example_ids"] for first in (0, 45)]
    orders = [[batches.batch(first + n, first + n + 1, 0.0)["example_ids"][0] for n in range(45)] for first in (0, 45)]
    assert all(sorted(epoch[epoch >= 0]) == list(range(45)) for epoch in epochs)
    assert orders[0] != orders[1]
    unshuffled = task.batches(examples, training=False)
    assert [unshuffled.batch(n, n + 1, 0.0)["example_ids"][0] for n in range(45)] == list(range(45))


@settings(max_examples=60, deadline=None)
@given(first=texts, second=texts.filter(bool), max_length=st.integers(8, 40))
def test_truncation_equals_the_tokenizers_own(tokenizer, first, second, max_length):
    arguments = SequenceClassificationArguments(max_length=max_length)
    task = SequenceClassificationTask(arguments, tokenizer, ["0", "1"])
    for pair in (None, second):
        expected = tokenizer(first, pair, truncation="longest_first", max_length=max_length)
        tokenized = task.tokenize([LabelledText(first, pair, "0", "")])
        assert tokenized.token_ids.tolist() == expected["input_ids"]
        assert tokenized.token_type_ids.tolist() == expected["token_type_ids"]
        assert tokenized.num_truncated == (len(tokenizer(first, pair)["input_ids"]) > max_length)


@pytest.mark.parametrize(("truncation", "kept"), [("only_first", (5, 8)), ("only_second", (10, 3))])
def test_only_the_text_named_is_cut(tokenizer, truncation, kept):
    arguments = SequenceClassificationArguments(max_length=16, truncation=truncation)
    task = SequenceClassificationTask(arguments, tokenizer, ["0", "1"])
    first, second = "good " * 10, "bad " * 8
    expected = tokenizer(first, second, truncation=truncation, max_length=16)["input_ids"]
    assert task.tokenize([LabelledText(first, second, "0", "")]).token_ids.tolist() == expected
    assert (expected.count(tokenizer.vocab["good"]), expected.count(tokenizer.vocab["bad"])) == kept


def test_evaluation_keeps_the_logits_in_the_order_of_the_data_and_counts_what_was_evaluated(task, examples):
    batches = task.batches(examples, training=False)
    known = torch.randn(45, 3, generator=torch.Generator().manual_seed(0))
    evaluation = batches.evaluation()
    for start in (0, 20):
        batch = {name: torch.from_numpy(array) for name, array in batches.batch(start, start + 20, 0.0).items()}
        outputs = SimpleNamespace(logits=known[batch["example_ids"]])  # garbage where padded
        evaluation.add(outputs, batch)
    torch.testing.assert_close(evaluation.totals["logits"][:40], known[:40])
    labels = torch.tensor([task.label_ids[example.label] for example in examples])[:40]
    metrics = evaluation.compute()
    assert metrics.pop("loss") == pytest.approx(torch.nn.functional.cross_entropy(known[:40], labels).item())
    assert metrics == classification_metrics(known[:40].argmax(-1).tolist(), labels.tolist(), num_labels=3)
    assert set(batches.metric_names) == {*metrics, "loss"}


def test_the_floor_is_the_entropy_of_the_labels(task):
    examples = [LabelledText("good", None, label, "") for label in ("no", "no", "no", "yes")]
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert task.batches(examples, training=True).loss_floor == pytest.approx(expected)


def test_labels_are_numbered_by_value_where_they_are_numbers_else_by_alphabet():
    def names(*labels):
        return label_names([LabelledText("", None, label, "") for label in labels])

    assert names("10", "9", "-1", "9") == ["-1", "9", "10"]
    assert names("pos", "10", "neg") == ["10", "neg", "pos"]


def test_an_unknown_label_and_a_single_label_are_refused(task, tokenizer):
    with pytest.raises(DataError, match="row 7: label 'maybe' is not known; the training data has no, perhaps, yes"):
        task.batches([LabelledText("good", None, "maybe", "row 7")], training=False)
    with pytest.raises(DataError, match="one label only, yes"):
        SequenceClassificationTask(SequenceClassificationArguments(), tokenizer, ["yes"])
    with pytest.raises(ValueError, match=r"task\.max_length is 3"):
        SequenceClassificationArguments(max_length=3)
