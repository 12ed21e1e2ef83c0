"""A checkpoint folder loads where bertkit is not, and without a flag where it is."""

import ast
import json
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

MODEL_FILES = sorted(Path(bertkit.models.__file__).parent.glob("[mt]*_*.py"))

BASE = {"AutoModel": "last_hidden_state"}  # for a family that nothing is pretrained on
PRETRAINING_HEADS = {
    "AutoModelForPreTraining": "prediction_logits",
    "AutoModelForMaskedLM": "logits",
    "AutoModelForCausalLM": "logits",
    "AutoModelForSeq2SeqLM": "logits",
}

# A new head's parts: what it has of its own, and whether it reads the pooler as the family's config comes.
HEAD_PARTS = {
    "AutoModelForSequenceClassification": {"score"},
    "AutoModelForTokenClassification": {"score"},
    "AutoModelForQuestionAnswering": {"qa_outputs"},
    "AutoModelForMultipleChoice": {"score"},
}
READ_THE_POOLER = {"AutoModelForSequenceClassification", "AutoModelForMultipleChoice"}
MIXING = {"elmo": {"scalar_mix.gamma", "scalar_mix.weights"}}  # what a task head of the family has beside the scores
TWO_WAYS = {"elmo": "forward_logits"}  # what the family's pretraining head calls its scores

# What is new, so missing from the checkpoint, when a head loads from the checkpoint of another.
NEW_PARTS = {
    ("AutoModelForMaskedLM", "AutoModel"): {"pooler"},
    ("AutoModelForMaskedLM", "AutoModelForPreTraining"): {"model.pooler", "next_sentence_head"},
    ("AutoModelForMaskedLM", "AutoModelForNextSentencePrediction"): {"model.pooler", "next_sentence_head"},
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

report = {}
for family, saved_head, heads, logits_name in json.loads(sys.argv[3]):
    folder = root / f"{family}-{saved_head}"
    inputs, expected = load_file(f"{folder}-inputs.safetensors"), load_file(f"{folder}-outputs.safetensors")
    config = transformers.AutoConfig.from_pretrained(folder, **flag)
    assert config.model_type == f"bertkit-{family}" and config.hidden_size == 32, config
    for head in heads:
        auto_class = getattr(transformers, head)
        model, info = auto_class.from_pretrained(folder, output_loading_info=True, **flag)
        parts = {name.removesuffix(".weight").removesuffix(".bias").removesuffix(".dense") for name in info["missing_keys"]}
        report[f"{family} {saved_head} {head}"] = {"new": sorted(parts), "unexpected": sorted(info["unexpected_keys"])}
        batch = inputs
        if head == "AutoModelForMultipleChoice":
            batch = {name: rows[None] for name, rows in inputs.items()}  # one question, a choice a row
        with torch.no_grad():
            outputs = model(**batch, output_hidden_states=True)
        hidden_states = outputs.get("decoder_hidden_states", outputs.get("hidden_states"))
        assert len(hidden_states) == config.num_hidden_layers + 1
        if head == saved_head:
            torch.testing.assert_close(outputs[logits_name], expected["logits"])
        if head == "AutoModel":
            torch.testing.assert_close(outputs.last_hidden_state, expected["last_hidden_state"])
        if head == heads[-1]:
            model.save_pretrained(f"{folder}-again")
            again = auto_class.from_pretrained(f"{folder}-again", **flag)
            with torch.no_grad():
                scores = logits_name if head == saved_head else "logits"
                torch.testing.assert_close(again(**batch)[scores], outputs[scores])
            copied = {path.name for path in folder.glob("*.py")}
            assert copied == {path.name for path in pathlib.Path(f"{folder}-again").glob("*.py")}, copied
            assert again.config.auto_map.keys() == {"AutoConfig", *heads}, again.config.auto_map

assert with_bertkit or not [name for name in sys.modules if name.partition(".")[0] == "bertkit"]
print("REPORT" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A saved checkpoint of a small model for every family and head that is saved first, with inputs and their outputs."""
    root, saved = tmp_path_factory.mktemp("checkpoints"), []
    ids = {"input_ids": torch.arange(1, 13).view(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 61}
    for family, members in FAMILIES.items():
        known = {name: size for name, size in sizes.items() if name in members.config_class.__annotations__}
        config = bertkit.models.build_config(family, next(iter(members.presets)), **known)
        inputs = ids | ({"decoder_input_ids": ids["input_ids"].flip(0)} if config.is_encoder_decoder else {})
        saved_heads = PRETRAINING_HEADS if members.made_by == "pretrain" else BASE
        for head in members.auto_classes.keys() & saved_heads.keys():
            folder, logits = root / f"{family}-{head}", TWO_WAYS.get(family, saved_heads[head])
            model = bertkit.models.build_model(config, head).eval()
            model.save_pretrained(folder)
            with torch.no_grad():
                outputs = {
                    "logits": model(**inputs)[logits],
                    "last_hidden_state": model.base_model(**inputs)[0].clone(),
                }
            save_file(inputs, f"{folder}-inputs.safetensors")
            save_file(outputs, f"{folder}-outputs.safetensors")
            saved.append((family, head, list(members.auto_classes), logits))
    return root, saved


@pytest.mark.parametrize("bertkit_is", ["with", "without"])
def test_every_head_loads_from_every_first_checkpoint(checkpoints, bertkit_is, tmp_path):
    root, saved = checkpoints
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if bertkit_is == "with":
        environment["PYTHONPATH"] = str(Path(bertkit.models.__file__).parents[2])  # the copy under test
    program = [sys.executable, "-c", PROGRAM, bertkit_is, str(root), json.dumps(saved)]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = ast.literal_eval(done.stdout.partition("REPORT")[2])
    assert {family for family, *_ in saved} == FAMILIES.keys()
    for family, saved_head, heads, _ in saved:
        for head in heads:
            new = NEW_PARTS.get((saved_head, head), set())
            if head in HEAD_PARTS:
                new = HEAD_PARTS[head] | MIXING.get(family, set())
            if head in READ_THE_POOLER and saved_head == "AutoModelForMaskedLM":
                new = new | {"model.pooler"}
            expected = {"new": sorted(new), "unexpected": []}
            assert report[f"{family} {saved_head} {head}"] == expected, (family, saved_head, head)


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
