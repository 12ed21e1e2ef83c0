"""The contract of a task, over the table."""

import numpy as np
import pytest
import torch

from bertkit.models import FAMILIES, build_config, build_model
from bertkit.tasks import TASKS
from tests.tasks import made_up

ARGUMENTS = {"question_answering": {"max_length": 40, "stride": 8, "max_question_length": 8}}
SETTINGS = {
    "rnn": {"embedding_size": 24, "hidden_size": 32, "num_hidden_layers": 2},
    "static": {"hidden_size": 32},
    "elmo": {"hidden_size": 16, "cell_size": 24, "num_hidden_layers": 1},
}
HEADED = [name for name, family in FAMILIES.items() if "AutoModelForTokenClassification" in family.auto_classes]


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


@pytest.fixture
def examples(name, tmp_path):
    path = made_up.write(name, tmp_path, "train", 21)
    return data_arguments(name, path).read(str(path))


@pytest.fixture
def task(name, examples, tokenizer):
    arguments = TASKS[name].arguments_class(**ARGUMENTS.get(name, {"max_length": 32}))
    return TASKS[name].from_examples(arguments, tokenizer, examples)


def data_arguments(name, path):
    columns = {"regression": {"label_column": "score"}, "multiple_choice": {"choices_columns": ["first", "second"]}}
    return TASKS[name].data_class(train=str(path), **columns.get(name, {}))


def tiny_model(task, family="bert"):
    torch.manual_seed(0)
    size = SETTINGS.get(
        family, {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    )
    preset = "tiny" if "tiny" in FAMILIES[family].presets else None
    config = build_config(
        family, preset, vocab_size=len(task.tokenizer), initializer_range=0.3, **size, **task.config_settings
    )
    return build_model(config, task.auto_class).eval()


@torch.no_grad()
def evaluate(model, batches, size):
    evaluation = batches.evaluation()
    for start in range(0, len(batches), size):
        batch = batches.batch(start, min(start + size, len(batches)), 0.0)
        batch = {name: torch.from_numpy(array) for name, array in batch.items()}
        inputs = {name: tensor for name, tensor in batch.items() if name != "example_ids"}
        evaluation.add(model(**inputs, num_items_in_batch=torch.tensor(1)), batch)
    return evaluation


def test_the_table_names_the_task_by_its_arguments():
    assert all(task.arguments_class().name == name for name, task in TASKS.items())


@pytest.mark.parametrize("family", HEADED)
def test_what_a_model_says_of_an_example_does_not_depend_on_the_others_in_the_batch(task, examples, family):
    batches, model = task.batches(examples, training=False), tiny_model(task, family)
    together, alone = evaluate(model, batches, 21), evaluate(model, batches, 1)
    for name, total in together.totals.items():
        torch.testing.assert_close(total, alone.totals[name], atol=2e-4, rtol=1e-4)


def test_an_evaluation_gives_the_metrics_that_are_promised_and_the_guess_some_of_them(task, examples):
    evaluation = evaluate(tiny_model(task), task.batches(examples, training=False), 8)
    metrics = evaluation.compute()
    assert {*metrics} == {*task.metric_names}
    assert all(np.isfinite(value) for value in metrics.values())
    guessed = task.guess_metrics(task.guess(examples), examples)
    assert {*guessed} <= {*metrics}


def test_predictions_stand_in_the_order_of_the_examples(task, examples, name):
    evaluation = evaluate(tiny_model(task), task.batches(examples, training=False), 8)
    records = list(task.predictions(examples, evaluation))
    assert len(records) == len(examples)
    for record, example in zip(records, examples, strict=True):
        text = record.get("text", record.get("words", record.get("question")))
        assert text in (
            getattr(example, "text", None),
            getattr(example, "question", None),
            [*getattr(example, "words", ())],
        )
        assert "prediction" in record or "predictions" in record


def labels_of(batch, task):
    labels = batch[task.label_counts["num_items_in_batch"]]
    return labels[labels != -100].size


def test_micro_batches_hold_the_tokens_and_labels_of_the_whole_batch(task, examples):
    batches = task.batches(examples, training=False).shuffled(1)
    whole = batches.batch(3, 17, 0.0)
    parts = [batches.batch(3, 9, 0.0), batches.batch(9, 17, 0.0)]
    assert sum(labels_of(part, task) for part in parts) == labels_of(whole, task)

    def tokens(batch):
        return sorted(batch["input_ids"][batch["attention_mask"] == 1].tolist())

    assert tokens(whole) == sorted(tokens(parts[0]) + tokens(parts[1]))


def test_every_epoch_holds_every_example_once_in_another_order(task, examples):
    batches = task.batches(examples, training=False).shuffled(0)
    count = len(batches)
    epochs = [batches.order.between(first, first + count).tolist() for first in (0, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_unlabelled_examples_give_the_same_predictions(task, examples):
    model = tiny_model(task)
    known = evaluate(model, task.batches(examples, training=False), 8)
    unknown = evaluate(model, task.unlabelled_batches(examples), 8)
    for name in {*known.totals} - {"loss"}:
        torch.testing.assert_close(known.totals[name], unknown.totals[name])


def test_a_checkpoints_config_tells_the_task_its_labels(task, examples):
    again = type(task).from_config(task.arguments, task.tokenizer, tiny_model(task).config)
    assert again.label_names == task.label_names
    assert again.metric_names == task.metric_names
