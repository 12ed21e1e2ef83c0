"""Checkpoints nobody can half-write: damage is found and named, and nothing written is lost to a full or vanished disk."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

import pytest

from bertkit.cli import main
from bertkit.training import checkpointing
from bertkit.training.manifest import find_damage
from bertkit.training.trainer import Trainer
from tests.training.runs import assert_same_bits, losses_of

EVERY_THREE = {"training.max_steps": 9, "training.save_steps": 3, "training.logging_steps": 2}
KEPT = {"training.save_total_limit": "null"}


@pytest.fixture(scope="module")
def whole(run):
    """A run with checkpoints 3, 6 and 9."""
    return run(**EVERY_THREE, **KEPT)


@pytest.fixture
def copy(whole, tmp_path):
    """The same run, to be damaged."""
    return shutil.copytree(whole, tmp_path / "run", symlinks=True)


def damaged_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def complaint(options, capsys):
    assert main(["pretrain", *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    (error,) = [line for line in lines if not line.startswith("warning recipe")]  # runs go on for longer here
    return error


def test_every_file_of_a_checkpoint_can_be_read_by_those_who_can_read_new_files(whole, tmp_path):
    (tmp_path / "new").touch()
    files = [path for path in (whole / "checkpoint-3").rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert {oct(path.stat().st_mode) for path in files} == {oct((tmp_path / "new").stat().st_mode)}


def test_every_file_of_a_checkpoint_is_in_its_manifest_and_any_damage_to_it_is_named(whole, tmp_path):
    folder = shutil.copytree(whole / "checkpoint-3", tmp_path / "checkpoint-3")
    assert find_damage(folder) is None
    files = damaged_files(folder)
    assert {"model.safetensors", "state/optimizer.safetensors", "state/trainer_state.json", "config.json"} <= set(files)
    for name in files:
        path = folder / name
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        for damage in (content[: len(content) // 3], content + b"}", bytes(flipped), b""):
            path.write_bytes(damage)
            assert find_damage(folder), (name, damage[:20])
        path.unlink()
        assert name in find_damage(folder) and "missing" in find_damage(folder)
        path.write_bytes(content)
    (folder / "notes.txt").write_text("a reader's own file does no harm")
    assert find_damage(folder) is None


@pytest.mark.parametrize("name", ["model.safetensors", "state/optimizer.safetensors", "state/trainer_state.json"])
def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_ends_with_the_same_bits(run, whole, copy, capsys, name):
    for number in (6, 9):
        path = copy / f"checkpoint-{number}" / name
        path.write_bytes(path.read_bytes()[:-1])
    run(copy, **EVERY_THREE, **KEPT, **{"training.resume_from_checkpoint": "auto"})
    said = capsys.readouterr().out
    assert (
        said.count("is damaged and passed over") == 2 and f"checkpoint-9 is damaged and passed over: {name} has" in said
    )
    assert_same_bits(whole, copy)
    assert losses_of(whole) == losses_of(copy)
    assert {folder.name for folder in copy.glob("*checkpoint-*")} == {
        *(f"checkpoint-{number}" for number in (3, 6, 9)), "damaged-checkpoint-6", "damaged-checkpoint-9",
    }  # fmt: skip
    assert (copy / "last").resolve().name == "checkpoint-9"


def test_a_damaged_checkpoint_that_is_asked_for_by_name_is_refused(copy, pretrain_options, capsys):
    (copy / "checkpoint-9" / "config.json").write_text("{}")
    options = {**EVERY_THREE, "training.resume_from_checkpoint": copy / "checkpoint-9"}
    assert "checkpoint-9 is damaged: config.json has 2 bytes" in complaint(pretrain_options(copy, **options), capsys)


def test_where_every_checkpoint_is_damaged_nothing_is_overwritten(copy, pretrain_options, capsys):
    for folder in copy.glob("checkpoint-*"):
        (folder / "state" / "manifest.json").unlink()
    options = {**EVERY_THREE, "training.resume_from_checkpoint": "auto"}
    assert main(["pretrain", *pretrain_options(copy, **options)]) == 2
    assert "every checkpoint in" in capsys.readouterr().err
    assert len(list(copy.glob("checkpoint-*"))) == 3


def go_on_longer(copy, **settings):
    return {**EVERY_THREE, **settings, "training.max_steps": 15, "training.resume_from_checkpoint": "auto"}


def assert_intact(output_dir, *, best_of=9):
    assert (output_dir / "last").resolve().name == f"checkpoint-{best_of}"
    assert find_damage(output_dir / "last") is None
    assert not list(output_dir.glob(".checkpoint-*"))


@pytest.fixture
def no_space_behind(monkeypatch):
    """Return a function: no file may grow beyond so many bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_in_one_line_with_the_last_whole_checkpoint_intact(
    run, whole, copy, pretrain_options, capsys, no_space_behind
):
    weights = (copy / "last" / "model.safetensors").stat().st_size
    no_space_behind(weights // 2)
    error = complaint(pretrain_options(copy, **go_on_longer(copy)), capsys)
    assert f"cannot write to {copy}" in error and f"the last whole checkpoint is {copy / 'checkpoint-9'}" in error
    assert_intact(copy)
    no_space_behind(resource.RLIM_INFINITY)
    run(copy, **go_on_longer(copy))  # there is room again
    assert_intact(copy, best_of=15)


@pytest.mark.parametrize("when", ["fsync", "rename"])
def test_a_disk_that_fails_while_a_checkpoint_is_put_in_place_leaves_the_one_before(
    copy, pretrain_options, capsys, monkeypatch, when
):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    if when == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(checkpointing, "_put_in_place", fail)
    error = complaint(pretrain_options(copy, **go_on_longer(copy)), capsys)
    assert "No space left on device" in error and "checkpoint-9" in error
    assert_intact(copy)


def test_a_folder_that_cannot_be_written_to_is_said_before_the_first_step(
    pretrain_options, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(Trainer, "training_step", None)  # would fail if it were reached
    error = complaint(pretrain_options(tmp_path / "file" / "run"), capsys)
    assert f"cannot write to {tmp_path / 'file' / 'run'}: Not a directory; it holds no checkpoint" in error


def test_a_folder_that_becomes_read_only_ends_the_run_in_one_line(whole, pretrain_options, capsys, monkeypatch):
    """Root may write everywhere, so as root the run becomes nobody on its way."""
    original, user = Trainer.training_step, os.geteuid()

    def become_nobody(self, micro_batches, counts):
        if self.state.global_step == 11:
            copy.chmod(0o555)
            os.seteuid(user or 65534)
        original(self, micro_batches, counts)

    monkeypatch.setattr(Trainer, "training_step", become_nobody)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = shutil.copytree(whole, Path(folder) / "run", symlinks=True)
        for path in copy.rglob("*.safetensors"):
            path.chmod(0o644)
        try:
            error = complaint(pretrain_options(copy, **go_on_longer(copy)), capsys)
        finally:
            os.seteuid(user)
            copy.chmod(0o755)
        assert (
            f"cannot write to {copy}: Permission denied; the last whole checkpoint is {copy / 'checkpoint-9'}" in error
        )
        assert_intact(copy)


def test_a_folder_that_vanishes_ends_the_run_in_one_line(copy, pretrain_options, capsys, monkeypatch):
    original = Trainer.training_step

    def vanish(self, micro_batches, counts):
        if self.state.global_step == 11:
            copy.rename(copy.with_name("elsewhere"))
        original(self, micro_batches, counts)

    monkeypatch.setattr(Trainer, "training_step", vanish)
    assert f"cannot write to {copy}: No such file" in complaint(pretrain_options(copy, **go_on_longer(copy)), capsys)
    assert_intact(copy.with_name("elsewhere"))
    assert not copy.exists()


def test_a_limit_of_one_never_deletes_the_only_whole_checkpoint(run, copy):
    path = copy / "checkpoint-9" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    seen = []
    original = checkpointing.remove_old_checkpoints

    def watch(output_dir, **settings):
        original(output_dir, **settings)
        seen.append([folder.name for folder in output_dir.glob("checkpoint-*") if find_damage(folder) is None])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertkit.training.trainer.remove_old_checkpoints", watch)
        run(copy, **go_on_longer(copy, **{"training.save_total_limit": 1, "training.save_steps": 2}))
    assert len(seen) == 5 and all(1 <= len(names) <= 2 for names in seen)


def test_nothing_of_a_checkpoint_is_unpickled(copy, run, monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("something was unpickled")

    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.Unpickler", refuse)
    monkeypatch.setattr("torch.load", refuse)
    run(copy, **go_on_longer(copy))


def test_a_relative_folder_keeps_its_best_checkpoint_when_the_run_goes_on(run, tmp_path, monkeypatch):
    # A rate that ruins the model after a good start: the best checkpoint is an early one.
    ruin = {
        "training.max_steps": 10,
        "training.save_steps": 2,
        "training.warmup_steps": 10,
        "training.learning_rate": 3.0,
    }
    unbroken = run(**ruin)
    original = Trainer.training_step

    def dying(self, micro_batches, counts):
        if self.state.global_step == 9:
            raise KeyboardInterrupt
        original(self, micro_batches, counts)

    monkeypatch.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(Trainer, "training_step", dying)
        run(Path("relative"), **ruin)
    run(Path("relative"), **ruin, **{"training.resume_from_checkpoint": "auto"})
    assert (tmp_path / "relative" / "best").resolve().name == (unbroken / "best").resolve().name != "checkpoint-10"
    assert find_damage(tmp_path / "relative" / "best") is None


def test_a_checkpoint_moved_aside_by_a_killed_run_is_the_one_gone_on_from(run, copy, capsys):
    for number in (3, 6):
        shutil.rmtree(copy / f"checkpoint-{number}")
    (copy / "checkpoint-9").rename(copy / ".replaced-checkpoint-9.123")
    run(copy, **go_on_longer(copy), quiet="false")
    assert "going on from" in capsys.readouterr().out
    assert losses_of(copy)[0][0] == 2 and (copy / "last").resolve().name == "checkpoint-15"


def test_a_step_damaged_twice_is_set_aside_twice(run, copy):
    (copy / "damaged-checkpoint-9" / "older").mkdir(parents=True)
    path = copy / "checkpoint-9" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    run(copy, **EVERY_THREE, **KEPT, **{"training.resume_from_checkpoint": "auto"})
    assert (copy / "damaged-checkpoint-9.2" / "model.safetensors").is_file()


def test_a_log_torn_by_a_power_cut_does_not_stop_a_run_from_going_on(run, copy):
    with (copy / "log.jsonl").open("ab") as log:
        log.write(b"\0\0\0}\n[1]\n{}\n\xff\n")
    run(copy, **go_on_longer(copy))
    assert [step for step, _ in losses_of(copy)] == [2, 4, 6, 8, 9, 10, 12, 14, 15]


def test_weights_that_are_not_finite_are_never_saved(pretrain_options, tmp_path, capsys):
    options = {"training.learning_rate": 1e38, "training.save_steps": 1, "training.warmup_steps": 0}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **options)]) == 2
    error = capsys.readouterr().err
    assert "not finite" in error or "the loss is nan" in error
    assert not list((tmp_path / "run").glob("checkpoint-*"))
