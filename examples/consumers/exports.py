"""Checkpoints as files of other programs: what they compute is what the checkpoint computes."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import torch
from transformers import AutoTokenizer

from bertkit.cli import main
from examples.consumers.workbench import TEXTS, Kind, Workbench, assert_close


def _exported(bench: Workbench, kind: Kind, head: str, target: str, *options: str) -> Path:
    checkpoint, folder = bench.checkpoint(kind, head), bench.root / target / bench.name_of(kind)
    with redirect_stdout(io.StringIO()):
        assert main(["export", str(checkpoint), "--to", target, "--output", str(folder), *options]) == 0
    return folder


def onnx(bench: Workbench, kind: Kind) -> None:
    """Exported to ONNX, it says the same of what the exported tokenizer makes of texts, and nearly so in eight bits."""
    import onnxruntime

    folder = _exported(bench, kind, kind.own_head, "onnx", "--int8", "true")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=kind.spells)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = bench.outputs(bench.model(kind, kind.own_head), batch)
    is_token = batch["attention_mask"].bool()
    for file, tolerance in (("model.onnx", 1e-4), ("model_int8.onnx", 0.5)):
        session = onnxruntime.InferenceSession(folder / file)
        names = [output.name for output in session.get_outputs()]
        given = {each.name: batch[each.name].numpy() for each in session.get_inputs()}
        found = dict(zip(names, map(torch.from_numpy, session.run(None, given)), strict=True))
        assert names and set(names) <= set(expected), names
        ours = {name: _of_tokens(expected[name], is_token) for name in names}
        assert_close({name: _of_tokens(found[name], is_token) for name in names}, ours, tolerance)


def _of_tokens(values: torch.Tensor, is_token: torch.Tensor) -> torch.Tensor:
    """Leave padding out, of which nothing is claimed, where there is a value a token."""
    return values[is_token] if values.shape[: is_token.dim()] == is_token.shape else values


def sentence_transformers(bench: Workbench, kind: Kind) -> None:
    """Exported to sentence-transformers, `encode` gives the means of the last states."""
    from sentence_transformers import SentenceTransformer

    folder = _exported(bench, kind, "AutoModel", "sentence-transformers")
    batch = bench.batch(kind, "AutoModel")
    states, mask = (
        bench.outputs(bench.model(kind, "AutoModel"), batch)["last_hidden_state"],
        batch["attention_mask"][..., None],
    )
    means = (states * mask).sum(dim=1) / mask.sum(dim=1)
    vectors = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    assert_close({"vectors": vectors}, {"vectors": means})
