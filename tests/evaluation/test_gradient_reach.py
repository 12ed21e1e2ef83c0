"""The reach of gradients, against a recurrence whose decay is known and against torch's own derivative of one window."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bertkit.evaluation.gradient_reach import gradient_reach
from bertkit.models import build_config, build_model


class LinearRecurrence(nn.Module):
    """h_t = decay · h_{t-1} + x_t, scored linearly: the gradient falls by `decay` a step, exactly."""

    config = SimpleNamespace(vocab_size=20)
    device = torch.device("cpu")

    def __init__(self, decay):
        super().__init__()
        torch.manual_seed(0)
        self.decay, self.embedding, self.scores = decay, nn.Embedding(20, 6).double(), nn.Linear(6, 20).double()

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, inputs_embeds, use_cache):
        states = [inputs_embeds[:, 0]]
        for step in range(1, inputs_embeds.shape[1]):
            states.append(self.decay * states[-1] + inputs_embeds[:, step])
        return SimpleNamespace(logits=self.scores(torch.stack(states, dim=1)))


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0, 1.1])
def test_a_linear_recurrence_has_the_reach_of_its_decay(decay):
    texts = [np.random.default_rng(0).integers(0, 20, 400), [3, 4, 5]]
    reach = gradient_reach(LinearRecurrence(decay), texts, length=16, quiet=True)
    np.testing.assert_allclose(reach / reach[:, :1], np.tile(decay ** np.arange(16), (24, 1)), rtol=1e-6)


@pytest.mark.parametrize("family", ["rnn", "gpt"])
def test_the_reach_of_one_window_is_the_norm_of_its_own_gradient(family):
    torch.manual_seed(0)
    settings = {"num_attention_heads": 2, "intermediate_size": 32} if family == "gpt" else {}
    config = build_config(family, vocab_size=30, hidden_size=16, num_hidden_layers=2, **settings)
    model = build_model(config, "AutoModelForCausalLM").eval()
    ids = torch.randint(1, 30, (1, 9))
    vectors = model.get_input_embeddings()(ids[:, :8]).detach().requires_grad_()
    loss = nn.functional.cross_entropy(model(inputs_embeds=vectors).logits[0, -1], ids[0, 8])
    [gradient] = torch.autograd.grad(loss, vectors)
    reach = gradient_reach(model, [ids[0].tolist()], length=8, quiet=True)
    np.testing.assert_allclose(reach[0], gradient[0].norm(dim=-1).flip(0).numpy(), rtol=1e-4)


def test_windows_are_taken_from_all_over_the_text_and_a_short_text_is_refused():
    seen = []

    class Watching(LinearRecurrence):
        def forward(self, inputs_embeds, use_cache):
            seen.append(inputs_embeds)
            return super().forward(inputs_embeds, use_cache)

    model, texts = Watching(0.5), [np.arange(200) % 20]
    gradient_reach(model, texts, length=10, max_windows=4, quiet=True)
    starts = torch.cat(seen)[:, 0]
    expected = model.embedding(torch.tensor([0, 40, 90, 140]) % 20)
    torch.testing.assert_close(starts, expected)
    with pytest.raises(ValueError, match="no text has 301 tokens; give longer ones"):
        gradient_reach(model, texts, length=300, quiet=True)
