"""Small models of every family, and batches for every head."""

import pytest
import torch

from bertkit.models import FAMILIES, build_config, build_model

# Every field a family may have, small; a family takes those it has.
SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "embedding_size": 24,
    "cell_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "label_smoothing": 0.0,
    "decoder_start_token_id": 1,
}

MARKS_OF_TRANSFORMERS = (
    "accelerate_tests",
    "executorch_export_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "flash_attn_test",
    "generate",
    "is_training_test",
    "onnx_export_test",
    "timeout",
    "torch_compile_test",
    "torch_export_test",
)


def pytest_configure(config):
    """Make the marks of transformers' own tests known, which test_transformers_common.py runs."""
    for mark in MARKS_OF_TRANSFORMERS:
        config.addinivalue_line("markers", mark)


@pytest.fixture
def small_model():
    """Build a small model in evaluation mode, its weights large enough for every part to show in the outputs."""

    def build(family, auto_class_name, attn_implementation="sdpa", **overrides):
        torch.manual_seed(0)
        fields = FAMILIES[family].config_class.__annotations__
        settings = {name: value for name, value in SMALL.items() if name in fields}
        config = build_config(family, **{**settings, "initializer_range": 0.2, **overrides})
        model = build_model(config, auto_class_name).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        if model._supports_sdpa:
            model.set_attn_implementation(attn_implementation)
        return model

    return build


@pytest.fixture
def small_batch(request):
    """Build inputs of 3 rows of 10 tokens, with labels for the head if it has a loss; for the test's `family`."""
    family = FAMILIES[request.node.callspec.params["family"]]

    def build(auto_class_name, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def integers(low, high, *shape):
            return torch.randint(low, high, shape, generator=generator)

        token_labels = integers(1, 61, 3, 10).masked_fill(integers(0, 2, 3, 10) == 0, -100)
        labels = {
            "AutoModel": {},
            "AutoModelForPreTraining": {"labels": token_labels, "next_sentence_label": integers(0, 2, 3)},
            "AutoModelForMaskedLM": {"labels": token_labels},
            "AutoModelForCausalLM": {"labels": token_labels},
            "AutoModelForSeq2SeqLM": {"labels": token_labels},
            "AutoModelForNextSentencePrediction": {"labels": integers(0, 2, 3)},
            "AutoModelForSequenceClassification": {"labels": integers(0, 2, 3)},
            "AutoModelForTokenClassification": {"labels": token_labels.clamp(max=1)},
            "AutoModelForQuestionAnswering": {
                "start_positions": integers(0, 10, 3),
                "end_positions": integers(0, 10, 3),
            },
            "AutoModelForMultipleChoice": {
                "labels": integers(0, 2, 2),
                "choice_examples": torch.tensor([[0, 1], [2, 0]]),
            },
        }
        targets = {"decoder_input_ids": integers(1, 61, 3, 10)} if family.config_class().is_encoder_decoder else {}
        return {"input_ids": integers(1, 61, 3, 10), **targets, **labels[auto_class_name]}

    return build
