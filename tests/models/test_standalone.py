"""A checkpoint folder loads where bertkit is not, and without a flag where it is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers.dynamic_module_utils import get_relative_imports

import bertkit.models
from bertkit.models import FAMILIES

MODEL_FILES = sorted(Path(bertkit.models.__file__).parent.glob("modeling_*.py"))

# What is new, so missing from the checkpoint, when a head loads from the checkpoint of another.
NEW_PARTS = {
    ("AutoModelForPreTraining", "AutoModelForSequenceClassification"): {"score"},
    ("AutoModelForMaskedLM", "AutoModel"): {"pooler"},
    ("AutoModelForMaskedLM", "AutoModelForPreTraining"): {"model.pooler", "next_sentence_head"},
    ("AutoModelForMaskedLM", "AutoModelForNextSentencePrediction"): {"model.pooler", "next_sentence_head"},
    ("AutoModelForMaskedLM", "AutoModelForSequenceClassification"): {"model.pooler", "score"},
}

PROGRAM = """
import importlib.abc, json, pathlib, sys

with_bertkit, root = sys.argv[1] == "with", pathlib.Path(sys.argv[2])

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bertkit":
            raise ImportError("bertkit must not be needed")

if with_bertkit:
    import bertkit.models
    flag = {}
else:
    sys.meta_path.insert(0, Refuse())
    flag = {"trust_remote_code": True}

import torch, transformers
from safetensors.torch import load_file

inputs = load_file(root / "inputs.safetensors")
report = {}
for saved_head in ("AutoModelForPreTraining", "AutoModelForMaskedLM"):
    folder = root / saved_head
    config = transformers.AutoConfig.from_pretrained(folder, **flag)
    assert config.model_type == "bertkit-bert" and config.hidden_size == 32, config
    for head in json.loads(sys.argv[3]):
        auto_class = getattr(transformers, head)
        model, info = auto_class.from_pretrained(folder, output_loading_info=True, **flag)
        parts = {name.removesuffix(".weight").removesuffix(".bias").removesuffix(".dense") for name in info["missing_keys"]}
        report[f"{saved_head} {head}"] = {"new": sorted(parts), "unexpected": sorted(info["unexpected_keys"])}
        with torch.no_grad():
            outputs = model(**inputs, output_hidden_states=True)
        assert len(outputs.hidden_states) == config.num_hidden_layers + 1
        expected = load_file(root / f"{saved_head}-outputs.safetensors")
        logits = outputs.get("prediction_logits", outputs.get("logits"))
        if head in ("AutoModelForPreTraining", "AutoModelForMaskedLM"):
            torch.testing.assert_close(logits, expected["logits"])
        if head == "AutoModel":
            torch.testing.assert_close(outputs.last_hidden_state, expected["last_hidden_state"])
        if head == "AutoModelForSequenceClassification":
            model.save_pretrained(root / f"again-{saved_head}")
            again = transformers.AutoModelForSequenceClassification.from_pretrained(root / f"again-{saved_head}", **flag)
            with torch.no_grad():
                torch.testing.assert_close(again(**inputs).logits, logits)
            copied = {path.name for path in folder.glob("*.py")}
            assert copied == {path.name for path in (root / f"again-{saved_head}").glob("*.py")}, copied
            assert len(again.config.auto_map) == 6, again.config.auto_map

assert with_bertkit or not [name for name in sys.modules if name.partition(".")[0] == "bertkit"]
print("REPORT" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two saved checkpoints of small models, with inputs and the outputs they must give."""
    root = tmp_path_factory.mktemp("checkpoints")
    inputs = {"input_ids": torch.arange(1, 13).view(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    save_file(inputs, root / "inputs.safetensors")
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 61}
    for head in ("AutoModelForPreTraining", "AutoModelForMaskedLM"):
        config = bertkit.models.build_config("bert", "tiny", **sizes)
        model = bertkit.models.build_model(config, head).eval()
        model.save_pretrained(root / head)
        with torch.no_grad():
            outputs = model(**inputs)
            states = model.model(**inputs).last_hidden_state
        logits = outputs["prediction_logits" if head == "AutoModelForPreTraining" else "logits"]
        save_file({"logits": logits, "last_hidden_state": states}, root / f"{head}-outputs.safetensors")
    return root


@pytest.mark.parametrize("bertkit_is", ["with", "without"])
def test_every_head_loads_from_either_pretraining_checkpoint(checkpoints, bertkit_is, tmp_path):
    heads = list(FAMILIES["bert"].auto_classes)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", PROGRAM, bertkit_is, str(checkpoints), str(heads).replace("'", '"')]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = ast.literal_eval(done.stdout.partition("REPORT")[2])
    for saved in ("AutoModelForPreTraining", "AutoModelForMaskedLM"):
        for head in heads:
            expected = {"new": sorted(NEW_PARTS.get((saved, head), ())), "unexpected": []}
            assert report[f"{saved} {head}"] == expected, (saved, head)


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_model_files_import_only_torch_transformers_and_siblings(path):
    # transformers copies what its line pattern finds; anything else would be missing where the checkpoint is loaded
    allowed = {"torch", "transformers", "huggingface_hub", *sys.stdlib_module_names}
    siblings = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.partition(".")[0] in allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1 and node.module and (path.parent / f"{node.module}.py") in MODEL_FILES
            siblings.add(node.module)
    assert set(get_relative_imports(path)) == siblings
