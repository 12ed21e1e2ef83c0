"""Tiny random models of both sides: every head of each of transformers' architectures and its counterpart here."""

import torch

from bertkit.hub.native import ARCHITECTURES
from bertkit.models import build_config, build_model

# Architecture and every head that both sides have.
PAIRS = [(model_type, head) for model_type, architecture in ARCHITECTURES.items() for head in architecture.heads]
LABELS = {0: "no", 1: "yes", 2: "perhaps"}
SETTINGS = {
    "bert": {},
    "gpt2": {"norm_first": True, "bos_token_id": 1, "eos_token_id": 2},
    "openai-gpt": {"norm_first": False, "bos_token_id": 1, "eos_token_id": 2},
    "marian": {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "decoder_layers": 1},
}
NATIVE_SIZES = {
    "bert": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
        **{"max_position_embeddings": 24, "initializer_range": 0.2},
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 24, "initializer_range": 0.2},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24, "initializer_range": 0.2},
    "marian": {
        **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4},
        **{"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 24},
        **{"activation_function": "relu", "scale_embedding": True, "init_std": 0.2, "decoder_start_token_id": 1},
        **{"forced_eos_token_id": None, "eos_token_id": 2},
    },
}
VOCABULARY = 61


def _shaken(model):
    """Give biases and norms, which start as zeros and ones, random values."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name.lower() or "ln_" in name:
            torch.nn.init.normal_(parameter, mean=float("weight" in name), std=0.2)
    return model.eval()


def ours(model_type, head, **settings):
    """Build a model of bertkit that has a counterpart."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 24}
    sizes |= {"intermediate_size": 128 if model_type == "openai-gpt" else 48, "vocab_size": VOCABULARY}
    labels = {} if "QuestionAnswering" in head else {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
    family = ARCHITECTURES[model_type].family
    config = build_config(
        family, "tiny", **{**sizes, "initializer_range": 0.2, **SETTINGS[model_type], **labels, **settings}
    )
    return _shaken(build_model(config, head))


def native(model_type, head, **settings):
    """Build a model of transformers that has a counterpart."""
    torch.manual_seed(0)
    architecture = ARCHITECTURES[model_type]
    labels = {} if "QuestionAnswering" in head else {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
    sizes = {"vocab_size": VOCABULARY, "pad_token_id": 0, **NATIVE_SIZES[model_type]}
    config = architecture.config_class(**{**sizes, **labels, **settings})
    return _shaken(architecture.heads[head].native_class(config))


def labelled_batch(model_type, head, lengths=(9, 4, 7)):
    """Make rows padded on the right, with what the head is to learn of them."""
    generator = torch.Generator().manual_seed(1)

    def drawn(high, *shape, low=0):
        return torch.randint(low, high, shape, generator=generator)

    if "QuestionAnswering" in head:
        lengths = (9, 9, 9)  # transformers' softmax goes over padding as well
    if "MultipleChoice" in head:
        lengths = (9, 4, 7, 6, 5, 8)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    batch = {"input_ids": drawn(VOCABULARY, *mask.shape, low=3) * mask, "attention_mask": mask}
    if model_type == "bert":
        batch["token_type_ids"] = drawn(2, *mask.shape) * mask
    rows = len(lengths)
    tokens = batch["input_ids"].masked_fill(mask == 0, -100)
    if head == "AutoModel" and model_type == "marian":
        return batch | {"decoder_input_ids": drawn(VOCABULARY, rows, 5, low=3)}
    if head == "AutoModelForMultipleChoice":
        return {name: value.view(2, 3, -1) for name, value in batch.items()} | {"labels": drawn(3, 2)}
    return (
        batch
        | {
            "AutoModel": {},
            "AutoModelForPreTraining": {"labels": tokens, "next_sentence_label": drawn(2, rows)},
            "AutoModelForMaskedLM": {"labels": tokens},
            "AutoModelForCausalLM": {"labels": tokens},
            "AutoModelForNextSentencePrediction": {"labels": drawn(2, rows)},
            "AutoModelForSequenceClassification": {"labels": drawn(3, rows)},
            "AutoModelForTokenClassification": {"labels": tokens.where(tokens < 0, tokens % 3)},
            "AutoModelForQuestionAnswering": {
                "start_positions": drawn(4, rows),
                "end_positions": drawn(9, rows, low=4),
            },
            "AutoModelForSeq2SeqLM": {"labels": tokens[:, :5].contiguous()},
        }[head]
    )


def assert_equal_outputs(first, second, batch, model_type):
    """Compare losses and all scores at real tokens; states with Marian's channels in our order."""
    close = {"atol": 1e-5, "rtol": 1e-5}
    expected, actual = (model(**batch) for model in (first, second))
    assert ("loss" in expected) == ("loss" in actual) == any("label" in name or "positions" in name for name in batch)
    real = batch["attention_mask"].bool()
    compared = 0
    for name in expected.keys() & actual.keys():
        one, other = expected[name], actual[name]
        if not isinstance(one, torch.Tensor):
            continue
        if name.endswith("hidden_state"):
            channels = ARCHITECTURES[model_type].channels(one.shape[-1], native=False)
            from_bertkit = type(first).__module__.startswith("bertkit")
            one, other = (one, other[..., channels]) if from_bertkit else (one[..., channels], other)
        of_tokens = "relationship" not in name and "pooler" not in name and one.shape[:2] == real.shape
        if of_tokens and (model_type != "marian" or name.startswith("encoder")):
            one, other = one[real], other[real]
        torch.testing.assert_close(one, other, **close, msg=lambda text, name=name: f"{name}: {text}")
        compared += 1
    assert compared
