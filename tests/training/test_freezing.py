"""What is frozen stays as it was, in weights and moments, and a run that unfreezes goes on from any step to the same bits."""

import contextlib

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bertkit.models import load_model
from bertkit.models.layer_groups import layer_groups
from bertkit.training.batch_sizes import BatchSizes
from bertkit.training.freezing import GradualUnfreezing, freeze_for_good
from tests.training.runs import (
    NO_DROPOUT,
    assert_close,
    assert_same_bits,
    assert_same_course,
    finish,
    launch,
    log_of,
    losses_of,
)
from tests.training.test_resuming import KILLED, Killed, kill_at
from tests.training.test_sharding import sharded  # noqa: F401 (a fixture)

AUTO = {"training.resume_from_checkpoint": "auto"}
DEEP = {"model.num_hidden_layers": 2, "training.micro_batch_size": 3, "training.logging_steps": 1,
        "training.weight_decay": 0.1, "training.save_total_limit": "null"}  # fmt: skip
GRADUAL = {**DEEP, "training.gradual_unfreezing": 2, "training.max_steps": 9, "training.save_steps": 1,
           "training.layer_decay": 0.5, "training.lr_scheduler_type": "slanted_triangular"}  # fmt: skip
ORDER = ["head", "layers.1", "layers.0", "embeddings"]


def changed_groups(before, after):
    """Return the groups with weights that differ between two checkpoints, and those that the optimizer knows of the later."""
    groups = layer_groups(load_model(after, "AutoModelForPreTraining"))
    weights = [load_file(folder / "model.safetensors") for folder in (before, after)]
    known = {name.split("|")[1] for name in load_file(after / "state" / "optimizer.safetensors")}
    changed = [g for g, names in groups.items() if any(not torch.equal(*(w[n] for w in weights)) for n in names)]
    return {*changed}, {group for group, names in groups.items() if known & {*names}}


@pytest.fixture(scope="module")
def gradual(run):
    return run(**GRADUAL)


def test_one_group_more_from_the_top_is_trained_each_time_and_those_below_are_left_alone(gradual):
    for step in range(1, 9):
        trained = {*ORDER[: step // 2 + 1]}
        assert changed_groups(gradual / f"checkpoint-{step}", gradual / f"checkpoint-{step + 1}") == (trained, trained)


def test_what_was_frozen_counts_its_own_updates_and_not_those_it_missed(gradual):
    state = load_file(gradual / "checkpoint-9" / "state" / "optimizer.safetensors")
    groups = layer_groups(load_model(gradual / "last", "AutoModelForPreTraining"))
    steps = {group: {int(state[f"step|{name}"]) for name in names} for group, names in groups.items()}
    assert steps == {"head": {9}, "layers.1": {7}, "layers.0": {5}, "embeddings": {3}}


@pytest.mark.parametrize("step", [1, 2, 5, 7])
def test_a_run_killed_while_it_unfreezes_ends_with_the_bits_of_an_unbroken_one(run, gradual, tmp_path, step):
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step, 1)
        with contextlib.suppress(Killed):
            run(tmp_path, **GRADUAL)
    assert (tmp_path / "last").resolve().name == f"checkpoint-{step}"
    run(tmp_path, **GRADUAL, **AUTO)
    assert_same_bits(gradual, tmp_path)
    assert losses_of(gradual) == losses_of(tmp_path)
    assert log_of(gradual, "grad_norm") == log_of(tmp_path, "grad_norm")


def test_a_run_that_goes_back_forgets_the_moments_of_what_is_frozen_there(run, tmp_path):
    """The loss goes wrong behind the step that unfroze a group; the run goes back before it."""
    settings = {**GRADUAL, "training.save_steps": 3, "training.loss_policy": "rollback"}
    with pytest.MonkeyPatch.context() as patch:
        spoil_once(patch, step=4)
        back = run(tmp_path / "back", **settings)
    with pytest.MonkeyPatch.context() as patch:
        spoil_once(patch, step=4)
        skipped = run(tmp_path / "skipped", **settings | {"training.loss_policy": "skip"})
    assert_same_bits(back, skipped)


def spoil_once(patch, step):
    from bertkit.training.trainer import Trainer

    original = Trainer.training_step

    def spoilt(self, micro_batches, counts):
        counts = {name: float("nan") for name in counts} if self.state.global_step == step else counts
        original(self, micro_batches, counts)

    patch.setattr(Trainer, "training_step", spoilt)


@pytest.mark.slow
def test_two_processes_unfreeze_as_one_and_one_goes_on_where_they_were_killed(run, pretrain_options, tmp_path):
    settings = {**GRADUAL, **NO_DROPOUT, "training.save_steps": 2}
    alone = run(**settings)
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(step=5))
    finish(launch(pretrain_options(tmp_path / "moved", **settings), processes=2, script=script), returncode=1)
    assert changed_groups(tmp_path / "moved" / "checkpoint-2", tmp_path / "moved" / "checkpoint-4")[0] == {*ORDER[:2]}
    run(tmp_path / "moved", **settings, **AUTO)
    assert_same_course(alone, tmp_path / "moved")
    assert_close(alone, tmp_path / "moved", tolerance=1e-4)


@pytest.mark.slow
def test_a_pair_killed_while_it_unfreezes_ends_with_the_bits_of_one_left_alone(pretrain_options, tmp_path):
    settings = {**GRADUAL, "training.save_steps": 2}
    finish(launch(pretrain_options(tmp_path / "pair", **settings), processes=2))
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(step=5))
    finish(launch(pretrain_options(tmp_path / "broken", **settings), processes=2, script=script), returncode=1)
    finish(launch(pretrain_options(tmp_path / "broken", **settings, **AUTO), processes=2))
    assert_same_bits(tmp_path / "pair", tmp_path / "broken")


@pytest.mark.slow
def test_a_sharded_run_unfreezes_as_a_whole_one(run, sharded, tmp_path):  # noqa: F811
    settings = {**GRADUAL, **NO_DROPOUT, "training.train_batch_size": 9}
    whole = run(**settings)
    shards = sharded(tmp_path / "sharded", **settings)
    assert_same_course(whole, shards)
    assert_close(whole, shards, tolerance=1e-4)
    for step in (1, 4):
        trained = {*ORDER[: step // 2 + 1]}
        assert changed_groups(shards / f"checkpoint-{step}", shards / f"checkpoint-{step + 1}") == (trained, trained)


@pytest.mark.parametrize(("freeze", "trained"), [("backbone", ORDER[:1]), ("embeddings", ORDER[:3])])
def test_what_is_frozen_for_good_is_never_touched_and_not_known_to_the_optimizer(run, freeze, trained):
    folder = run(**DEEP, **{"training.freeze": freeze, "training.max_steps": 4, "training.save_steps": 1})
    for step in range(1, 4):
        changed = changed_groups(folder / f"checkpoint-{step}", folder / f"checkpoint-{step + 1}")
        assert changed == ({*trained}, {*trained})


def test_frozen_embeddings_and_gradual_unfreezing_go_together(run):
    settings = {**GRADUAL, "training.freeze": "embeddings", "training.save_steps": 3}
    folder = run(**settings)
    assert changed_groups(folder / "checkpoint-6", folder / "checkpoint-9") == ({*ORDER[:3]}, {*ORDER[:3]})


def stack():
    """Return a model of three groups, whose middle remembers what was computed backwards through it."""
    model = nn.ModuleDict({"bottom": nn.Linear(3, 3), "middle": nn.Linear(3, 3), "top": nn.Linear(3, 1)})
    return model, {name: [f"{name}.weight", f"{name}.bias"] for name in model}


def unfreezing(model, groups, every, batch=4, examples=10):
    return GradualUnfreezing(
        model, groups, every, sizes=BatchSizes(final=batch, first=batch, growing_steps=0), num_examples=examples
    )


def test_an_epoch_ends_where_its_last_example_was_trained_on_not_at_a_number_of_steps_rounded():
    by_epoch, by_steps, never = (unfreezing(*stack(), every) for every in (True, 4, False))
    assert [by_epoch.count(step) for step in range(8)] == [1, 1, 1, 2, 2, 3, 3, 3]
    assert [by_steps.count(step) for step in range(10)] == [1] * 4 + [2] * 4 + [3] * 2
    assert never.count(0) == 3
    assert unfreezing(*stack(), 1).count(1) == 2  # a number of steps, though equal to True


def test_nothing_is_computed_backwards_below_what_is_trained():
    model, groups = stack()
    schedule = unfreezing(model, groups, 1)
    for step, reached in ((0, {"top"}), (1, {"top", "middle"}), (2, {"top", "middle", "bottom"}), (0, {"top"})):
        schedule.begin(step)
        model.zero_grad(set_to_none=True)
        outputs, states = {}, torch.ones(2, 3)
        for name, module in model.items():
            states = outputs[name] = module(states)
        states.sum().backward()
        assert {name for name, output in outputs.items() if output.requires_grad} == reached
        assert {name for name, module in model.items() if module.weight.grad is not None} == reached


def test_what_is_trained_from_a_step_on_is_said_once():
    schedule = unfreezing(*stack(), 2)
    lines = [schedule.line(step) for step in range(6)]
    assert lines[0] == "step 0: top trained from here on, 2 groups still frozen"
    assert lines[2].endswith("trained from here on, 1 group still frozen")
    assert lines[4] == "step 4: bottom trained from here on"
    assert lines[1] is lines[3] is lines[5] is None
    assert unfreezing(*stack(), False).line(0) is None


def test_a_model_without_a_head_or_embeddings_of_its_own_says_so():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"training\.freeze backbone would leave nothing of the Sequential to train"):
        freeze_for_good(model, {"layers.0": ["0.weight", "0.bias"]}, "backbone")
    with pytest.raises(ValueError, match=r"training\.freeze is embeddings, and the Sequential has no such weights"):
        freeze_for_good(model, {"layers.0": ["0.weight", "0.bias"]}, "embeddings")
