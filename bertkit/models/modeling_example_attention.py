"""Self-attention with dropout, one example after the other: for training on CPUs, where torch has no fused one.

A packed row holds several examples that do not see each other. Attention over whole rows computes their scores for one
another and bars them; and its passes over (batch, heads, seq, seq) numbers go through the main memory. Here each example is
taken alone: only scores that are used are computed, no mask is added, and between products they stay in the caches.

Equations: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1; the weights are dropped as in BERT.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .modeling_dropout import draws_own_mask, keep_scale, kept, random_bits
from .modeling_packing import example_ids, piece_begins


@dataclass(frozen=True)
class Span:
    """An example, and which of the wanted positions are its own."""

    start: int
    """Flat index into (batch * seq) of its first token."""
    stop: int
    """Flat index behind its last token."""
    first: int
    """Index of its first position among the wanted ones, in their order in the batch."""
    last: int
    """Index behind its last."""


@dataclass(frozen=True)
class Examples:
    """Where the examples of a batch are."""

    spans: list[Span]
    positions: torch.Tensor | None = None
    """(n,) int64 flat indices of the wanted positions in ascending order; None: all are wanted."""
    places: torch.Tensor | None = None
    """(n,) int64: which of them is each of the positions as they were asked for."""

    @classmethod
    def of(
        cls, position_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, shape: torch.Size
    ) -> "Examples | None":
        """Find the examples of a batch in the host's memory.

        Args:
            position_ids: (batch, seq) positions that restart at 0 with every example; None where a row is one example.
            attention_mask: (batch, seq) 1 at tokens, 0 at padding.
            shape: (batch, seq).

        Returns:
            The examples, the padding of a packed row being one more; None where they do not lie in one piece each, and
            where rows are padded but not packed.
        """
        batch, seq = shape
        if position_ids is not None:
            ids = example_ids(position_ids, attention_mask)
        elif attention_mask is None or bool(attention_mask.all()):
            ids = torch.zeros(batch, seq, dtype=torch.int64)
        else:
            return None
        begins = piece_begins(ids)
        pieces = (ids == -1).any(dim=1) + ids.amax(dim=1).clamp(min=0) + (ids == 0).any(dim=1)
        if not torch.equal(begins.sum(dim=1), pieces):
            return None
        starts = begins.flatten().nonzero().squeeze(1).tolist()
        stops = [*starts[1:], batch * seq]
        return cls([Span(start, stop, start, stop) for start, stop in zip(starts, stops, strict=True)])

    def at(self, positions: torch.Tensor) -> "Examples":
        """Return the same examples with only some positions wanted.

        Args:
            positions: (n,) int64 flat indices into (batch * seq), in any order.
        """
        ascending, order = positions.sort(stable=True)
        starts = torch.tensor([span.start for span in self.spans])
        firsts = torch.searchsorted(ascending, starts).tolist()
        lasts = [*firsts[1:], len(ascending)]
        spans = [
            Span(span.start, span.stop, first, last)
            for span, first, last in zip(self.spans, firsts, lasts, strict=True)
        ]
        return Examples(spans, ascending, order.argsort())


def runs_example_by_example(hidden_states: torch.Tensor) -> bool:
    """Return whether to take the examples alone: in full precision, on one core of a CPU.

    An example is too little work to share it among threads: they would wait for one another thousands of times a step.
    """
    return (
        draws_own_mask(hidden_states)
        and hidden_states.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() == 1
    )


def example_attention(
    qkv: torch.Tensor, examples: Examples, *, heads: int, scaling: float, dropout: float
) -> torch.Tensor:
    """Compute dropout(softmax(query keyᵀ · scaling)) value within every example.

    Args:
        qkv: (batch, seq, 3 * hidden) queries, keys and values.
        examples: where the examples are, and which positions are wanted.
        heads: attention heads.
        scaling: factor of the scores.
        dropout: probability of dropping a weight, above 0.

    Returns:
        (batch, seq, hidden), or (n, hidden) at the wanted positions in the order in which they were asked for.
    """
    batch, seq, width = qkv.shape
    context = _ExampleAttention.apply(qkv.view(batch * seq, 3, heads, width // (3 * heads)), examples, scaling, dropout)
    if examples.places is None:
        return context.view(batch, seq, -1)
    return context.flatten(1)[examples.places]


class _ExampleAttention(torch.autograd.Function):
    """(tokens, 3, heads, head_dim) to (queries, heads, head_dim)."""

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, examples: Examples, scaling: float, dropout: float) -> torch.Tensor:
        queries, keys, values = _by_head(qkv, examples.positions)
        heads, _, head_dim = queries.shape
        sizes = [heads * (span.last - span.first) * (span.stop - span.start) for span in examples.spans]
        bits, scale = random_bits(sum(sizes)), keep_scale(dropout)
        weights = qkv.new_empty(sum(sizes))
        scratch = qkv.new_empty(max(sizes))
        context = qkv.new_empty(queries.shape[1], heads, head_dim)
        context_by_head = context.transpose(0, 1)
        done = 0
        for span, size in zip(examples.spans, sizes, strict=True):
            if size == 0:
                continue
            own, wanted = slice(span.start, span.stop), slice(span.first, span.last)
            shape = (heads, span.last - span.first, span.stop - span.start)
            scores = scratch[:size].view(shape)
            torch.baddbmm(scores, queries[:, wanted], keys[:, own].transpose(1, 2), beta=0, alpha=scaling, out=scores)
            weight = weights[done : done + size].view(shape)
            torch.softmax(scores, dim=-1, out=weight)
            kept_weight = kept(bits[done : done + size], dropout, out=scratch[:size]).view(shape).mul_(weight)
            torch.mul(kept_weight @ values[:, own], scale, out=context_by_head[:, wanted])
            done += size
        ctx.save_for_backward(qkv, weights, bits)
        ctx.examples, ctx.sizes, ctx.scaling, ctx.dropout = examples, sizes, scaling, dropout
        return context

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_context: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        qkv, weights, bits = ctx.saved_tensors
        examples, sizes = ctx.examples, ctx.sizes
        scale = keep_scale(ctx.dropout)
        queries, keys, values = _by_head(qkv, examples.positions)
        heads, _, head_dim = queries.shape
        grad_context = grad_context.contiguous().transpose(0, 1)  # (heads, queries, head_dim)
        grad_qkv = torch.empty_like(qkv)
        grad_queries, grad_keys, grad_values = _by_head(grad_qkv)
        if examples.positions is not None:
            grad_queries = qkv.new_empty(queries.shape[1], heads, head_dim).transpose(0, 1)
        masks, grads = qkv.new_empty(max(sizes)), qkv.new_empty(max(sizes))
        done = 0
        for span, size in zip(examples.spans, sizes, strict=True):
            own, wanted = slice(span.start, span.stop), slice(span.first, span.last)
            if size == 0:
                grad_keys[:, own], grad_values[:, own] = 0, 0
                continue
            shape = (heads, span.last - span.first, span.stop - span.start)
            weight = weights[done : done + size].view(shape)
            mask = kept(bits[done : done + size], ctx.dropout, out=masks[:size]).view(shape)
            grad_out = grad_context[:, wanted]
            grad_weight = grads[:size].view(shape)
            torch.baddbmm(grad_weight, grad_out, values[:, own].transpose(1, 2), beta=0, alpha=scale, out=grad_weight)
            grad_weight.mul_(mask)
            kept_weight = mask.mul_(weight)
            torch.mul(kept_weight.transpose(1, 2) @ grad_out, scale, out=grad_values[:, own])
            grad_scores = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype, grad_input=grad_weight)
            torch.mul(grad_scores @ keys[:, own], ctx.scaling, out=grad_queries[:, wanted])
            torch.mul(grad_scores.transpose(1, 2) @ queries[:, wanted], ctx.scaling, out=grad_keys[:, own])
            done += size
        if examples.positions is not None:
            grad_qkv[:, 0] = 0
            grad_qkv[:, 0].index_add_(0, examples.positions, grad_queries.transpose(0, 1))
        return grad_qkv, None, None, None


def _by_head(
    qkv: torch.Tensor, positions: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """View (tokens, 3, heads, head_dim) as queries, at some positions only, keys and values: (heads, tokens, head_dim) each."""
    queries, keys, values = qkv.transpose(0, 2).unbind(1)
    return (queries if positions is None else qkv[:, 0][positions].transpose(0, 1)), keys, values
