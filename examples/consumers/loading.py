"""How a checkpoint is loaded: in half precision, onto devices, from shards, from the Hub, natively, and without bertkit."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

from bertkit.cli import main
from bertkit.hub.native import ARCHITECTURES
from bertkit.models import load_model
from examples.consumers.workbench import Kind, Workbench, assert_close, assert_differ, assert_equal
from tests.hub.loopback_hub import File, LoopbackHub, Repository, serving

HALVES = {torch.bfloat16: 0.1, torch.float16: 0.02}  # and how far states of a size around 1 may then be off
REVISION = "tokens-4096"
ROOT = Path(__file__).parents[2]
WITHOUT_BERTKIT = ROOT / "examples" / "without_bertkit.py"

# Runs a script where bertkit, though it is installed, cannot be imported.
_REFUSING = """
import importlib.abc, runpy, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bertkit":
            raise ImportError("bertkit must not be needed")

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def half_precision(bench: Workbench, kind: Kind) -> None:
    """With a dtype all weights have it, the outputs come near, and a checkpoint saved so loads so."""
    for head in kind.heads:
        batch = bench.batch(kind, head)
        expected = bench.outputs(bench.model(kind, head), batch)
        for dtype, tolerance in HALVES.items():
            model = bench.model(kind, head, dtype=dtype)
            assert {one.dtype for one in model.state_dict().values() if one.is_floating_point()} == {dtype}
            found = bench.outputs(model, batch)
            for name, values in expected.items():
                error = (found[name] - values).abs().max() / values.abs().max().clamp(min=1)
                assert found[name].isfinite().all() and error < tolerance, f"{head}: {name} is off by {error:.3f}"
        folder = bench.folder(f"half/{bench.name_of(kind)}-{head}")
        model.save_pretrained(folder)
        again = load_model(folder, head).eval()
        assert again.dtype == dtype
        assert_equal(again.state_dict(), model.state_dict())


def device_map(bench: Workbench, kind: Kind) -> None:
    """Placed by name, by themselves, and with a part left on the disk, all heads say the same."""
    for head in kind.heads:
        model, batch = bench.model(kind, head), bench.batch(kind, head)
        expected = bench.outputs(model, batch)
        for where in ("cpu", "auto"):
            placed = bench.model(kind, head, device_map=where)
            assert {one.device.type for one in placed.parameters()} == {"cpu"}
            assert_close(bench.outputs(placed, batch), expected)
        size = sum(one.numel() * one.element_size() for one in model.parameters())
        offloaded = bench.model(
            kind,
            head,
            device_map="auto",
            max_memory={"cpu": int(size * 0.6)},
            offload_folder=bench.folder(f"offload/{bench.name_of(kind)}-{head}"),
        )
        assert "disk" in offloaded.hf_device_map.values()
        assert_close(bench.outputs(offloaded, batch), expected)


def shards(bench: Workbench, kind: Kind) -> None:
    """All heads, saved in several files, load with the same numbers."""
    for head in kind.heads:
        model, batch = bench.model(kind, head), bench.batch(kind, head)
        folder = bench.folder(f"shards/{bench.name_of(kind)}-{head}")
        size = sum(one.numel() * one.element_size() for one in model.parameters())
        model.save_pretrained(folder, max_shard_size=size // 3)
        files = len(list(folder.glob("*.safetensors")))
        assert files > 1 or len(list(model.parameters())) == 1  # which no shard divides
        loaded = load_model(folder, head).eval()
        assert_equal(loaded.state_dict(), model.state_dict())
        assert_close(bench.outputs(loaded, batch), bench.outputs(model, batch))


def has_native(kind: Kind) -> bool:
    """Tell whether transformers has an architecture of its own for a kind of model."""
    return kind.family in {architecture.family for architecture in ARCHITECTURES.values()}


def exported(bench: Workbench, kind: Kind) -> Path:
    """Return the folder of a checkpoint as `bertkit export --to native` writes it."""

    def export() -> Path:
        checkpoint, folder = bench.checkpoint(kind, kind.own_head), bench.root / "native" / bench.name_of(kind)
        with redirect_stdout(io.StringIO()):
            assert main(["export", str(checkpoint), "--to", "native", "--output", str(folder)]) == 0
        return folder

    return bench.once(f"native {bench.name_of(kind)}", export)


def native_export(bench: Workbench, kind: Kind) -> None:
    """Exported to transformers' own class, a model loads by its Auto class alone and says the same."""
    folder = exported(bench, kind)
    model = getattr(transformers, kind.own_head).from_pretrained(folder).eval()
    assert type(model).__module__.startswith("transformers.models.") and not list(folder.glob("*.py"))
    batch = bench.batch(kind, kind.own_head)
    _assert_same_scores(bench.outputs(model, _as_native(model, batch)), _scores(bench, kind), batch)


def _as_native(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a batch what the class of transformers does not take."""
    knows_segments = hasattr(model.config, "type_vocab_size")
    return {name: values for name, values in batch.items() if name != "token_type_ids" or knows_segments}


def _scores(bench: Workbench, kind: Kind) -> dict[str, torch.Tensor]:
    return bench.outputs(bench.model(kind, kind.own_head), bench.batch(kind, kind.own_head))


def _assert_same_scores(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> None:
    """Raise unless the scores of all real tokens are the same."""
    is_token = batch["attention_mask"].bool()
    assert_close({"scores": found["logits"][is_token]}, {"scores": expected["logits"][is_token]}, 1e-4)


def without_bertkit(bench: Workbench, kind: Kind) -> None:
    """Where bertkit is not, all heads load and say the same; a native export without a flag."""
    said = _elsewhere(bench)
    for head in kind.heads:
        found = said[str(bench.checkpoint(kind, head))]
        assert "error" not in found, found["error"]
        assert not found["warnings"], f"{found['class']} warned: {found['warnings']}"
        assert found["module"].startswith("transformers_modules.") and found["flag"] and found["answer"]
        assert_close(found["outputs"], bench.outputs(bench.model(kind, head), bench.batch(kind, head)))
    if has_native(kind):
        found = said[str(exported(bench, kind))]
        assert "error" not in found, found["error"]
        assert not found["warnings"], f"{found['class']} warned: {found['warnings']}"
        assert found["module"].startswith("transformers.models.") and not found["flag"]
        _assert_same_scores(found["outputs"], _scores(bench, kind), bench.batch(kind, kind.own_head))


def hub_revision(bench: Workbench, kind: Kind) -> None:
    """By its name on the Hub a model comes as `main` has it, and with `revision` as that has it."""
    said, name = _elsewhere(bench), f"alice/{bench.name_of(kind)}"
    for found in (said[name], said[f"{name}@{REVISION}"]):
        assert "error" not in found, found["error"]
    main, revision = said[name]["outputs"], said[f"{name}@{REVISION}"]["outputs"]
    assert_close(main, _scores(bench, kind))
    other = load_model(bench.checkpoint(kind, kind.own_head, seed=1), kind.own_head).eval()
    assert_close(revision, bench.outputs(other, bench.batch(kind, kind.own_head)))
    if kind.source is None:
        assert_differ(main, revision)


def _elsewhere(bench: Workbench) -> dict[str, dict[str, Any]]:
    """Return what every checkpoint says in one process that cannot import bertkit, from folders and from the Hub."""
    return bench.once("elsewhere", lambda: _ask_elsewhere(bench))


def _ask_elsewhere(bench: Workbench) -> dict[str, dict[str, Any]]:
    names = [str(bench.checkpoint(kind, head)) for kind in bench.kinds.values() for head in kind.heads]
    names += [str(exported(bench, kind)) for kind in bench.kinds.values() if has_native(kind)]
    folder, hub = bench.folder("elsewhere"), LoopbackHub({})
    for kind in bench.kinds.values():
        name = f"alice/{bench.name_of(kind)}"
        hub.repositories[name] = _repository(bench, kind, hub)
        names += [name, f"{name}@{REVISION}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    with serving(hub):
        its_own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
        its_own |= {
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        files = ["--json", str(folder / "said.json"), "--outputs", str(folder / "outputs.safetensors")]
        command = [sys.executable, "-c", _REFUSING, str(WITHOUT_BERTKIT), *names, *files]
        done = subprocess.run(command, cwd=folder, env=kept | its_own, capture_output=True, text=True, timeout=600)
    if not (folder / "outputs.safetensors").is_file():
        raise AssertionError(f"{WITHOUT_BERTKIT.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    said: dict[str, dict[str, Any]] = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    numbers = load_file(folder / "outputs.safetensors")
    for one in said.values():
        start = f"{one['place']} "
        one["outputs"] = {name.removeprefix(start): value for name, value in numbers.items() if name.startswith(start)}
    return said


def _repository(bench: Workbench, kind: Kind, hub: LoopbackHub) -> Repository:
    """Return a public repository with one model as `main` and another as a revision."""
    repository = Repository(private=False)
    for branch, seed in (("main", 0), (REVISION, 1)):
        files = {}
        for path in bench.checkpoint(kind, kind.own_head, seed).iterdir():
            file = File(path.read_bytes(), is_lfs=path.suffix == ".safetensors")
            files[path.name] = file
            hub.blobs[file.sha256] = file.content
        repository.commit(branch, files, f"the model of seed {seed}")
    return repository
