"""`training.attn_implementation` is taken by the models that have it, or refused in one line before the first step."""

import pytest
import torch

from bertkit.models import FAMILIES, build_config, build_model
from bertkit.training.attention import set_attention

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
            set_attention(model, "eager", precision="no")
        return
    set_attention(model, "eager", precision="no")
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("family", "name", "precision", "message"),
    [
        ("bert", "flash_attention_2", "no", "computes in half precision; give training.mixed_precision bf16 or fp16"),
        ("bert", "flash_attention_3", "bf16", "drops no attention weights; give model.attention_probs_dropout_prob 0"),
        (
            "transformer",
            "flash_attention_2",
            "bf16",
            "which bertkit-transformer does not take; choose from eager, sdpa",
        ),
        ("gpt", "flash_attention_2", "bf16", "which cannot be used here: "),  # there is no such package, and no GPU
    ],
)
def test_what_cannot_be_is_refused(family, name, precision, message):
    if torch.cuda.is_available():
        pytest.skip("where there is a GPU there may be the package")
    model = model_of(family)
    with pytest.raises(ValueError, match=message) as error:
        set_attention(model, name, precision=precision)
    assert "\n" not in str(error.value) and model.config._attn_implementation == "sdpa"


def test_a_run_without_the_package_ends_in_one_line_before_it_writes_anything(pretrain_options, tmp_path, capsys):
    from bertkit.cli import main

    settings = {"training.attn_implementation": "flash_attention_2", "training.mixed_precision": "bf16"}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) != 0
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "bertkit pretrain: training.attn_implementation is flash_attention_2, which cannot be used here: "
    )
    assert not list((tmp_path / "run").rglob("*.safetensors"))
