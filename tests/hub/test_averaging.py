"""Averaged checkpoints: their weights are the mean, and they load as any checkpoint does."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from bertkit.cli import main
from bertkit.models import build_config, build_model
from bertkit.training.manifest import find_damage, write_manifest


@pytest.fixture
def run(tmp_path):
    """A run's folder with four checkpoints of a small GPT, each with its card, its state and its own weights."""
    config = build_config("gpt", "tiny", vocab_size=31, hidden_size=16, intermediate_size=32)
    for step in (5, 20, 100, 30):
        torch.manual_seed(step)
        folder = tmp_path / "run" / f"checkpoint-{step}"
        build_model(config, "AutoModelForCausalLM").save_pretrained(folder)
        (folder / "state").mkdir()
        (folder / "state" / "trainer_state.json").write_text("{}")
        (folder / "README.md").write_text(f"# Model\n\nstep {step}\n\n## Data\n\n## Results\n")
        write_manifest(folder)
    return tmp_path / "run"


def weights(folder):
    return load_file(folder / "model.safetensors")


def complaint(arguments, capsys):
    assert main(["average", *map(str, arguments)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bertkit")]
    assert len(lines) == 1
    return lines[0]


def test_the_weights_are_the_mean_of_the_newest_checkpoints_and_load_through_auto_model(run, tmp_path, capsys):
    output = tmp_path / "models" / "mean"
    assert main(["average", str(run), "--last", "3", "--output", str(output)]) == 0
    assert "is the mean of checkpoint-20, checkpoint-30, checkpoint-100" in capsys.readouterr().out
    parts = [weights(run / f"checkpoint-{step}") for step in (20, 30, 100)]
    model, info = AutoModelForCausalLM.from_pretrained(output, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, tensor in parts[0].items():
        expected = torch.stack([part[name].double() for part in parts]).mean(dim=0).float()
        assert torch.equal(model.get_parameter(name), expected), name
        assert not torch.equal(expected, tensor) or name.endswith(("bias", "norm.weight"))
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model(torch.arange(8)[None]).logits.isfinite().all()


def test_all_other_files_are_the_last_checkpoints_but_its_state_and_the_card_says_whose_weights_these_are(
    run, tmp_path
):
    output = tmp_path / "mean"
    (run / "checkpoint-100" / "adapter").mkdir()  # of LoRA: the mean is no longer that change of the base model
    assert main(["average", str(run), "--last", "2", "--output", str(output)]) == 0
    (run / "checkpoint-100" / "adapter").rmdir()
    expected = {path.name for path in (run / "checkpoint-100").iterdir()}
    assert {path.name for path in output.iterdir()} == expected
    assert [path.name for path in (output / "state").iterdir()] == ["manifest.json"] and find_damage(output) is None
    config = json.loads((output / "config.json").read_text())
    assert config == json.loads((run / "checkpoint-100" / "config.json").read_text())
    card = (output / "README.md").read_text()
    assert "step 100" in card and "The weights are the mean of checkpoint-30, checkpoint-100." in card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean", "run"]  # nothing is left aside


def test_weights_that_are_no_floats_are_the_last_ones_and_half_precision_is_kept(run, tmp_path):
    for step, fill in ((30, 1.0), (100, 4.0)):
        tensors = {"half": torch.full((2,), fill, dtype=torch.bfloat16), "count": torch.tensor([step])}
        save_file(tensors, run / f"checkpoint-{step}" / "model.safetensors")
        write_manifest(run / f"checkpoint-{step}")
    assert main(["average", str(run), "--last", "2", "--output", str(tmp_path / "mean")]) == 0
    mean = weights(tmp_path / "mean")
    assert mean["count"].item() == 100
    assert torch.equal(mean["half"], torch.full((2,), 2.5, dtype=torch.bfloat16))


def test_what_cannot_be_averaged_is_told_in_one_line_and_leaves_nothing(run, tmp_path, capsys):
    output = ["--output", tmp_path / "mean"]
    assert "holds 4 checkpoints and not 5; average fewer, or train with a larger" in complaint([run, *output], capsys)
    assert f"{tmp_path / 'nope'}: there is no such folder; give that of a run" in complaint(
        [tmp_path / "nope", *output], capsys
    )
    assert "the mean of 1 checkpoints" in complaint([run, "--last", 1, *output], capsys)
    assert f"{run} exists; give another" in complaint([run, "--last", 2, "--output", run], capsys)
    path = run / "checkpoint-30" / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1])):  # the second one can be read
        path.write_bytes(damaged)
        line = complaint([run, "--last", 2, *output], capsys)
        assert f"{run / 'checkpoint-30'} is damaged: model.safetensors" in line
    path.unlink()
    assert "checkpoint-30 is damaged: model.safetensors is missing" in complaint([run, "--last", 2, *output], capsys)
    config = build_config("gpt", "tiny", vocab_size=32, hidden_size=16, intermediate_size=32)
    build_model(config, "AutoModelForCausalLM").save_pretrained(path.parent)
    write_manifest(path.parent)
    assert "are not of one model: model.embeddings.word_embeddings.weight differs" in complaint(
        [run, "--last", 2, *output], capsys
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
