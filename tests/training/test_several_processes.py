"""What becomes of a run of several processes when one of them fails: all end within seconds, and one says why."""

import time

import pytest

from tests.training.runs import finish, launch, log_of, losses_of, tensors_of, trainer_state_of
from tests.training.test_losses import POISON

ONLY_ONE = """
import os
import signal
import sys
from bertkit.cli import main
from bertkit.training import checkpointing
from bertkit.training.trainer import Trainer

original = Trainer.training_step


def killed(self, micro_batches, counts):
    if self.state.global_step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, micro_batches, counts)


def full(aside, folder):
    raise OSError(28, "No space left on device")


if os.environ["RANK"] == "{rank}":
    if "{what}" == "killed":
        Trainer.training_step = killed
    elif "{what}" == "full":
        checkpointing._put_in_place = full
    else:
        sys.argv += ["--data.train", "{what}"]
sys.exit(main(["pretrain", *sys.argv[1:]]))
"""
TOGETHER = 20
"""Seconds in which the launcher and all processes must have ended behind the line that says why."""


@pytest.fixture
def one_fails(pretrain_options, tmp_path):
    """Return a function: what happens to which process of two -> all that was said."""

    def fail(what, rank, **settings):
        script = tmp_path / "script.py"
        script.write_text(ONLY_ONE.format(what=what, rank=rank))
        process = launch(pretrain_options(tmp_path / "run", **settings), processes=2, script=script)
        said, since = "", None
        for line in process.stdout:
            said += line
            since = time.monotonic() if since is None and line.startswith("bertkit pretrain: ") else since
        assert since is not None, said
        assert time.monotonic() - since < TOGETHER
        finish(process, returncode=1)
        assert said.count("bertkit pretrain: ") == 1 and "]: Traceback" not in said, said
        return said

    return fail


def test_a_file_that_one_process_alone_cannot_read_ends_all(one_fails, tmp_path):
    (tmp_path / "broken.txt").write_bytes(b"A line.\nAnother \xff line.\n")
    assert "broken.txt, line 2: " in one_fails(tmp_path / "broken.txt", rank=1)


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_process_that_saves_ends_all(one_fails, tmp_path):
    said = one_fails("full", rank=0, **{"training.save_steps": 2})
    assert f"cannot write to {tmp_path / 'run'}: No space left on device" in said


@pytest.mark.slow
def test_a_process_that_is_killed_is_missed_by_the_others(one_fails):
    assert "another process of the run is gone without a word" in one_fails("killed", rank=1)


def poisoned(tmp_path, rank=1):
    script = tmp_path / "poison.py"
    script.write_text(POISON.format(steps=(3,), counted_as="math.nan", rank=rank))
    return script


def test_processes_skip_a_step_that_went_wrong_in_one_of_them_as_one_would(run, pretrain_options, tmp_path):
    settings = {"training.loss_policy": "skip", "training.logging_steps": 1}
    finish(launch(pretrain_options(tmp_path / "run", **settings), processes=2, script=poisoned(tmp_path)))
    assert trainer_state_of(tmp_path / "run")["passed_over"] == [3]
    assert log_of(tmp_path / "run", "skipped") == [(3, "the loss is nan")]
    assert [step for step, _ in losses_of(tmp_path / "run")] == [1, 2, 4, 5, 6]
    assert all(tensor.isfinite().all() for tensor in tensors_of(tmp_path / "run").values())


def test_processes_stop_together_at_a_step_that_went_wrong_in_one_of_them(pretrain_options, tmp_path):
    options = pretrain_options(tmp_path / "run", **{"training.save_steps": 2})
    said = finish(launch(options, processes=2, script=poisoned(tmp_path)), returncode=1)
    line = "bertkit pretrain: the loss is nan at step 3; go on from "
    assert said.count("bertkit pretrain: ") == said.count(line) == 1
    assert (tmp_path / "run" / "last").resolve().name == "checkpoint-2"
