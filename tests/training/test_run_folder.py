"""One run a folder, and one look at its checkpoints for all processes of the run."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from bertkit.cli import main
from bertkit.training import run_folder as module
from bertkit.training.run_folder import locked, run_folder

HOLDER = """
import os
import sys
import time
from pathlib import Path
from bertkit.training.run_folder import locked

with locked(Path(sys.argv[1]), warn=print):
    if os.fork() == 0:  # as the processes that prepare batches
        print(os.getpid(), flush=True)
    time.sleep(99)
"""


def never(*arguments, **settings):
    raise AssertionError("this was not to be called")


@pytest.mark.parametrize("resume", [{}, {"training.resume_from_checkpoint": "auto"}])
def test_a_second_run_in_the_same_folder_is_refused_by_the_name_of_the_first(
    pretrain_options, tmp_path, capsys, resume
):
    with locked(tmp_path / "run", warn=never):
        assert main(["pretrain", *pretrain_options(tmp_path / "run", **resume)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'run'} is in use by another run, process {os.getpid()} on " in error
    assert error.count("\n") == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_run_that_has_ended_or_failed_leaves_its_folder_free(pretrain_options, tmp_path):
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **{"model.vocab_size": 10})]) == 2
    with locked(tmp_path / "run", warn=never):
        pass
    with locked(tmp_path / "run", warn=never):
        pass


def test_a_killed_run_leaves_no_lock_even_while_processes_it_forked_live_on(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        with (
            pytest.raises(ValueError, match=f"in use by another run, process {holder.pid} on "),
            locked(tmp_path, warn=never),
        ):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path, warn=never):
            assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()
    finally:
        holder.kill()
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


def test_where_the_file_system_knows_no_locks_the_run_goes_on_with_a_warning(tmp_path, monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    said = []
    with locked(tmp_path, warn=said.append):
        pass
    assert len(said) == 1 and "cannot be locked (No locks available)" in said[0]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_that_may_not_be_written_to_is_said_before_anything_is_read(
    pretrain_options, capsys, monkeypatch, exists
):
    """Root may write everywhere, so as root the run becomes nobody for as long as it takes."""
    monkeypatch.setattr("bertkit.stages.pretrain.prepare", never)
    with tempfile.TemporaryDirectory() as folder:
        output_dir = Path(folder) / "run"
        if exists:
            output_dir.mkdir(mode=0o555)
        os.chmod(folder, 0o555)
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            assert main(["pretrain", *pretrain_options(output_dir)]) == 2
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o755)
        error = capsys.readouterr().err
        assert f"cannot write to {output_dir}: Permission denied; it holds no checkpoint" in error
        assert error.count("\n") == 1


def test_other_processes_take_the_main_ones_word_and_one_on_every_other_machine_checks(tmp_path, monkeypatch):
    (tmp_path / "checkpoint-3").mkdir()
    monkeypatch.setattr(module, "as_main_sees", lambda value: tmp_path / "checkpoint-3")
    settings = {"resume_from_checkpoint": "auto"}
    with monkeypatch.context() as patch:
        patch.setattr(module, "find_damage", never)
        patch.setattr(module, "find_checkpoint", never)
        same_machine = SimpleNamespace(is_main_process=False, is_local_main_process=False)
        with run_folder(tmp_path, processes=same_machine, **settings) as checkpoint:
            assert checkpoint == tmp_path / "checkpoint-3"
    other_machine = SimpleNamespace(is_main_process=False, is_local_main_process=True)
    with (
        pytest.raises(ValueError, match=r"manifest\.json is missing; output_dir must be a folder that all see"),
        run_folder(tmp_path, processes=other_machine, **settings),
    ):
        pass
