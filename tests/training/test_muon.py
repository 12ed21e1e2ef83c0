"""Muon moves matrices as torch's own does, but in full precision, and everything else as AdamW does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bertkit.models import build_config, build_model
from bertkit.training.arguments import TrainingArguments
from bertkit.training.muon import COEFFICIENTS, ITERATIONS, STACKED, Muon, orthogonal
from bertkit.training.optimization import build_optimizer, set_learning_rate


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 9))
def test_an_orthogonal_matrix_turns_as_the_given_one_with_singular_values_about_one(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    made = left.t() @ orthogonal(matrix) @ right.t()
    clear = values > 0.1 * values.max()  # the smallest ones take more iterations
    assert ((made.diag() > 0.6) & (made.diag() < 1.25))[clear].all()
    torch.testing.assert_close(made, made.diag().diag(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("shape", [(24, 24), (24, 30), (24, 96), (96, 24), (1, 50)])
def test_matrices_of_every_shape_have_their_singular_values_moved_by_the_polynomial(shape, dtype, tolerance):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64) * torch.logspace(0, -6, shape[1])
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / (values.norm() + 1e-7)
    for _ in range(ITERATIONS):
        values = sum(coefficient * values ** (2 * n + 1) for n, coefficient in enumerate(COEFFICIENTS))
    made = orthogonal(matrix.to(dtype)).double()
    torch.testing.assert_close(made, left * values @ right, rtol=0, atol=tolerance)


@given(stacked=st.integers(1, 4), rows=st.integers(1, 9), seed=st.integers(0, 9))
def test_matrices_one_on_another_are_made_orthogonal_each_by_itself(stacked, rows, seed):
    matrix = torch.randn(stacked * rows, 5, generator=torch.Generator().manual_seed(seed))
    each = torch.cat([orthogonal(part) for part in matrix.split(rows)])
    assert torch.equal(orthogonal(matrix, stacked), each)
    if stacked > 1:
        behind = matrix.view(stacked, rows, 5)
        assert torch.equal(orthogonal(behind, stacked), each.view_as(behind))


def test_of_a_gradient_of_zero_nothing_follows():
    assert (orthogonal(torch.zeros(3, 5)) == 0).all()


@pytest.mark.parametrize("shape", [(6, 6), (12, 4), (4, 12)])
def test_matrices_move_as_by_torchs_own_muon(shape):
    # torch rounds to bfloat16 inside, which leaves it two to three digits.
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = [
        Muon([{"params": [ours], STACKED: 1}], **settings),
        torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(4):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours - 1, theirs - 1, rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_no_hidden_matrix_moves_to_the_bit_as_by_adamw(fused):
    ours, theirs = ([nn.Parameter(torch.ones(5, 3)), nn.Parameter(torch.ones(4))] for _ in range(2))
    settings = {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1, "fused": fused}
    optimizers = [Muon([{"params": ours}], **settings), torch.optim.AdamW(theirs, **settings)]
    for step in range(3):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)


def test_the_steps_of_a_fused_adamw_are_loaded_to_the_device():
    optimizer = Muon([{"params": [nn.Parameter(torch.zeros(3, device="meta"))]}], lr=0.1, fused=True)
    slots = {"step": torch.ones(()), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: slots}})
    assert {slot.device.type for state in optimizer.state.values() for slot in state.values()} == {"meta"}


def test_the_gates_and_projections_of_elmo_are_muons():
    model = build_model(build_config("elmo", "tiny", vocab_size=50, pad_token_id=0), "AutoModelForPreTraining")
    groups = {"all": [name for name, _ in model.named_parameters()]}
    optimizer = build_optimizer(model, TrainingArguments(max_steps=1, optimizer="muon"), groups)
    set_learning_rate(optimizer, 0.01)
    stacked = {id(p): group[STACKED] for group in optimizer.param_groups for p in group["params"]}
    cell = model.model.layers[0].lstm
    matrices = cell.weight_ih, cell.weight_hh, cell.weight_hr
    assert [stacked[id(matrix)] for matrix in matrices] == [8, 8, 2]  # four gates, and a projection, of each direction
    before = [matrix.detach().clone() for matrix in matrices]
    for matrix in matrices:
        matrix.grad = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    for matrix, was in zip(matrices, before, strict=True):
        moved = (matrix - was).square().mean().sqrt() / 0.05  # the matrices' rate
        assert 0.1 < moved < 0.25  # as far as AdamW would move it


@pytest.mark.parametrize("family", ["bert", "gpt", "rnn", "transformer"])
def test_the_matrices_of_the_layers_are_muons_and_embeddings_head_and_vectors_adamws(family):
    head = {"bert": "AutoModelForMaskedLM", "transformer": "AutoModelForSeq2SeqLM"}.get(family, "AutoModelForCausalLM")
    model = build_model(build_config(family, "tiny", vocab_size=50, pad_token_id=0), head)
    groups = {"all": [name for name, _ in model.named_parameters()]}
    optimizer = build_optimizer(model, TrainingArguments(max_steps=1, optimizer="muon"), groups)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon = {names[id(p)] for g in optimizer.param_groups if g[STACKED] for p in g["params"]}
    stacks = {names[id(p)].rpartition(".")[2]: g[STACKED] for g in optimizer.param_groups for p in g["params"]}
    if family == "rnn":
        assert (stacks["weight_ih_l0"], stacks["weight_hh_l0"]) == (4, 4)
    else:
        of_layers = {
            names[id(p)].split(".")[-2]: g[STACKED] for g in optimizer.param_groups if g[STACKED] for p in g["params"]
        }
        assert {name: count for name, count in of_layers.items() if count > 1} == (
            {"qkv": 3, "key_value": 2} if family == "transformer" else {"qkv": 3}
        )
    by_adamw = {names[id(p)] for g in optimizer.param_groups if not g[STACKED] for p in g["params"]}
    assert by_muon | by_adamw == set(names.values()) and not by_muon & by_adamw
    assert all("layers." in name and dict(model.named_parameters())[name].ndim == 2 for name in by_muon)
    assert by_adamw == {
        name for name, p in model.named_parameters() if p.ndim != 2 or "embeddings" in name or "lm_head" in name
    }


def test_the_learning_rate_is_every_groups_own():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    groups = {"embeddings": ["0.weight"], "layers.0": ["1.weight", "1.bias"], "head": ["2.weight", "2.bias"]}
    arguments = TrainingArguments(max_steps=1, optimizer="muon", layer_decay=0.5, muon_rate_factor=3)
    optimizer = build_optimizer(model, arguments, groups)
    set_learning_rate(optimizer, 0.1)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in model.parameters()] == pytest.approx([0.025, 0.15, 0.05, 0.3, 0.1])
