"""Flash attention's two functions by their documented arguments, computed by torch: a CPU can check what they are asked.

Everything of transformers but the kernels runs: choosing the implementation, taking out padding, passing lengths on.
"""

import torch
import transformers.modeling_flash_attention_utils as interface
from transformers import PreTrainedModel

from bertkit.training import attention


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    deterministic=False,
):
    """Attend within each sequence of (tokens, heads, head_dim)."""
    for tokens, edges, longest in ((q, cu_seqlens_q, max_seqlen_q), (k, cu_seqlens_k, max_seqlen_k)):
        assert edges.dtype == torch.int32
        places = edges.numpy()
        assert places[0] == 0 and places[-1] == len(tokens)
        assert (places[1:] - places[:-1]).min() > 0 and (places[1:] - places[:-1]).max() <= int(longest)
    query, key = torch.arange(len(q), dtype=torch.int32), torch.arange(len(k), dtype=torch.int32)
    query_sequence = torch.searchsorted(cu_seqlens_q, query, right=True)
    key_sequence = torch.searchsorted(cu_seqlens_k, key, right=True)
    seen = query_sequence[:, None] == key_sequence[None, :]
    if causal:  # the last query of a sequence and its last key are of the same position
        query_from_end = cu_seqlens_q[query_sequence] - query
        key_from_end = cu_seqlens_k[key_sequence] - key
        seen &= key_from_end[None, :] >= query_from_end[:, None]
    q, k, v = (tensor.transpose(0, 1) for tensor in (q, k, v))
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, attn_mask=seen, dropout_p=dropout_p, scale=softmax_scale).transpose(0, 1)


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, deterministic=False):
    """Attend within each row of (batch, seq, heads, head_dim)."""

    def edges(tensor):
        return torch.arange(0, tensor.shape[0] * tensor.shape[1] + 1, tensor.shape[1], dtype=torch.int32)

    context = flash_attn_varlen_func(
        *(tensor.flatten(0, 1) for tensor in (q, k, v)),
        edges(q),
        edges(k),
        q.shape[1],
        k.shape[1],
        dropout_p,
        softmax_scale,
        causal,
    )
    return context.view(q.shape)


def install(monkeypatch, dropouts=None):
    """Let transformers find these functions where it looks for the package's.

    Args:
        monkeypatch: undoes it.
        dropouts: a list that gets the dropout of every call.

    Returns:
        How often each was called, by name, from now on.
    """
    calls = {"rows": 0, "sequences": 0}

    def count(name, function):
        def counted(q, *args, **kwargs):
            calls[name] += 1
            if dropouts is not None:
                dropouts.append(kwargs["dropout_p"])
            assert q.dtype == (torch.bfloat16 if torch.is_autocast_enabled("cpu") else q.dtype)
            return function(q, *args, **kwargs)

        counted.__wrapped__ = function  # transformers reads the arguments
        return counted

    functions = (count("rows", flash_attn_func), count("sequences", flash_attn_varlen_func), None)
    monkeypatch.setattr(
        interface, "_lazy_imports", lambda *args, **kwargs: (*functions, interface._pad_input, interface._unpad_input)
    )
    monkeypatch.setattr(interface, "_loaded_implementation", None)
    monkeypatch.setattr(attention, "refuse_device", lambda setting, device: None)
    monkeypatch.setattr(PreTrainedModel, "_flash_attn_can_dispatch", lambda self, *args, **kwargs: True)
    return calls
