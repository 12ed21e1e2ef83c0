"""Loading a checkpoint runs nothing of it: neither the code beside the weights, unless that is asked for, nor a pickle."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bertkit.models
from bertkit.cli import main
from bertkit.models import FAMILIES, build_config, build_model, load_model
from tests.hub.conftest import WITHOUT_BERTKIT

MODELS = Path(bertkit.models.__file__).parent
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 40, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def checkpoint(pretrain_options, tmp_path_factory):
    """A pretrained checkpoint."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["pretrain", *pretrain_options(folder)]) == 0
    return folder / "last"


@pytest.fixture
def marker(tmp_path):
    """What is there once code of a checkpoint has run."""
    return tmp_path / "it-ran"


@pytest.fixture
def poisoned(checkpoint, tmp_path, marker):
    """The checkpoint, its code with a line that writes a file when it is imported, a tokenizer's class among it."""
    folder = tmp_path / "poisoned"
    shutil.copytree(checkpoint, folder)
    shutil.rmtree(folder / "state")
    for path in folder.glob("*.py"):
        path.write_text(path.read_text() + f"\nopen({str(marker)!r}, 'w').close()\n")
    return folder


@pytest.fixture
def foreign(poisoned, marker):
    """A checkpoint of a model and a tokenizer that bertkit does not know, with code of their own."""
    config = json.loads((poisoned / "config.json").read_text())
    (poisoned / "config.json").write_text(json.dumps({**config, "model_type": "foreign"}))
    settings = json.loads((poisoned / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Foreign", "auto_map": {"AutoTokenizer": [None, "tokenization_foreign.Foreign"]}}
    (poisoned / "tokenizer_config.json").write_text(json.dumps(settings))
    (poisoned / "tokenization_foreign.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as Foreign\n"
    )
    return poisoned


def auto_model(program, tmp_path):
    """Run a program where bertkit is not, with nobody to answer questions."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WITHOUT_BERTKIT + program]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, timeout=300
    )


def test_transformers_runs_the_code_only_with_the_flag(poisoned, marker, tmp_path):
    program = f"""
from transformers import AutoModel
for flags in ({{}}, {{"trust_remote_code": False}}):
    try:
        AutoModel.from_pretrained({str(poisoned)!r}, **flags)
    except ValueError as error:
        assert "trust_remote_code" in str(error), error
    else:
        raise AssertionError("it was loaded")
import os
assert not os.path.exists({str(marker)!r})
AutoModel.from_pretrained({str(poisoned)!r}, trust_remote_code=True)
"""
    done = auto_model(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert marker.exists()  # so the tests below would see it


def test_bertkit_reads_evaluates_and_trains_on_without_running_it(poisoned, marker, corpus_file, tmp_path):
    (tmp_path / "texts.txt").write_text("so ba [MASK]\n")
    (tmp_path / "train.tsv").write_text("label\ttext\n" + "".join(f"{n % 2}\tso ba {n}\n" for n in range(40)))
    train = ["--data.train", str(tmp_path / "train.tsv"), "--training.max_steps", "2", "--quiet"]
    texts, output = str(tmp_path / "texts.txt"), str(tmp_path / "tuned")
    commands = [
        ["predict", str(poisoned), texts, "--quiet"],
        ["features", str(poisoned), texts, "--output", str(tmp_path / "vectors.parquet"), "--quiet"],
        ["evaluate", str(poisoned), str(corpus_file), "--quiet"],
        ["finetune", "--model.from", str(poisoned), *train, "--output_dir", output],
    ]
    for command in commands:
        assert main(command) == 0, command
    assert not marker.exists()
    for path in (tmp_path / "tuned" / "last").glob("*.py"):
        assert path.read_bytes() == (MODELS / path.name).read_bytes()  # and it is not handed on


def test_bertkits_own_classes_are_taken_even_with_the_flag(poisoned, marker):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model = AutoModelForMaskedLM.from_pretrained(poisoned, trust_remote_code=True)
    AutoTokenizer.from_pretrained(poisoned, trust_remote_code=True)
    assert type(model).__module__ == "bertkit.models.modeling_bert"
    assert not marker.exists()


def test_code_of_strangers_is_refused_in_one_line_and_nobody_is_asked(
    foreign, marker, pretrain_options, tmp_path, capsys, monkeypatch
):
    def refuse(*arguments):
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", refuse)
    (tmp_path / "texts.txt").write_text("so ba\n")
    texts = str(tmp_path / "texts.txt")
    (tmp_path / "train.tsv").write_text("label\ttext\n1\tso\n0\tba\n")
    train = ["--data.train", str(tmp_path / "train.tsv"), "--training.max_steps", "2", "--quiet"]
    commands = [
        ["predict", str(foreign), texts, "--quiet"],
        ["features", str(foreign), texts, "--output", str(tmp_path / "vectors.parquet"), "--quiet"],
        ["finetune", "--model.from", str(foreign), *train, "--output_dir", str(tmp_path / "tuned")],
        ["probe", str(foreign), *train[:2], "--data.eval", train[1], "--quiet"],
        ["export", str(foreign), "--to", "native", "--output", str(tmp_path / "native"), "--quiet"],
        ["import", "native", str(foreign), "--output", str(tmp_path / "ours"), "--quiet"],
        ["import", "native", str(foreign), "--tokenizer", "none", "--output", str(tmp_path / "ours2"), "--quiet"],
        ["pretrain", *pretrain_options(tmp_path / "run", tokenizer=foreign)],
        ["pretrain", *pretrain_options(tmp_path / "run2", **{"model.from": foreign, "model.family": None})],
    ]
    for command in commands:
        capsys.readouterr()
        assert main(command) == 2, command
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bertkit")]
        assert len(lines) == 1, (command, lines)
        reasons = ("has code of its own, which bertkit does not run", "model of type 'foreign'", "model type 'foreign'")
        assert any(reason in lines[0] for reason in reasons), (command, lines)
    assert not marker.exists()


class WritesAFile:
    """What a pickle may do when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_refused_in_one_line_and_not_read(checkpoint, marker, tmp_path, capsys):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "pickled"))
    (folder / "model.safetensors").unlink()
    torch.save({"weight": WritesAFile(marker)}, folder / "pytorch_model.bin")
    message = f"{folder} has no safetensors weights, only pytorch_model.bin, a pickle, whose loading can run code"
    with pytest.raises(ValueError, match="a pickle, whose loading can run code"):
        load_model(folder, "AutoModelForMaskedLM")
    (tmp_path / "texts.txt").write_text("so ba [MASK]\n")
    texts, output = str(tmp_path / "texts.txt"), str(tmp_path / "out")
    for command in (
        ["predict", str(folder), texts],
        ["features", str(folder), texts, "--output", str(tmp_path / "v.parquet")],
        ["export", str(folder), "--to", "native", "--output", output],
        ["export", str(folder), "--to", "onnx", "--output", output],
    ):
        assert main([*command, "--quiet"]) == 2
        assert message in capsys.readouterr().err
    assert not marker.exists()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="has no safetensors weights; save the model again"):
        load_model(folder, "AutoModelForMaskedLM")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_code_in_a_checkpoint_is_the_released_code_to_the_byte(family, tmp_path):
    members = FAMILIES[family]
    known = {name: value for name, value in SMALL.items() if name in members.config_class.__annotations__}
    config = build_config(family, next(iter(members.presets)), **known)
    build_model(config, next(iter(members.auto_classes))).save_pretrained(tmp_path)
    copied = sorted(tmp_path.rglob("*.py"))
    assert f"modeling_{config.model_type.removeprefix('bertkit-')}.py" in {path.name for path in copied}
    for path in copied:
        assert path.read_bytes() == (MODELS / path.name).read_bytes(), path.name
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
