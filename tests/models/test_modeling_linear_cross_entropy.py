"""Output layer and cross entropy in blocks are the two one after the other, in loss and gradients, for every language model."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bertkit.models import FAMILIES, modeling_linear, modeling_linear_cross_entropy
from bertkit.models.modeling_linear import Linear
from bertkit.models.modeling_linear_cross_entropy import linear_cross_entropy
from bertkit.models.modeling_losses import cross_entropy

LANGUAGE_MODELS = [
    (family, head)
    for family, members in FAMILIES.items()
    for head in members.auto_classes
    if head.endswith(("ForPreTraining", "ForMaskedLM", "ForCausalLM", "ForSeq2SeqLM"))
]
every_language_model = pytest.mark.parametrize(("family", "head"), LANGUAGE_MODELS)
SCORES = {"logits", "prediction_logits", "forward_logits", "backward_logits"}


@pytest.fixture(autouse=True, scope="module", params=[True, False], ids=["oneDNN", "MKL"])
def library(request):
    """Let both libraries compute the products, whichever is the quicker one here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_linear, "PREFERS_ONEDNN", request.param and modeling_linear.HAS_ONEDNN)
        yield


@pytest.fixture
def blocks(monkeypatch):
    """Blocks small enough for small tests to have several; the number of positions of each that was computed is noted."""
    monkeypatch.setattr(modeling_linear_cross_entropy, "_POSITIONS", {"cpu": 8})
    monkeypatch.setattr(modeling_linear_cross_entropy, "_EVEN", 1)
    seen = []
    original = modeling_linear_cross_entropy._to_gradient

    def to_gradient(scores, labels, label_smoothing):
        seen.append(len(scores))
        return original(scores, labels, label_smoothing)

    monkeypatch.setattr(modeling_linear_cross_entropy, "_to_gradient", to_gradient)
    return seen


def layer_and_states(positions, bias=True, dtype=torch.float32, hidden=16, vocab=24):
    torch.manual_seed(positions)
    layer = Linear(hidden, vocab, bias=bias)
    return layer.to(dtype), torch.randn(positions, hidden, dtype=dtype, requires_grad=True)


def labels_for(positions, vocab=24, ignored=0.3):
    labels = torch.randint(0, vocab, (positions,))
    return labels.masked_fill(torch.rand(positions) < ignored, -100)


def oracle(layer, states, labels, divisor=None, label_smoothing=0.0):
    """The loss of torch in double precision."""
    weight, bias = layer.weight.double(), None if layer.bias is None else layer.bias.double()
    scores = F.linear(states.double(), weight, bias).flatten(0, -2)
    total = F.cross_entropy(scores, labels.flatten(), reduction="sum", label_smoothing=label_smoothing)
    return total / max(int((labels != -100).sum()) if divisor is None else int(divisor), 1)


def assert_gradients_close(loss, expected, tensors, **tolerance):
    torch.testing.assert_close(loss, expected, check_dtype=False, **tolerance)
    got, wanted = (torch.autograd.grad(of, tensors, retain_graph=True) for of in (loss, expected))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@given(
    positions=st.integers(1, 700),
    at_least=st.integers(1, 700),
    even=st.sampled_from([1, 64]),
    bias=st.booleans(),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    divisor=st.sampled_from([None, 7, torch.tensor(7)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(deadline=None, max_examples=60)
def test_loss_and_gradients_are_torchs(positions, at_least, even, bias, ignored, label_smoothing, divisor, dtype):
    layer, states = layer_and_states(positions, bias, dtype)
    labels = labels_for(positions, ignored=ignored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_linear_cross_entropy, "_POSITIONS", {"cpu": at_least})
        patch.setattr(modeling_linear_cross_entropy, "_EVEN", even)
        loss = linear_cross_entropy(layer, states, labels, divisor, label_smoothing)
    assert loss.dtype == torch.float32
    expected = oracle(layer, states, labels, divisor, label_smoothing)
    assert_gradients_close(loss, expected, [states, *layer.parameters()], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_large_scores_neither_overflow_nor_vanish(blocks, label_smoothing):
    layer, states = layer_and_states(30)
    states = (states * 1e4).detach().requires_grad_()
    labels = labels_for(30)
    loss = linear_cross_entropy(layer, states, labels, None, label_smoothing)
    expected = oracle(layer, states, labels, None, label_smoothing)
    assert_gradients_close(loss, expected, [states], rtol=1e-4, atol=1e-4)


def test_positions_without_a_label_are_not_computed_on_a_cpu(blocks):
    layer, states = layer_and_states(40)
    labels = labels_for(40)
    linear_cross_entropy(layer, states, labels)
    assert len(blocks) > 1 and sum(blocks) == int((labels != -100).sum()) < 40


@pytest.mark.parametrize("frozen", [["weight"], ["bias"], ["weight", "bias"], ["states"]], ids=str)
def test_what_is_frozen_gets_no_gradient_and_the_rest_still_does(blocks, frozen):
    layer, states = layer_and_states(30)
    labels, tensors = labels_for(30), {"states": states, **dict(layer.named_parameters())}
    for name in frozen:
        tensors.pop(name).requires_grad_(False)
    loss = linear_cross_entropy(layer, states, labels)
    loss.backward(retain_graph=True)
    assert_gradients_close(loss, oracle(layer, states, labels), list(tensors.values()), atol=1e-5, rtol=1e-4)
    assert all({"states": states, "weight": layer.weight, "bias": layer.bias}[name].grad is None for name in frozen)


def test_without_gradients_there_is_the_loss_alone(blocks):
    layer, states = layer_and_states(30)
    labels = labels_for(30)
    with torch.no_grad():
        loss = linear_cross_entropy(layer, states, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, oracle(layer, states, labels), check_dtype=False)


def test_a_loss_may_be_gone_back_from_twice(blocks):
    layer, states = layer_and_states(30)
    loss = linear_cross_entropy(layer, states, labels_for(30))
    first, second = (torch.autograd.grad(3 * loss, [states, layer.weight], retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_bfloat16_of_autocast_is_no_farther_from_the_truth_than_without_blocks(blocks):
    layer, states = layer_and_states(200, hidden=64, vocab=96)
    labels = labels_for(200, vocab=96)
    tensors = [states, *layer.parameters()]
    truth = torch.autograd.grad(oracle(layer, states, labels), tensors)
    distances = []
    for road in (linear_cross_entropy, lambda layer, *rest: cross_entropy(layer(rest[0]), rest[1])):
        with torch.autocast("cpu", torch.bfloat16):
            loss = road(layer, states, labels)
        gradients = torch.autograd.grad(loss, tensors)
        assert [gradient.dtype for gradient in gradients] == [torch.float32] * 3
        distances.append([float((g - t).norm() / t.norm()) for g, t in zip(gradients, truth, strict=True)])
    assert blocks
    assert all(ours <= 1.2 * plain < 0.02 for ours, plain in zip(*distances, strict=True))


def test_a_model_in_bfloat16_has_gradients_in_it(blocks):
    layer, states = layer_and_states(200, dtype=torch.bfloat16, hidden=64, vocab=96)
    labels = labels_for(200, vocab=96)
    loss = linear_cross_entropy(layer, states, labels)
    assert blocks and loss.dtype == torch.float32
    assert_gradients_close(loss, oracle(layer, states, labels), [states, *layer.parameters()], atol=2e-3, rtol=0.05)


def test_labels_of_other_positions_are_refused():
    layer, states = layer_and_states(30)
    with pytest.raises(ValueError, match="leave out logits_to_keep"):
        linear_cross_entropy(layer, states, labels_for(29))


class _Adapted(nn.Module):
    """A layer with something added, as adapters wrap one."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, states):
        return self.layer(states) + states.sum(-1, keepdim=True).sin() * self.weight[:, 0]


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, outputs: outputs * 2)
    return layer


def replaced(layer):
    layer.forward = lambda states: F.linear(states, layer.weight * 2)
    return layer


@pytest.mark.parametrize("change", [_Adapted, hooked, replaced], ids=lambda change: change.__name__)
def test_a_layer_that_does_more_than_its_weights_say_is_called(blocks, change):
    layer, states = layer_and_states(30)
    layer, labels = change(layer), labels_for(30)
    torch.testing.assert_close(linear_cross_entropy(layer, states, labels), cross_entropy(layer(states), labels))
    assert not blocks


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
def test_compiled_and_in_float16_it_steps_aside(blocks):
    layer, states = layer_and_states(30)
    labels = labels_for(30)
    expected = cross_entropy(layer(states), labels)
    compiled = torch.compile(linear_cross_entropy, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(layer, states, labels), expected)
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(linear_cross_entropy(layer, states, labels), expected, rtol=0.01, atol=0)
    assert not blocks


@every_language_model
@pytest.mark.parametrize("trains", [True, False])
def test_models_have_the_same_loss_and_gradients_without_scores(small_model, small_batch, blocks, family, head, trains):
    smoothing = {"label_smoothing": 0.1} if "label_smoothing" in FAMILIES[family].config_class.__annotations__ else {}
    model = small_model(family, head, **smoothing).train(trains)
    batch = small_batch(head)
    outputs, gradients = [], []
    for skip_logits in (False, True):
        model.zero_grad()
        outputs.append(model(**batch, num_items_in_batch=torch.tensor(11), skip_logits=skip_logits))
        outputs[-1].loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    assert len(blocks) > 1
    plain, skipped = outputs
    assert plain.keys() - skipped.keys() == SCORES & plain.keys() != set()
    for name in skipped.keys() - {"past_key_values"}:
        torch.testing.assert_close(skipped[name], plain[name], msg=name)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


@every_language_model
def test_scores_are_left_out_only_when_asked_for(small_model, small_batch, blocks, family, head):
    model, batch = small_model(family, head), small_batch(head)
    assert SCORES & model(**batch).keys()
    assert not blocks
    assert not SCORES & model(**batch, skip_logits=True).keys()
    assert not SCORES & model(batch["input_ids"], **_decoder(batch), skip_logits=True).keys()


def _decoder(batch):
    return {name: values for name, values in batch.items() if name.startswith("decoder")}


def test_masked_tokens_are_learned_at_the_label_positions(small_model, blocks):
    model = small_model("bert", "AutoModelForMaskedLM")
    batch = {"input_ids": torch.randint(1, 61, (3, 10)), "label_positions": torch.arange(0, 30, 2)}
    labels = torch.randint(1, 61, (15,)).masked_fill(torch.arange(15) > 12, -100)
    plain, skipped = (model(**batch, labels=labels, skip_logits=skip).loss for skip in (False, True))
    torch.testing.assert_close(skipped, plain)
    assert sum(blocks) == 13
