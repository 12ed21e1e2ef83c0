"""Truncated backpropagation through time: each row goes on with its text and its state, whatever happens to the run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertkit.objectives.batches import ObjectiveBatches
from bertkit.training.carried_state import CarriedState
from bertkit.training.evaluation import evaluate_batches
from tests.training import recurrent
from tests.training.runs import assert_close, assert_same_bits, assert_same_course, finish, launch, log_of, losses_of

# An epoch has 8 or 9 steps: the runs go over its end.
EACH = {"logging_steps": 1, "save_steps": 2, "save_total_limit": None, "learning_rate": 0.01, "max_steps": 14}
AUTO = {"resume_from_checkpoint": "auto"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, corpus_file):
    path = tmp_path_factory.mktemp("short") / "corpus.txt"
    path.write_text("\n\n".join(corpus_file.read_text().split("\n\n")[:8]))
    return path


@pytest.fixture(scope="module")
def train(tmp_path_factory, corpus, tokenizer_folder):
    """Return a function: settings -> the folder of a finished run."""

    def train(output_dir=None, **settings):
        output_dir = output_dir or tmp_path_factory.mktemp("run")
        recurrent.train(output_dir, corpus, tokenizer_folder, **EACH | settings)
        return output_dir

    return train


@pytest.fixture(scope="module")
def unbroken(train):
    return train(dropout=0.2, micro_batch_size=3)


def state_of(output_dir):
    return load_file(output_dir / "last" / "state" / "carried_state.safetensors")


def assert_same_state(one, other, **tolerance):
    one, other = state_of(one), state_of(other)
    assert one.keys() == other.keys()
    for name, states in one.items():
        assert len(states) == 7
        torch.testing.assert_close(other[name], states, **tolerance or {"rtol": 0, "atol": 0})


def test_steps_with_a_carried_state_have_the_losses_of_reading_the_whole_text_at_once(train, monkeypatch):
    """The oracle: with weights that never change, every row of an epoch in one forward pass from its beginning."""
    steps = []
    original = recurrent.Trainer.training_step

    def remember(self, micro_batches, counts):
        original(self, micro_batches, counts)
        steps.append((micro_batches[0], self.model))

    monkeypatch.setattr(recurrent.Trainer, "training_step", remember)
    output_dir = train(learning_rate=0.0, max_steps=9)
    model = steps[0][1].eval()
    rows = {name: torch.cat([batch[name] for batch, _ in steps], dim=1) for name in steps[0][0]}
    with torch.no_grad():
        logits = model(**rows, num_items_in_batch=1).logits
    expected, column = [], 0
    for batch, _ in steps:
        part = logits[:, column : column + batch["input_ids"].shape[1]]
        column += part.shape[1]
        expected.append(torch.nn.functional.cross_entropy(part.flatten(0, 1), batch["shift_labels"].flatten()).item())
    assert [loss for _, loss in losses_of(output_dir)] == pytest.approx(expected, rel=1e-5)
    assert (
        rows["position_ids"].max() > 16 and (rows["position_ids"][:, 1:] == 0).any()
    )  # longer than a row, and several


@pytest.mark.parametrize("kills", [[1], [4, 11], [9]])
def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(train, unbroken, tmp_path, kills):
    for step in kills:
        with pytest.raises(SystemExit):
            train(tmp_path, dropout=0.2, micro_batch_size=3, kill_at=step, **AUTO)
    train(tmp_path, dropout=0.2, micro_batch_size=3, **AUTO)
    assert_same_bits(unbroken, tmp_path)
    assert_same_state(unbroken, tmp_path)
    assert losses_of(unbroken) == losses_of(tmp_path)
    assert log_of(unbroken, "eval_loss", "eval_bits_per_byte") == log_of(tmp_path, "eval_loss", "eval_bits_per_byte")


@pytest.mark.slow
def test_a_run_moves_from_one_process_to_two_and_back_and_its_micro_batches_change(
    train, corpus, tokenizer_folder, tmp_path
):
    alone = train()
    moved = tmp_path / "moved"
    with pytest.raises(SystemExit):
        train(moved, micro_batch_size=2, kill_at=4, **AUTO)
    options = {"output_dir": str(moved), "corpus": str(corpus), "tokenizer": str(tokenizer_folder), "kill_at": 11}
    process = launch([json.dumps(options | EACH | AUTO)], processes=2, script=Path(recurrent.__file__))
    finish(process, returncode=1)
    assert (moved / "last").resolve().name == "checkpoint-10"
    train(moved, micro_batch_size=3, **AUTO)
    assert_same_course(alone, moved)
    assert_close(alone, moved, tolerance=1e-4)
    assert_same_state(alone, moved, rtol=1e-4, atol=1e-5)
    for (_, loss), (_, other) in zip(log_of(alone, "eval_loss"), log_of(moved, "eval_loss"), strict=True):
        assert other == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_step_that_is_passed_over_leaves_the_state_as_it_was(train, monkeypatch, policy):
    forward, states = recurrent.PlainRecurrent.forward, {}
    step_of = {}
    original = recurrent.Trainer.training_step

    def remember_step(self, micro_batches, counts):
        step_of["now"] = self.state.global_step
        original(self, micro_batches, counts)

    def spoil(self, *arguments, past_key_values=None, **inputs):
        outputs = forward(self, *arguments, past_key_values=past_key_values, **inputs)
        if self.training:
            states[step_of["now"]] = (None if past_key_values is None else past_key_values.hidden, outputs)
            if step_of["now"] == 5:
                outputs.loss = outputs.loss * float("nan")
                outputs.past_key_values.hidden = outputs.past_key_values.hidden * float("nan")
        return outputs

    monkeypatch.setattr(recurrent.Trainer, "training_step", remember_step)
    monkeypatch.setattr(recurrent.PlainRecurrent, "forward", spoil)
    output_dir = train(loss_policy=policy)
    assert torch.equal(states[6][0], states[4][1].past_key_values.hidden)
    assert state_of(output_dir)["0000"].isfinite().all()


def test_evaluation_carries_the_state_so_that_the_length_of_a_row_does_not_matter(corpus, tokenizer_folder, tmp_path):
    trainer = recurrent.train(tmp_path, corpus, tokenizer_folder, **EACH)
    objective, store = trainer.eval_batches.objective, trainer.eval_batches.store
    found = []
    for block_size in (16, 50):
        objective.arguments.block_size = block_size
        batches = ObjectiveBatches(objective, store, batch_size=5, training=False)
        metrics = evaluate_batches(trainer.model, batches, trainer.accelerator, batch_size=5, quiet=True)
        found.append((batches._stream.steps_per_epoch, metrics))
    assert found[0][0] > found[1][0] > 1
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)
    first = evaluate_batches(trainer.model, batches, trainer.accelerator, batch_size=5, max_batches=1, quiet=True)
    assert first["loss"] != pytest.approx(metrics["loss"], rel=1e-5)


def test_a_batch_that_grows_is_refused(train):
    with pytest.raises(ValueError, match=r"leave training\.train_batch_size_start out"):
        train(train_batch_size_start=2, batch_size_warmup_steps=3)


def test_a_model_without_a_state_is_refused(train, monkeypatch):
    monkeypatch.delattr(recurrent.PlainRecurrent, "state_class")
    with pytest.raises(ValueError, match="PlainRecurrent has no recurrent state"):
        train()


def test_more_processes_than_rows_are_refused():
    class Five:
        num_processes, process_index = 5, 1

    with pytest.raises(ValueError, match=r"4 rows .* cannot be shared by 5 processes"):
        CarriedState(recurrent.PlainRecurrent, num_rows=4, accelerator=Five())
