"""Gradient norms against distance: equal to what a linear recurrence with a known decay has."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.gradient_reach import cut_windows, gradient_norms, relative_reach
from bertkit.models.modeling_gpt import GptConfig, GptForCausalLM
from bertkit.models.modeling_rnn import RnnConfig, RnnForCausalLM


class LinearRecurrence(nn.Module):
    """h(t) = decay · h(t - 1) + x(t), and the scores are a matrix times h(t)."""

    def __init__(self, decay, vocab_size=11, width=5):
        super().__init__()
        self.decay = decay
        self.embeddings = nn.Embedding(vocab_size, width, dtype=torch.float64)
        self.output = nn.Linear(width, vocab_size, dtype=torch.float64)

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, inputs_embeds, use_cache):
        state, states = torch.zeros_like(inputs_embeds[:, 0]), []
        for step in inputs_embeds.unbind(1):
            state = self.decay * state + step
            states.append(state)
        return SimpleNamespace(logits=self.output(torch.stack(states, dim=1)))


@pytest.fixture
def windows():
    return torch.randint(11, (70, 41), generator=torch.Generator().manual_seed(0))  # more than are computed at once


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0, 1.1])
def test_a_linear_recurrence_forgets_by_its_decay_a_step(windows, decay):
    torch.manual_seed(0)
    reach = relative_reach(gradient_norms(LinearRecurrence(decay), windows), range(1, 41))
    assert reach == pytest.approx([decay**steps for steps in range(40)], rel=1e-9)


def test_a_norm_is_that_of_the_gradient_by_hand(windows):
    torch.manual_seed(0)
    model = LinearRecurrence(0.8)
    norms = gradient_norms(model, windows)
    for window, row in zip(windows, norms, strict=True):
        state = sum(0.8**steps * model.embeddings.weight[token] for steps, token in enumerate(window[:-1].flip(0)))
        wrong = model.output(state).softmax(-1)
        wrong[window[-1]] -= 1
        nearest = (wrong @ model.output.weight).norm()
        assert row[0].item() == pytest.approx(nearest.item(), rel=1e-9)
        assert row[9].item() == pytest.approx(nearest.item() * 0.8**9, rel=1e-9)


@pytest.mark.parametrize("family", ["rnn", "gpt"])
def test_a_norm_of_a_family_is_that_of_its_finite_differences(family):
    torch.manual_seed(0)
    shape = {"vocab_size": 11, "hidden_size": 4, "num_hidden_layers": 2, "initializer_range": 0.5}
    model = (
        RnnForCausalLM(RnnConfig(**shape, cell_type="lstm"))
        if family == "rnn"
        else GptForCausalLM(GptConfig(**shape, num_attention_heads=2, intermediate_size=8, max_position_embeddings=8))
    )
    model = model.double().eval()
    window = torch.tensor([[3, 1, 4, 1, 5, 9]])
    embedded = model.get_input_embeddings()(window[:, :-1]).detach()

    def loss(place, unit, change):
        moved = embedded.clone()
        moved[0, place, unit] += change
        return -model(inputs_embeds=moved).logits[0, -1].log_softmax(-1)[9].item()

    slopes = [[(loss(place, unit, 1e-5) - loss(place, unit, -1e-5)) / 2e-5 for unit in range(4)] for place in range(5)]
    expected = torch.tensor(slopes).norm(dim=-1).flip(0)
    assert gradient_norms(model, window)[0].tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_means_are_compared_and_not_windows():
    norms = torch.tensor([[4.0, 2.0, 1.0], [4.0, 4.0, 1.0]])
    assert relative_reach(norms, [1, 2, 3]) == [1.0, 0.75, 0.25]


def test_windows_are_spread_over_the_text_and_do_not_overlap():
    assert cut_windows(range(10), length=3, most=2).tolist() == [[0, 1, 2], [6, 7, 8]]
    assert cut_windows(range(10), length=3, most=9).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    with pytest.raises(ValueError, match="the text has 2 tokens; a window takes 3"):
        cut_windows(range(2), length=3, most=1)
