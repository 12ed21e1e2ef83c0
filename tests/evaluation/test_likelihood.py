import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from bertkit.evaluation.likelihood import causal_likelihoods, cut_windows, pseudo_likelihoods
from bertkit.models import build_config, build_model

BOS, EOS, CLS, SEP, MASK = 1, 2, 1, 2, 3


@pytest.fixture(scope="module")
def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=8, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    config = build_config("bert", "tiny", vocab_size=40, num_hidden_layers=1, initializer_range=0.3)
    return build_model(config, "AutoModelForMaskedLM").eval()


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 60), context=st.integers(1, 20), share=st.floats(0.01, 1.0))
def test_windows_predict_every_position_once_with_the_context_the_stride_leaves(length, context, share):
    stride = max(int(share * context), 1)
    windows = cut_windows(length, context=context, stride=stride)
    predicted = [place for window in windows for place in range(window.first_label, window.end)]
    assert predicted == list(range(length))
    for window in windows:
        assert 0 <= window.begin <= window.first_label < window.end <= length
        assert window.end - window.begin <= context
        if window.first_label:
            assert window.first_label - window.begin >= min(context - stride, window.first_label)


def log_probability(model, context, token):
    with torch.no_grad():
        return model(torch.tensor([context])).logits[0, -1].double().log_softmax(-1)[token].item()


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_windowed_likelihood_is_the_sum_over_single_predictions(gpt2, stride):
    texts = [[5, 6, 7], [], [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]]
    scores = causal_likelihoods(gpt2, texts, bos_token_id=BOS, eos_token_id=EOS, context=8, stride=stride, quiet=True)
    for text, nats, tokens in zip(texts, scores.nats, scores.tokens, strict=True):
        inputs, labels = [BOS, *text], [*text, EOS]
        expected = 0.0
        for window in cut_windows(len(inputs), context=8, stride=stride):
            for place in range(window.first_label, window.end):
                expected += log_probability(gpt2, inputs[window.begin : place + 1], labels[place])
        assert nats == pytest.approx(expected, abs=1e-4)
        assert tokens == len(labels)


def test_a_stride_beyond_the_context_is_refused(gpt2):
    with pytest.raises(ValueError, match="the stride is 9; it must be from 1 to the context of 8 tokens"):
        causal_likelihoods(gpt2, [[5]], bos_token_id=BOS, eos_token_id=EOS, context=8, stride=9, quiet=True)


def test_pseudo_likelihood_masks_each_token_and_the_rest_of_its_word(bert):
    texts = [[5, 30, 31, 6], [7], [8, 9, 30]]
    is_continuation = np.arange(40) >= 30
    scores = pseudo_likelihoods(
        bert,
        texts,
        cls_token_id=CLS,
        sep_token_id=SEP,
        mask_token_id=MASK,
        is_continuation=is_continuation,
        quiet=True,
    )
    shown = {
        0: [[3, 3, 3, 6], [5, 3, 3, 6], [5, 30, 3, 6], [5, 30, 31, 3]],
        1: [[3]],
        2: [[3, 9, 30], [8, 3, 3], [8, 9, 3]],
    }
    for number, rows in shown.items():
        expected = 0.0
        for place, row in enumerate(rows):
            with torch.no_grad():
                logits = bert(torch.tensor([[CLS, *row, SEP]])).logits[0, place + 1]
            expected += logits.double().log_softmax(-1)[texts[number][place]].item()
        assert scores.nats[number] == pytest.approx(expected, abs=1e-4)
        assert scores.tokens[number] == len(rows)


def test_the_order_and_company_of_texts_do_not_change_their_scores(gpt2):
    generator = np.random.default_rng(0)
    texts = [generator.integers(4, 40, length).tolist() for length in generator.integers(0, 20, 30)]
    options = {"bos_token_id": BOS, "eos_token_id": EOS, "context": 8, "quiet": True}
    together = causal_likelihoods(gpt2, texts, **options).nats
    backwards = causal_likelihoods(gpt2, texts[::-1], **options).nats[::-1]
    alone = [causal_likelihoods(gpt2, [text], **options).nats[0] for text in texts]
    np.testing.assert_allclose(together, backwards, atol=1e-4)
    np.testing.assert_allclose(together, alone, atol=1e-4)
