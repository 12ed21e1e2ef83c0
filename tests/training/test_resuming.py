"""A run is a pure function of its recipe: broken off anywhere and gone on with, it ends with the bits of an unbroken one."""

import contextlib
import json
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from bertkit.cli import main
from bertkit.training.manifest import write_manifest
from bertkit.training.optimization import OPTIMIZERS
from bertkit.training.trainer import Trainer
from tests.training.chaos import chaos
from tests.training.runs import (
    NO_DROPOUT,
    PRETRAIN,
    assert_close,
    assert_same_bits,
    assert_same_course,
    finish,
    launch,
    log_of,
    losses_of,
    tensors_of,
)

# Dropout is on; the masking rate and the batch grow; a step is several micro-batches; an epoch is shorter than the run.
HARD = {
    "training.max_steps": 14,
    "training.logging_steps": 3,
    "training.save_steps": 2,
    "training.save_total_limit": 3,
    "training.micro_batch_size": 3,
    "training.train_batch_size": 11,
    "training.train_batch_size_start": 4,
    "training.batch_size_warmup_steps": 9,
    "training.loss_policy": "rollback",
    "training.loss_spike_factor": 9,
    "objective.mlm_probability": 0.3,
    "objective.mlm_probability_end": 0.1,
    "model.hidden_dropout_prob": 0.2,
}
AUTO = {"training.resume_from_checkpoint": "auto"}


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def unbroken(run):
    return run(**HARD)


@settings(max_examples=2, deadline=None, phases=[Phase.explicit, Phase.generate])
@example(kills=[(3, 1), (9, 0), (9, 0)])
@given(kills=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 3)), min_size=1, max_size=3))
def test_a_run_killed_at_any_micro_batch_ends_with_the_bits_and_the_log_of_an_unbroken_one(
    run, unbroken, tmp_path_factory, kills
):
    broken = tmp_path_factory.mktemp("broken") / "run"
    for step, micro in kills:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step, micro)
            with contextlib.suppress(Killed):
                run(broken, **HARD, **AUTO)
    run(broken, **HARD, **AUTO)
    assert_same_bits(unbroken, broken)
    assert losses_of(unbroken) == losses_of(broken)
    for name in ("batches", "grad_norm", "learning_rate", "tokens_seen", "eval_loss"):
        assert log_of(unbroken, name) == log_of(broken, name), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_of_every_optimizer_is_kept(run, tmp_path, optimizer):
    each = {**HARD, "training.optimizer": optimizer, "training.max_steps": 5}
    whole = run(**each)
    assert any(name.partition("|")[0] != "step" for name in tensors_of(whole))
    broken = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, 3, 0)
        with contextlib.suppress(Killed):
            run(broken, **each, **AUTO)
    run(broken, **each, **AUTO)
    assert_same_bits(whole, broken)
    assert losses_of(whole) == losses_of(broken)


def test_a_run_goes_on_with_its_own_optimizer(pretrain_options, run, tmp_path, capsys):
    run(tmp_path, **{"training.max_steps": 2})
    other = {"training.max_steps": 3, "training.optimizer": "muon"}
    assert main(["pretrain", *pretrain_options(tmp_path, **other, **AUTO)]) == 2
    assert "optimizer is muon, but" in (line := capsys.readouterr().err.splitlines()[-1]) and "state of adamw" in line


def kill_at(patch, step, micro):
    """Let the run die in the forward pass of a micro-batch."""
    original = Trainer.training_step

    def dying(self, micro_batches, counts):
        if self.state.global_step == step:
            forward, calls = self.model.forward, []

            def last_forward(*arguments, **inputs):
                calls.append(None)
                if len(calls) > min(micro, len(micro_batches) - 1):
                    raise Killed
                return forward(*arguments, **inputs)

            patch.setattr(self.model, "forward", last_forward)
        original(self, micro_batches, counts)

    patch.setattr(Trainer, "training_step", dying)


def test_the_batch_grows_as_the_recipe_says(unbroken, run):
    tokens = dict(log_of(unbroken, "tokens_seen"))
    rows = [4 + step * 7 // 9 if step < 9 else 11 for step in range(14)]
    for step, seen in tokens.items():
        assert 0.9 * 64 * sum(rows[:step]) < seen <= 64 * sum(rows[:step])


def test_digests_tell_batches_apart_and_do_not_depend_on_how_they_are_divided(run):
    each = {**HARD, "training.logging_steps": 1, "training.loss_policy": "stop"}
    one, other = run(**each), run(**each | {"training.micro_batch_size": 2})
    seeds = run(**each, **{"training.seed": 1})
    assert log_of(one, "batches") == log_of(other, "batches")
    digests = [digest for run_of in (one, seeds) for _, digest in log_of(run_of, "batches")]
    assert len(set(digests)) == len(digests) == 28


def test_a_run_moves_from_one_process_to_two_and_back_over_the_same_batches(run, pretrain_options, tmp_path):
    each = {**HARD, **NO_DROPOUT, "training.logging_steps": 1, "training.loss_policy": "stop"}
    alone = run(**each)
    moved = tmp_path / "moved"
    for processes, steps in ((1, 4), (2, 9), (1, 14)):
        with_end = {**each, "training.max_steps": 14}
        if processes == 1:
            with pytest.MonkeyPatch.context() as patch:
                if steps < 14:
                    kill_at(patch, steps, 0)
                with contextlib.suppress(Killed):
                    run(moved, **with_end, **AUTO)
        else:
            script = tmp_path / "killed.py"
            script.write_text(KILLED.format(step=steps))
            finish(launch(pretrain_options(moved, **with_end, **AUTO), processes=2, script=script), returncode=1)
    assert_same_course(alone, moved)
    assert_close(alone, moved, tolerance=1e-4)


KILLED = """
import os
import signal
import sys
from bertkit.cli import main
from bertkit.training.trainer import Trainer

original = Trainer.training_step


def dying(self, micro_batches, counts):
    if self.state.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, micro_batches, counts)


Trainer.training_step = dying
sys.exit(main(["pretrain", *sys.argv[1:]]))
"""


def test_going_on_at_step_a_million_costs_what_going_on_at_step_ten_does(run, tmp_path):
    """In CPU-seconds, beside loading the weights: no batch before is computed."""
    seconds = {}
    for step in (10, 1_000_000):
        output_dir = run(tmp_path / str(step), **{"training.max_steps": 10})
        (output_dir / "checkpoint-10").rename(output_dir / f"checkpoint-{step}")
        state = output_dir / f"checkpoint-{step}" / "state"
        content = json.loads((state / "trainer_state.json").read_text())
        (state / "trainer_state.json").write_text(json.dumps({**content, "global_step": step}))
        (state / "manifest.json").unlink()
        write_manifest(output_dir / f"checkpoint-{step}")
        started = time.process_time()
        run(output_dir, **{"training.max_steps": step + 1}, **AUTO)
        seconds[step] = time.process_time() - started
    assert seconds[1_000_000] < seconds[10] + 0.5 < 2.5


def test_a_run_that_goes_on_with_another_number_of_threads_says_that_its_bits_differ(run, tmp_path, capsys):
    before = torch.get_num_threads()
    run(tmp_path, **{"training.max_steps": 1})
    try:
        for step, threads, warns in ((2, before, False), (3, before + 1, True), (4, before + 1, False)):
            torch.set_num_threads(threads)
            run(tmp_path, **{"training.max_steps": step}, **AUTO)
            said = f"was made with {before} threads and the run goes on with {threads}"
            assert (said in capsys.readouterr().err) is warns
        forget_threads(tmp_path / "checkpoint-4")  # as of before they were counted
        torch.set_num_threads(before)
        run(tmp_path, **{"training.max_steps": 5}, **AUTO)
        assert "threads" not in capsys.readouterr().err
    finally:
        torch.set_num_threads(before)


def forget_threads(checkpoint):
    path = checkpoint / "state" / "trainer_state.json"
    content = json.loads(path.read_text())
    del content["threads"]
    path.write_text(json.dumps(content))
    (checkpoint / "state" / "manifest.json").unlink()
    write_manifest(checkpoint)


@pytest.mark.slow
def test_a_process_killed_at_random_moments_ends_with_the_bits_of_one_left_alone(tmp_path, capfd):
    assert chaos(kills=2, seed=0, folder=tmp_path, max_steps=60) == []
    assert capfd.readouterr().out.count("\nkill ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_killed_together_end_with_the_bits_of_as_many_left_alone(
    pretrain_options, tmp_path, processes
):
    settings = {"training.max_steps": 8, "training.save_steps": 4, "training.logging_steps": 1}
    finish(launch(pretrain_options(tmp_path / "unbroken", **settings), processes=processes))
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(step=5))
    finish(launch(pretrain_options(tmp_path / "broken", **settings), processes=processes, script=script), returncode=1)
    assert (tmp_path / "broken" / "last").resolve().name == "checkpoint-4"
    finish(launch(pretrain_options(tmp_path / "broken", **settings, **AUTO), processes=processes))
    assert_same_bits(tmp_path / "unbroken", tmp_path / "broken")
    assert losses_of(tmp_path / "unbroken") == losses_of(tmp_path / "broken")


def test_a_launcher_that_starts_fewer_processes_than_it_was_asked_for_is_refused(pretrain_options, tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*command, str(PRETRAIN), *pretrain_options(tmp_path / "run")], capture_output=True, text=True, timeout=120
    )
    assert "was asked for 2 processes and started 1" in done.stderr and done.returncode != 0
    assert not (tmp_path / "run").exists()
