"""Flash attention is the same attention: of packed rows, padded rows and what a cache holds, in value and gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertkit.models import FAMILIES, modeling_flash_attention
from bertkit.models.modeling_flash_attention import example_edges, flash_arguments
from bertkit.models.modeling_packing import attention_bias
from tests import flash_kernels

FLASH = "flash_attention_2"
HEADS = [
    (family, head)
    for family, members in FAMILIES.items()
    for head, model_class in members.auto_classes.items()
    if model_class._supports_flash_attn
]
every_head = pytest.mark.parametrize(("family", "head"), HEADS)
# Three rows of ten: examples that fill a row, that end in padding, and one alone.
POSITIONS = torch.tensor(
    [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3], [0, 0, 1, 2, 3, 4, 5, 1, 1, 1], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]
)
IS_TOKEN = torch.tensor([[1] * 10, [1] * 7 + [0] * 3, [1] * 10])
LAYOUTS = {
    "packed": {"position_ids": POSITIONS, "attention_mask": IS_TOKEN},
    "packed alike": {"position_ids": POSITIONS[:1]},
    "padded": {"attention_mask": IS_TOKEN},
    "padded on the left": {"attention_mask": IS_TOKEN.flip(1)},
    "whole": {},
}


@pytest.fixture
def calls(monkeypatch):
    """How often the kernels' stand-ins were called."""
    return flash_kernels.install(monkeypatch)


def real_states(outputs, is_token):
    return [states[is_token.bool()] for states in outputs.hidden_states]


@every_head
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("recomputes", [False, True])
def test_states_and_gradients_at_tokens_are_those_of_eager_attention(
    small_model, small_batch, calls, family, head, layout, recomputes
):
    rows = {"input_ids": small_batch("AutoModel")["input_ids"], **LAYOUTS[layout]}
    is_token = LAYOUTS[layout].get("attention_mask", torch.ones(3, 10))
    if head == "AutoModelForMultipleChoice":
        rows["choice_examples"] = torch.tensor([[0, 1], [2, 0]])
    results = []
    for implementation in ("eager", FLASH):
        model = small_model(family, head, implementation).double().train()
        if recomputes:
            model.activation_checkpointing_enable()
        states = real_states(model(**rows, output_hidden_states=True), is_token)
        (states[-1] * torch.linspace(-1, 1, 32, dtype=torch.float64)).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((states, gradients))
    torch.testing.assert_close(results[1], results[0], atol=1e-10, rtol=1e-8)
    asked = "rows" if layout == "whole" else "sequences"
    assert calls == {"rows": 0, "sequences": 0, asked: 4 if recomputes else 2}  # once a layer, or twice


@every_head
def test_edges_that_are_handed_over_are_taken_and_none_are_looked_for(
    small_model, small_batch, calls, family, head, monkeypatch
):
    rows = {"input_ids": small_batch("AutoModel")["input_ids"], **LAYOUTS["packed"]}
    if head == "AutoModelForMultipleChoice":
        rows["choice_examples"] = torch.tensor([[0, 1], [2, 0]])
    model, edges = small_model(family, head, FLASH), example_edges(POSITIONS, IS_TOKEN)
    found = model(**rows, output_hidden_states=True).hidden_states
    monkeypatch.setattr(modeling_flash_attention, "example_edges", None)
    handed_over = model(**rows, cu_seq_lens_q=edges, output_hidden_states=True).hidden_states
    torch.testing.assert_close(handed_over, found, atol=0, rtol=0)


@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_the_kernels_compute_in_half_precision_and_drop_weights_in_training_alone(small_model, family, monkeypatch):
    dropouts = []
    flash_kernels.install(monkeypatch, dropouts)
    model = small_model(family, "AutoModel", FLASH, attention_probs_dropout_prob=0.25)
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(input_ids=torch.ones(3, 10, dtype=torch.long), **LAYOUTS["packed"])
        model.eval()(input_ids=torch.ones(3, 10, dtype=torch.long), **LAYOUTS["packed"])
    assert dropouts == [0.25, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_a_bias_of_the_scores_is_refused(small_model, calls, family):
    message = r"takes an attention_mask \(batch, seq\) and not one of shape \(3, 1, 10, 10\); give position_ids"
    with pytest.raises(ValueError, match=message):
        small_model(family, "AutoModel", FLASH)(
            input_ids=torch.ones(3, 10, dtype=torch.long), attention_mask=torch.zeros(3, 1, 10, 10)
        )


@pytest.mark.parametrize("norm_first", [False, True])
def test_generation_from_padded_rows_is_that_of_eager_attention(small_model, calls, norm_first):
    rows = {"input_ids": torch.randint(1, 61, (3, 6)), "attention_mask": IS_TOKEN.flip(1)[:, :6]}
    generated = []
    for implementation in ("eager", FLASH):
        model = small_model("gpt", "AutoModelForCausalLM", implementation, norm_first=norm_first, eos_token_id=None)
        generated.append(model.generate(**rows, max_new_tokens=8, do_sample=False))
    assert torch.equal(*generated) and sum(calls.values()) == 2 * 8


def test_models_whose_attention_is_between_two_texts_do_not_take_it(small_model, calls):
    assert {family for family, _ in HEADS} == {"bert", "gpt"}


@given(data=st.data())
def test_the_edges_part_exactly_what_a_bias_of_the_scores_bars(data):
    width, pad_left = data.draw(st.integers(1, 12)), data.draw(st.booleans())
    position_ids, attention_mask = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        lengths, left = [], width
        while left and (length := data.draw(st.integers(0, left))):
            lengths.append(length)
            left -= length
        positions = [place for length in lengths for place in range(length)]
        pads = [1] * left
        position_ids.append(pads + positions if pad_left else positions + pads)
        mask = [1] * len(positions)
        attention_mask.append([0] * left + mask if pad_left else mask + [0] * left)
    rows = torch.tensor(position_ids), torch.tensor(attention_mask)
    edges = example_edges(*rows)
    pieces = torch.searchsorted(edges, torch.arange(rows[0].numel(), dtype=torch.int32), right=True).view(-1, width)
    together = pieces[:, None, :, None] == pieces[:, None, None, :]
    assert torch.equal(together, attention_bias(rows[1], rows[0], torch.float32) == 0)
    assert edges[0] == 0 and edges[-1] == rows[0].numel()


def test_lengths_made_for_transformers_models_are_left_as_they_are():
    made = {"cu_seq_lens_q": torch.tensor([0, 3, 5]), "cu_seq_lens_k": torch.tensor([0, 3, 5])} | {
        "max_length_q": 3,
        "max_length_k": 3,
    }
    assert flash_arguments(torch.Size([1, 5]), None, torch.tensor([[0, 1, 2, 0, 1]]), made) == (None, made)
