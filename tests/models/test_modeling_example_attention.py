"""Attention example by example is attention over rows with a block mask: same weights dropped, same results and gradients."""

import pytest
import torch

from bertkit.models.modeling_bert import BertEncoderConfig, BertEncoderForMaskedLM
from bertkit.models.modeling_dropout import keep_scale, kept
from bertkit.models.modeling_example_attention import Examples, example_attention, runs_example_by_example
from bertkit.models.modeling_packing import attention_bias

HEADS, HEAD_DIM, DROPOUT = 2, 3, 0.3
SCALING = HEAD_DIM**-0.5

ROWS = {  # position_ids and attention_mask
    "packed": ([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]], None),
    "packed and padded": ([[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]),
    "an example a row": (None, None),
    "full rows with a mask": (None, [[1] * 6, [1] * 6]),
}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tensors(rows):
    return tuple(None if numbers is None else torch.tensor(numbers) for numbers in rows)


def bits_of(examples, seed):
    """Say what is drawn, example by example, as a (batch * seq, batch * seq) mask a head."""
    sizes = [HEADS * (span.last - span.first) * (span.stop - span.start) for span in examples.spans]
    torch.manual_seed(seed)
    drawn = torch.empty(-(-sum(sizes) // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[: sum(sizes)]
    return kept(drawn, DROPOUT, torch.empty(sum(sizes), dtype=torch.float64)).split(sizes)


def plainly(qkv, examples, masks, positions=None):
    """Compute the same with a mask over all pairs of positions of the batch."""
    query, key, value = qkv.flatten(0, 1).view(-1, 3, HEADS, HEAD_DIM).permute(1, 2, 0, 3)
    query = query if positions is None else query[:, positions]
    seen, mask = torch.zeros(2, HEADS, query.shape[1], key.shape[1], dtype=torch.float64).unbind()
    for span, drawn in zip(examples.spans, masks, strict=True):
        block = (slice(None), slice(span.first, span.last), slice(span.start, span.stop))
        seen[block] = 1
        mask[block] = drawn.view(mask[block].shape)
    scores = (SCALING * query @ key.transpose(1, 2)).masked_fill(seen == 0, -torch.inf)
    return ((scores.softmax(-1) * mask * keep_scale(DROPOUT)) @ value).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_outputs_and_gradients_are_those_of_masked_rows(rows):
    torch.manual_seed(0)
    qkv = torch.randn(2, 6, 3 * HEADS * HEAD_DIM, dtype=torch.float64, requires_grad=True)
    examples = Examples.of(*tensors(rows), qkv.shape[:2])
    expected = plainly(qkv, examples, bits_of(examples, seed=1)).view(2, 6, -1)
    torch.manual_seed(1)
    got = example_attention(qkv, examples, heads=HEADS, scaling=SCALING, dropout=DROPOUT)
    torch.testing.assert_close(got, expected)
    direction = torch.randn_like(got)
    wanted = torch.autograd.grad(expected, qkv, direction)
    torch.testing.assert_close(torch.autograd.grad(got, qkv, direction), wanted)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_examples_see_what_the_mask_of_the_rows_lets_them_see(rows):
    position_ids, attention_mask = tensors(rows)
    examples = Examples.of(position_ids, attention_mask, torch.Size((2, 6)))
    seen = torch.zeros(12, 12, dtype=torch.bool)
    for span in examples.spans:
        seen[span.start : span.stop, span.start : span.stop] = True
    bias = attention_bias(attention_mask, position_ids, torch.float32)
    allowed = torch.ones(2, 6, 6, dtype=torch.bool) if bias is None else (bias == 0).squeeze(1).expand(2, 6, 6)
    assert torch.equal(seen, torch.block_diag(*allowed.long()).bool())


def test_positions_may_be_wanted_in_any_order_and_twice():
    torch.manual_seed(0)
    qkv = torch.randn(2, 6, 3 * HEADS * HEAD_DIM, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([11, 0, 1, 0, 8])  # none of the second and third example
    everything = Examples.of(*tensors(ROWS["packed"]), qkv.shape[:2])
    examples = everything.at(positions)
    ascending = plainly(qkv, examples, bits_of(examples, seed=1), positions.sort().values)
    expected = ascending[positions.argsort(stable=True).argsort()]
    torch.manual_seed(1)
    got = example_attention(qkv, examples, heads=HEADS, scaling=SCALING, dropout=DROPOUT)
    torch.testing.assert_close(got, expected)
    direction = torch.randn_like(got)
    wanted = torch.autograd.grad(expected, qkv, direction)
    torch.testing.assert_close(torch.autograd.grad(got, qkv, direction), wanted)


def test_rows_that_are_padded_only_or_have_holes_are_left_to_the_mask():
    holes = torch.tensor([[1, 0, 1, 1]])
    assert Examples.of(None, holes, holes.shape) is None
    assert Examples.of(torch.arange(4)[None], holes, holes.shape) is None


def test_it_is_left_alone_where_it_is_no_gain(one_thread):
    states = torch.zeros(1, 4, 8)
    assert runs_example_by_example(states)
    assert not runs_example_by_example(states.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs_example_by_example(states)
    torch.set_num_threads(2)
    assert not runs_example_by_example(states)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_in_training_has_the_gradients_of_eager_attention(checkpointing, monkeypatch, one_thread):
    """With so small a probability of dropping a weight that none is, the two draw the same."""
    config = BertEncoderConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=1e-9, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertEncoderForMaskedLM(config).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    calls = []
    monkeypatch.setattr(
        "bertkit.models.modeling_layers.example_attention",
        lambda *args, **kwargs: calls.append(1) or example_attention(*args, **kwargs),
    )
    batch = {
        "input_ids": torch.randint(20, (2, 6)),
        "position_ids": torch.tensor(ROWS["packed"][0]),
        "label_positions": torch.tensor([1, 7, 4, 0]),
        "labels": torch.tensor([3, 4, 5, -100]),
    }
    grads, losses = [], []
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss)
        grads.append([parameter.grad for parameter in model.parameters()])
    assert len(calls) == (4 if checkpointing else 2)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-4)
