"""Fresh weights that look at neighbours: where attention lies before any training, and that nothing else changes."""

import pytest
import torch

from bertkit.models import build_config, build_model, load_model
from bertkit.models.modeling_neighbours import sine_positions

SHAPES = [(128, 2, 128), (256, 4, 512), (768, 12, 512)]  # width, heads, positions


def fresh_model(initial_attention, width=128, heads=2, positions=128):
    config = build_config(
        "bert",
        vocab_size=997,
        hidden_size=width,
        num_attention_heads=heads,
        num_hidden_layers=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.68 / width**0.5,
        initial_attention=initial_attention,
    )
    torch.manual_seed(0)
    return build_model(config, "AutoModelForMaskedLM").eval()


@pytest.mark.parametrize(("width", "heads", "positions"), SHAPES)
def test_heads_of_the_first_layer_look_one_token_back_and_one_ahead_in_turns(width, heads, positions):
    model = fresh_model("neighbours", width, heads, positions)
    model.set_attn_implementation("eager")
    ids = torch.randint(5, 997, (8, positions), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = model(ids, output_attentions=True).attentions
    for head in range(heads):
        step = -1 if head % 2 == 0 else 1
        assert first[:, head].diagonal(step, -2, -1).mean() > 0.35
        others = [first[:, head].diagonal(other, -2, -1).mean() for other in range(-5, 6) if other != step]
        assert max(others) < 0.03
    assert second.diagonal(-1, -2, -1).mean() < 3 / positions  # as diffuse as ever


@pytest.mark.parametrize("head_dim", [32, 64])
def test_positions_of_a_row_do_not_look_alike(head_dim):
    waves = sine_positions(512, head_dim, num_heads=1, std=1.0)
    likeness = (waves @ waves.T / head_dim).fill_diagonal_(0)
    assert likeness.max() < 0.62


def test_all_other_weights_are_those_of_the_same_seed_with_random_attention():
    random, neighbours = (fresh_model(start).state_dict() for start in ("random", "neighbours"))
    changed = [name for name in random if not torch.equal(random[name], neighbours[name])]
    assert changed == ["model.embeddings.position_embeddings.weight", "model.layers.0.attention.qkv.weight"]
    values = slice(2 * 128, None)
    assert torch.equal(random[changed[1]][values], neighbours[changed[1]][values])


def test_weights_that_are_left_on_the_disk_are_not_drawn_anew(tmp_path):
    model = fresh_model("neighbours")
    model.save_pretrained(tmp_path / "whole")
    placed = {"device_map": "auto", "max_memory": {"cpu": 100_000}, "offload_folder": tmp_path / "offloaded"}
    offloaded = load_model(tmp_path / "whole", "AutoModelForMaskedLM", **placed).eval()
    assert offloaded.model.layers[0].attention.qkv.weight.is_meta
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(offloaded(ids).logits, model(ids).logits)


def test_positions_start_as_large_as_tokens():
    embeddings = fresh_model("neighbours").model.embeddings
    tokens, positions = (
        part.weight.pow(2).mean().sqrt().item() for part in (embeddings.word_embeddings, embeddings.position_embeddings)
    )
    assert positions == pytest.approx(tokens, rel=0.05)


def test_a_loaded_checkpoint_keeps_what_it_learned(tmp_path):
    model = fresh_model("neighbours")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, "AutoModelForMaskedLM").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
