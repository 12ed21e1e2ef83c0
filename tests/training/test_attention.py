"""`training.attn_implementation` is taken by the models that have it, or refused in one line before the first step."""

import pytest
import torch

from bertkit.models import FAMILIES, build_config, build_model
from bertkit.training.attention import edge_finder, set_attention
from tests import flash_kernels

CPU, GPU = torch.device("cpu"), torch.device("cuda")
without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU there may be the package")
SIZES = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}


def model_of(family, **settings):
    fields = FAMILIES[family].config_class.__annotations__
    sizes = {name: value for name, value in SIZES.items() if name in fields}
    return build_model(build_config(family, **sizes, **settings), "AutoModel")


@pytest.mark.parametrize("family", FAMILIES)
def test_eager_attention_is_there_where_attention_is(family):
    model = model_of(family)
    if not model._supports_sdpa:
        with pytest.raises(ValueError, match=r"eager, but bertkit-.* has no attention to choose; leave it out"):
            set_attention(model, "eager", precision="no", device=CPU)
        return
    set_attention(model, "eager", precision="no", device=CPU)
    assert model.config._attn_implementation == "eager"


@without_a_gpu
@pytest.mark.parametrize(
    ("family", "name", "precision", "capability", "message"),
    [
        (
            "bert",
            "flash_attention_2",
            "no",
            (8, 0),
            "computes in half precision; give training.mixed_precision bf16 or fp16",
        ),
        (
            "bert",
            "flash_attention_2",
            "fp16",
            (7, 5),
            r"a GPU of compute capability 8\.0 or above, and Tesla T4 has 7\.5",
        ),
        ("bert", "flash_attention_2", "bf16", None, "needs a GPU, and this runs on CPUs; leave it out"),
        (
            "bert",
            "flash_attention_3",
            "bf16",
            (9, 0),
            "drops no attention weights; give model.attention_probs_dropout_prob 0",
        ),
        (
            "transformer",
            "flash_attention_2",
            "bf16",
            (9, 0),
            "bertkit-transformer does not take; choose from eager, sdpa",
        ),
        ("gpt", "flash_attention_2", "bf16", (9, 0), "which cannot be used here: "),  # there is no such package
    ],
)
def test_what_cannot_be_is_refused(family, name, precision, capability, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    model, device = model_of(family), CPU if capability is None else GPU
    with pytest.raises(ValueError, match=message) as error:
        set_attention(model, name, precision=precision, device=device)
    assert "\n" not in str(error.value) and model.config._attn_implementation == "sdpa"


@without_a_gpu
@pytest.mark.parametrize(
    "error", [OSError("libcudart.so.12: cannot open shared object file"), RuntimeError("two\nlines")]
)
def test_a_package_that_is_broken_is_one_line(error, monkeypatch):
    def fail(self, name):
        raise error

    model = model_of("bert")
    monkeypatch.setattr("bertkit.training.attention.refuse_device", lambda setting, device: None)
    monkeypatch.setattr(type(model), "set_attn_implementation", fail)
    message = "flash_attention_2, which cannot be used here: " + str(error).replace("\n", " ")
    with pytest.raises(ValueError, match=message):
        set_attention(model, "flash_attention_2", precision="bf16", device=CPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_edges_are_found_for_flash_attention_alone(family, monkeypatch):
    flash_kernels.install(monkeypatch)
    model = model_of(family)
    assert edge_finder(model) is None
    if model._supports_flash_attn:
        set_attention(model, "flash_attention_2", precision="bf16", device=CPU)
        assert edge_finder(model) is model.example_edges


@without_a_gpu
def test_a_run_without_a_gpu_ends_in_one_line_before_it_writes_anything(
    pretrain_options, tmp_path, capsys, forget_precision
):
    from bertkit.cli import main

    forget_precision()
    settings = {"training.attn_implementation": "flash_attention_2", "training.mixed_precision": "bf16"}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "bertkit pretrain: training.attn_implementation is flash_attention_2, which needs a GPU, and "
    )
    assert not list((tmp_path / "run").rglob("*.safetensors"))
