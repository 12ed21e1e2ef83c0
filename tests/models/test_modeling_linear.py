"""The quicker linear layer is nn.Linear, in outputs and gradients, and steps aside where it does not apply."""

import pytest
import torch
from torch import nn

from bertkit.models import modeling_linear
from bertkit.models.modeling_linear import Linear


@pytest.fixture(autouse=True, params=[True, False], ids=["oneDNN", "MKL"])
def library(request, monkeypatch):
    """Let both libraries compute the products, whichever is the quicker one here."""
    monkeypatch.setattr(modeling_linear, "PREFERS_ONEDNN", request.param and modeling_linear.HAS_ONEDNN)


def twins(inputs, outputs, bias=True):
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, bias=bias)
    plain = nn.Linear(inputs, outputs, bias=bias).double()
    plain.load_state_dict(layer.state_dict())
    return layer, plain


@pytest.mark.parametrize("shape", [(64, 5), (3, 40, 16), (2, 3, 50, 64), (5, 16), (16,)], ids=str)
@pytest.mark.parametrize("outputs", [1, 48, 257])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_nn_linear(shape, outputs, bias):
    layer, plain = twins(shape[-1], outputs, bias)
    states = torch.randn(shape, requires_grad=True)
    expected = plain(states.double())
    got = layer(states)
    torch.testing.assert_close(got, expected.float())
    direction = torch.randn_like(got)
    wanted = torch.autograd.grad(expected, [states, *plain.parameters()], direction.double())
    for ours, theirs in zip(torch.autograd.grad(got, [states, *layer.parameters()], direction), wanted, strict=True):
        torch.testing.assert_close(ours, theirs.float(), atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2048,), (1, 2048), (8, 1, 2048), (0, 2048), (2, 1024, 2048)], ids=str)
def test_few_rows_and_many_give_what_nn_linear_gives(shape):
    layer, plain = twins(2048, 1024)
    states = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(layer(states), plain(states.double()).float(), atol=1e-5, rtol=1e-5)


def test_it_is_exported_for_any_number_of_rows():
    layer = Linear(8, 4)
    exported = torch.export.export(layer, (torch.zeros(100, 8),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    for rows in (2, 300):
        states = torch.randn(rows, 8)
        torch.testing.assert_close(exported.module()(states), layer(states))


def test_states_and_gradients_may_lie_in_any_order():
    layer, plain = twins(16, 24)
    states = torch.randn(16, 100).t().requires_grad_()
    direction = torch.randn(24, 100).t()
    got = torch.autograd.grad(layer(states), [states, *layer.parameters()], direction)
    wanted = torch.autograd.grad(plain(states.double()), [states, *plain.parameters()], direction.double())
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs.float(), atol=5e-5, rtol=1e-5)


def test_frozen_parameters_get_no_gradient_and_inputs_still_do():
    layer, plain = twins(16, 24)
    layer.requires_grad_(False)
    states = torch.randn(100, 16, requires_grad=True)
    layer(states).sum().backward()
    (wanted,) = torch.autograd.grad(plain(states.double()).sum(), states)
    torch.testing.assert_close(states.grad, wanted.float())
    assert layer.weight.grad is None and layer.bias.grad is None


@pytest.mark.skipif(not modeling_linear.HAS_ONEDNN, reason="torch was built without oneDNN")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_it_is_used_in_full_precision_only(monkeypatch):
    monkeypatch.setattr(modeling_linear, "PREFERS_ONEDNN", True)
    layer, states, calls = Linear(8, 8), torch.zeros(100, 8), []
    quicker = modeling_linear._Linear.apply
    monkeypatch.setattr(modeling_linear._Linear, "apply", lambda *args: calls.append(1) or quicker(*args))
    layer(states)
    with torch.inference_mode():
        layer(states)
    assert len(calls) == 2
    layer(states[:1])
    large, row = Linear(2048, 1024), torch.zeros(1, 2048)
    large(row)
    assert len(calls) == 2
    with torch.no_grad():
        large(row)
    assert len(calls) == 3
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(states).dtype == torch.bfloat16
    torch.jit.trace(layer, states, check_trace=False)
    layer.double()(states.double())
    torch.compile(layer.float(), backend="eager")(states)
    assert len(calls) == 3
