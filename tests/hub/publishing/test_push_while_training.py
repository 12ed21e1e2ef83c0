"""`training.push_to_hub`: checkpoints go to the Hub as they are saved, and nothing that goes wrong there ends a training."""

import json
import shlex
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertkit.hub.publishing.training_push import revision_name
from tests.hub.conftest import READS_ONLY
from tests.hub.loopback_hub import Refused

NAME = "alice/tiny"


@pytest.fixture
def train(hub, pretrain_options, bertkit_with, tmp_path):
    """Return a function: settings -> what a pretraining of 6 steps, saved every 2, ends with."""

    def run(folder="run", **settings):
        mine = {"training.push_to_hub": "tiny", "training.save_steps": 2, "training.logging_steps": 1}
        environment = {name: settings.pop(name) for name in ("token", "HF_ENDPOINT") if name in settings}
        return bertkit_with(hub, "pretrain", *pretrain_options(tmp_path / folder, **(mine | settings)), **environment)

    return run


def tokens(folder: Path) -> int:
    return json.loads((folder / "state" / "trainer_state.json").read_text())["tokens_seen"]


def test_each_checkpoint_is_a_revision_named_by_its_tokens_and_main_has_the_best(hub, train, tmp_path):
    done = train(quiet="false", **{"training.save_total_limit": "null", "training.hub_license": "apache-2.0"})
    assert done.returncode == 0, done.stderr
    assert "made the private repository alice/tiny" in done.stdout and hub.repositories[NAME].private
    run = tmp_path / "run"
    revisions = {f"checkpoint-{step}": revision_name(tokens(run / f"checkpoint-{step}")) for step in (2, 4, 6)}
    assert set(hub.repositories[NAME].branches) == {"main", *revisions.values()} and len(set(revisions.values())) == 3
    for folder, revision in [*revisions.items(), ("best", "main")]:
        files = hub.files(NAME, revision)
        assert files["model.safetensors"] == (run / folder / "model.safetensors").read_bytes()
        assert f"at {hub.url}/{NAME}, revision {revision}" in done.stdout
        assert b"license: apache-2.0" in files["README.md"]
    assert len(set(hub.received)) == len(hub.received)  # main's weights were there


def test_main_gets_the_last_checkpoint_where_that_is_asked_for_and_old_ones_go_as_ever(hub, train, tmp_path):
    assert train(**{"training.save_total_limit": 1, "training.hub_checkpoint": "last"}).returncode == 0
    weights = (tmp_path / "run" / "last" / "model.safetensors").read_bytes()
    assert hub.main_files(NAME)["model.safetensors"] == weights
    assert len(hub.repositories[NAME].branches) == 4
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) <= 2


def test_pushing_changes_no_bit_of_the_training(hub, train, tmp_path):
    assert train().returncode == 0
    assert train("other", **{"training.push_to_hub": None}).returncode == 0
    weights = [load_file(tmp_path / folder / "last" / "model.safetensors") for folder in ("run", "other")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": None}, "there is no token of the Hub"),
        ({"token": READS_ONLY}, "the token may not write to tiny: You don't have the rights to create a model"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "the Hub at http://127.0.0.1:9 cannot be reached"),
        ({"training.push_to_hub": "bob/tiny"}, "the token may not write to bob/tiny"),
        ({"training.push_to_hub": "a b"}, "'a b' is no name of a repository"),
    ],
)
def test_what_would_stop_the_pushing_stops_the_run_before_its_first_step(hub, train, tmp_path, settings, message):
    done = train(**settings)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "run").glob("checkpoint-*")) and not (tmp_path / "run" / "log.jsonl").exists()


def test_a_push_that_fails_is_one_warning_with_the_command_that_repeats_it_and_the_training_ends_well(
    hub, train, tmp_path, bertkit_with
):
    hub.refuse = lambda method, path: Refused(507, "no space left") if path.startswith("/upload") else None
    done = train(**{"training.save_total_limit": "null"})
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and all(line.startswith("warning: ") and "no space left" in line for line in lines)
    assert (tmp_path / "run" / "last" / "model.safetensors").is_file()
    assert json.loads((tmp_path / "run" / "last" / "state" / "trainer_state.json").read_text())["finished"]
    hub.refuse = lambda method, path: None
    commands = [shlex.split(line.partition("to repeat it: ")[2]) for line in lines]
    for command in commands:
        assert command[0] == "bertkit" and bertkit_with(hub, *command[1:]).returncode == 0
    folder, revision = Path(commands[0][2]), commands[0][-1]
    assert folder.name == "checkpoint-2" and revision == revision_name(tokens(folder))
    assert hub.files(NAME, revision)["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert "--revision" not in commands[3] and "model.safetensors" in hub.main_files(NAME)


def test_a_bug_on_the_way_to_the_hub_ends_no_training_either(train, monkeypatch):
    monkeypatch.setattr("bertkit.hub.publishing.training_push.push", lambda *arguments, **settings: 1 / 0)
    done = train()
    assert done.returncode == 0 and done.stderr.count("warning: division by zero; to repeat it: bertkit push") == 4


def test_several_models_or_a_bag_of_words_are_not_pushed_at_once(hub, bertkit_with, tmp_path):
    options = ["--output_dir", tmp_path / "run", "--data.train", "a.tsv", "--training.push_to_hub", "tiny"]
    for others in (["--seeds", "[0,1]"], ["--folds", 3], ["--label_fractions", "[0.5]"], ["--model.family", "bow"]):
        done = bertkit_with(hub, "finetune", *options, *others)
        assert done.returncode == 2 and "training.push_to_hub takes one model" in done.stderr, done.stderr
    assert not hub.requests


def test_a_fine_tuned_model_is_pushed_as_well(hub, run_of_base, bertkit_with, tmp_path):
    lines = [f"{label}\t{word} {word}" for label, word in [("x", "so"), ("y", "ba")] * 20]
    (tmp_path / "train.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    options = ["--model.from", run_of_base, "--data.train", tmp_path / "train.tsv", "--training.max_steps", 4]
    options += ["--training.train_batch_size", 8, "--training.push_to_hub", NAME, "--quiet"]
    done = bertkit_with(hub, "finetune", "--output_dir", tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    assert hub.main_files(NAME)["model.safetensors"] == (tmp_path / "run" / "best" / "model.safetensors").read_bytes()
    assert b"pipeline_tag: text-classification" in hub.main_files(NAME)["README.md"]
    assert len(hub.repositories[NAME].branches) == 2


@pytest.fixture
def run_of_base(pretrain_options, bertkit_with, hub, tmp_path):
    """A pretrained checkpoint."""
    assert bertkit_with(hub, "pretrain", *pretrain_options(tmp_path / "base")).returncode == 0
    return tmp_path / "base" / "last"


@pytest.mark.slow
def test_of_two_processes_one_pushes(hub, pretrain_options, bertkit_process, tmp_path):
    options = pretrain_options(tmp_path / "run", **{"training.push_to_hub": "tiny", "training.save_steps": 3})
    launcher = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(20000 + time.time_ns() % 20000)]
    done = bertkit_process(
        hub, "pretrain", *options, launcher=[*launcher, "-m", "bertkit.cli"], ACCELERATE_USE_CPU="true"
    )
    assert done.returncode == 0, done.stderr
    titles = hub.repositories[NAME].titles
    assert sorted(titles) == ["checkpoint-3, by bertkit", "checkpoint-6, by bertkit", *titles[-1:], "initial commit"]
    assert len(hub.repositories[NAME].branches) == 3 and len(hub.received) == len(set(hub.received))
    assert hub.main_files(NAME)["model.safetensors"] == (tmp_path / "run" / "best" / "model.safetensors").read_bytes()
