"""Words and tokens: the vector of each is made of its own tokens, computed in its whole text, in every family."""

import logging

import numpy as np
import pytest
import torch
from transformers import pipeline

from bertkit.features import (
    FeatureExtractor,
    FeatureSettings,
    extract_features,
    extract_word_features,
    load_encoder,
)
from bertkit.models import FAMILIES, build_config, build_model
from tests.features.made_up import FAMILIES_OF_ONE_TEXT, ragged_texts, small_model

every_family = pytest.mark.parametrize("family", FAMILIES_OF_ONE_TEXT)
TEXTS = ["The cat's mat, again!", "", "unseen words: zebra, housetree", *ragged_texts(6)]


@torch.no_grad()
def states_alone(model, tokenizer, text, layer=-1):
    """The states of a text by itself and its encoding: no padding, no packing."""
    encoding = tokenizer(text, return_tensors="pt")
    inputs = {name: encoding[name] for name in ("input_ids", "attention_mask")}
    return model(**inputs, output_hidden_states=True).hidden_states[layer][0].numpy(), encoding


@every_family
def test_vectors_of_tokens_are_what_the_pipeline_of_transformers_gives(checkpoint_of, tokenizer, family):
    extractor = pipeline("feature-extraction", model=str(checkpoint_of(family)), tokenizer=str(checkpoint_of(family)))
    texts = [text for text in TEXTS if text]
    ours = extract_word_features(load_encoder(checkpoint_of(family)), tokenizer, texts, level="token", quiet=True)
    theirs = [np.array(states[0]) for states in extractor(texts)]
    np.testing.assert_allclose(ours.vectors, np.concatenate(theirs), atol=1e-5, rtol=1e-5)
    assert ours.offsets.tolist() == np.cumsum([0, *map(len, theirs)]).tolist()
    assert ours.words == [tokenizer(text).tokens() for text in texts]


@every_family
@pytest.mark.parametrize("word_pooling", ["mean", "first", "last"])
def test_the_vector_of_a_word_joins_its_pieces_in_every_family(tokenizer, family, word_pooling):
    model = small_model(family, len(tokenizer))
    layer = min(1, model.config.num_hidden_layers)  # static vectors have none but the embeddings
    features = extract_word_features(model, tokenizer, TEXTS, word_pooling=word_pooling, layers=layer, quiet=True)
    expected, words = [], []
    for text in TEXTS:
        states, encoding = states_alone(model, tokenizer, text, layer=layer)
        spans = {word: encoding.word_to_tokens(word) for word in encoding.word_ids() if word is not None}
        for start, end in spans.values():
            expected.append(
                {"mean": states[start:end].mean(0), "first": states[start], "last": states[end - 1]}[word_pooling]
            )
        words.append([text[slice(*encoding.word_to_chars(word))] for word in spans])
    np.testing.assert_allclose(features.vectors, np.stack(expected), atol=1e-5, rtol=1e-5)
    assert features.words == words and words[0] == ["The", "cat", "'", "s", "mat", ",", "again", "!"]
    assert features.offsets.tolist() == np.cumsum([0, *map(len, words)]).tolist()


def test_words_between_spaces_are_those_given_each_with_a_vector(tokenizer, caplog):
    model = small_model("bert", len(tokenizer))
    texts = ["The cat's mat,  again!", "", "a \u200b dog"]
    with caplog.at_level(logging.WARNING):
        features = extract_word_features(model, tokenizer, texts, words="spaces", max_length=8, quiet=True)
    assert features.words == [["The", "cat's", "mat,", "again!"], [], ["a", "\u200b", "dog"]]
    assert features.offsets.tolist() == [0, 4, 4, 7]
    inside = np.isnan(features.vectors).any(axis=1)
    assert inside.tolist() == [False, False, False, True, False, True, False]
    assert "2 words have no token" in caplog.text and "1 of 3 texts were cut to 8 tokens" in caplog.text
    states, encoding = states_alone(model, tokenizer, "a dog")
    for place, word in ((4, 0), (6, 1)):
        start, end = encoding.word_to_tokens(word)
        np.testing.assert_allclose(features.vectors[place], states[start:end].mean(0), atol=1e-5, rtol=1e-5)


@every_family
def test_every_layer_of_every_family_is_as_wide_as_it_is(tokenizer, family):
    model = small_model(family, len(tokenizer))
    layers = [0, model.config.num_hidden_layers]
    features = extract_features(model, tokenizer, TEXTS, layers=layers, quiet=True)
    expected = [np.concatenate([states_alone(model, tokenizer, text, k)[0].mean(0) for k in layers]) for text in TEXTS]
    np.testing.assert_allclose(features, np.stack(expected), atol=1e-5, rtol=1e-5)


def test_layers_of_unlike_width_are_joined_and_not_mixed(tokenizer):
    config = build_config("rnn", vocab_size=len(tokenizer), embedding_size=24, hidden_size=32, num_hidden_layers=2)
    model = build_model(config, "AutoModel")
    assert FeatureExtractor(model, tokenizer, FeatureSettings(layers=[0, 1])).layer_widths == [24, 32]
    with pytest.raises(ValueError, match="layers as wide as 24, 32, 32 cannot be mixed; name layers"):
        extract_features(model, tokenizer, TEXTS, layers="mix", quiet=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "sentence"}, "unknown level 'sentence'; choose from text, word, token"),
        ({"level": "word", "pooling": "max"}, "pooling says nothing to vectors of each word; leave it out"),
        ({"word_pooling": "first"}, "word_pooling says nothing to vectors of each text"),
        ({"level": "token", "words": "spaces"}, "words says nothing to vectors of each token"),
        ({"layers": ["mixed"]}, "unknown layer 'mixed'; give numbers, or mix"),
    ],
)
def test_settings_that_say_nothing_are_refused(tokenizer, settings, message):
    with pytest.raises(ValueError, match=message):
        FeatureExtractor(small_model("bert", len(tokenizer)), tokenizer, FeatureSettings(**settings))


def test_words_of_pairs_are_refused(tokenizer):
    with pytest.raises(ValueError, match="vectors of words come of single texts; leave out the second texts"):
        FeatureExtractor(small_model("bert", len(tokenizer)), tokenizer, FeatureSettings(level="word"), pairs=True)


def test_every_family_that_reads_one_text_is_among_those_tested():
    assert {"rnn", "elmo", "gpt", "bert"} <= set(FAMILIES_OF_ONE_TEXT) <= set(FAMILIES)
