"""Steps that go wrong: what each policy makes of them."""

import math

import pytest
import torch
from safetensors.torch import load_file

from bertkit.cli import main
from bertkit.training.losses import what_is_wrong
from bertkit.training.trainer import Trainer
from tests.training.runs import assert_same_bits, finish, launch, log_of, losses_of, tensors_of, trainer_state_of

POISON = """
import math
import sys
from bertkit.cli import main
from bertkit.training.trainer import Trainer

original = Trainer.training_step
steps, counted_as, rank = {steps}, {counted_as}, {rank}


def poisoned(self, micro_batches, counts):
    if self.state.global_step + 1 in steps and rank in (None, self.accelerator.process_index):
        counts = dict.fromkeys(counts, counted_as)
    original(self, micro_batches, counts)


Trainer.training_step = poisoned
sys.exit(main(["pretrain", *sys.argv[1:]]))
"""


@pytest.fixture
def poison(monkeypatch):
    """Return a function: steps whose losses are divided by a wrong count, here `nan`."""
    original = Trainer.training_step

    def poison(*steps, counted_as=math.nan):
        def poisoned(self, micro_batches, counts):
            if self.state.global_step + 1 in steps:
                counts = dict.fromkeys(counts, counted_as)
            original(self, micro_batches, counts)

        monkeypatch.setattr(Trainer, "training_step", poisoned)

    return poison


def test_what_is_wrong_with_a_loss():
    recent = [3.0] * 20
    assert what_is_wrong(math.inf, [], None) == "the loss is inf"
    assert what_is_wrong(5.0, recent, 2.0) is None
    assert (
        what_is_wrong(6.1, recent, 2.0)
        == "the loss is 6.1000, more than 2 times 3.0000, the median of the last 20 steps"
    )
    assert what_is_wrong(6.1, recent[:19], 2.0) is None  # too few to know what is usual


def test_a_skipped_step_leaves_the_weights_alone_and_is_logged(run, poison, capsys):
    poison(3)
    each = {"training.save_steps": 1, "training.save_total_limit": 9, "training.logging_steps": 1}
    output_dir = run(**each, **{"training.loss_policy": "skip"})
    before, after = (load_file(output_dir / f"checkpoint-{step}" / "model.safetensors") for step in (2, 3))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert trainer_state_of(output_dir)["passed_over"] == [3]
    assert log_of(output_dir, "skipped") == [(3, "the loss is nan")]
    assert [step for step, _ in losses_of(output_dir)] == [1, 2, 4, 5, 6]
    assert all(tensor.isfinite().all() for tensor in tensors_of(output_dir).values())
    assert "warning: step 3 makes no update: the loss is nan" in capsys.readouterr().err


def test_rolling_back_ends_with_the_bits_of_skipping(run, poison):
    poison(2, 5)
    settings = {"training.max_steps": 9, "training.logging_steps": 1, "training.save_steps": 4}
    skipped = run(**settings, **{"training.loss_policy": "skip"})
    rolled_back = run(**settings, **{"training.loss_policy": "rollback"})
    assert_same_bits(skipped, rolled_back)
    assert losses_of(skipped) == losses_of(rolled_back)
    assert log_of(skipped, "tokens_seen", "batches") == log_of(rolled_back, "tokens_seen", "batches")
    assert log_of(rolled_back, "rolled_back", "passed_over") == [
        (0, "the loss is nan", 2),  # there was no checkpoint yet but the one that such a run begins with
        (4, "the loss is nan", 5),
    ]


def test_a_run_killed_after_it_rolled_back_ends_with_the_same_bits(run, poison, monkeypatch):
    poison(5)
    settings = {"training.max_steps": 9, "training.save_steps": 3, "training.loss_policy": "rollback"}
    unbroken = run(**settings)
    poisoned = Trainer.training_step

    def killed(self, micro_batches, counts):
        if self.state.passed_over and self.state.global_step == 5:  # behind the step passed over, before it is saved
            raise KeyboardInterrupt
        poisoned(self, micro_batches, counts)

    monkeypatch.setattr(Trainer, "training_step", killed)
    broken = unbroken.with_name("broken")
    with pytest.raises(AssertionError):
        run(broken, **settings)
    assert (broken / "last").resolve().name == "checkpoint-3"
    monkeypatch.setattr(Trainer, "training_step", poisoned)
    run(broken, **settings, **{"training.resume_from_checkpoint": "auto"})
    assert_same_bits(unbroken, broken)
    for names in (("rolled_back", "passed_over"), ("train_loss", "batches"), ("eval_loss",)):
        assert log_of(unbroken, *names) == log_of(broken, *names), names  # it went back twice, and says so once


def test_a_spike_is_passed_over_and_without_a_factor_it_is_not(run, poison):
    poison(25, counted_as=1)  # a loss some hundred times too large, and finite
    settings = {"training.max_steps": 30, "training.logging_steps": 1, "training.loss_policy": "skip"}
    watched = run(**settings, **{"training.loss_spike_factor": 3})
    assert trainer_state_of(watched)["passed_over"] == [25]
    ((step, why),) = log_of(watched, "skipped")
    assert step == 25 and "more than 3 times" in why
    assert trainer_state_of(run(**settings))["passed_over"] == []


def test_stopping_says_where_to_go_on_and_saves_no_ruined_weights(pretrain_options, tmp_path, poison, capsys):
    poison(5)
    options = {"training.save_steps": 2, "training.max_steps": 9, "training.save_total_limit": 9}
    assert main(["pretrain", *pretrain_options(tmp_path, **options)]) == 2
    error = capsys.readouterr().err
    assert "the loss is nan at step 5; go on from " in error and "checkpoint-4 with a lower" in error
    assert error.count("\n") == 1
    for folder in tmp_path.glob("checkpoint-*"):
        assert all(tensor.isfinite().all() for tensor in load_file(folder / "model.safetensors").values())
    assert (tmp_path / "last").resolve().name == "checkpoint-4"


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_no_policy_goes_on_for_ever(pretrain_options, tmp_path, poison, capsys, policy):
    poison(*range(3, 99))
    options = {"training.max_steps": 90, "training.loss_policy": policy, "training.max_bad_steps": 4}
    assert main(["pretrain", *pretrain_options(tmp_path, **options)]) == 2
    assert "the loss is nan at step 7, the 5th step that went wrong" in capsys.readouterr().err


def test_a_gradient_that_is_not_a_number_counts_though_its_loss_is_one(run, monkeypatch):
    original = Trainer.training_step

    def poisoned(self, micro_batches, counts):
        if self.state.global_step + 1 == 3:
            weight = next(self.model.parameters())
            handle = weight.register_hook(lambda gradient: gradient * math.nan)
            original(self, micro_batches, counts)
            handle.remove()
        else:
            original(self, micro_batches, counts)

    monkeypatch.setattr(Trainer, "training_step", poisoned)
    for policy in ("skip", "rollback"):
        output_dir = run(**{"training.loss_policy": policy, "training.max_grad_norm": 1.0})
        assert trainer_state_of(output_dir)["passed_over"] == [3]
        assert all(tensor.isfinite().all() for tensor in tensors_of(output_dir).values())


@pytest.mark.slow
def test_processes_agree_on_a_step_that_went_wrong_in_one_of_them(pretrain_options, tmp_path):
    script = tmp_path / "poison.py"
    script.write_text(POISON.format(steps=(3,), counted_as="math.nan", rank=1))
    settings = {"training.loss_policy": "rollback", "training.save_steps": 2, "training.logging_steps": 1}
    output = finish(launch(pretrain_options(tmp_path / "run", **settings), processes=2, script=script))
    assert output.count("step 3 will be passed over") == 1
    assert trainer_state_of(tmp_path / "run")["passed_over"] == [3]
    assert [step for step, _ in losses_of(tmp_path / "run")] == [1, 2, 4, 5, 6]
    assert all(tensor.isfinite().all() for tensor in tensors_of(tmp_path / "run").values())


def test_a_loss_that_stays_at_the_floor_is_said_aloud_once(run, capsys):
    run(**{"training.max_steps": 120, "training.learning_rate": 1e-9})
    said = capsys.readouterr().err
    assert said.count("late in the training") == 1 and "is still not under" in said
