"""Looking words up gives the ids that the tokenizer gives for the whole text."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer

from bertkit.data import word_ids
from bertkit.data.word_ids import WordIds, is_word_by_word

ODD = (
    "Aé e\u0301 ΑΣ Σ İ ß ﬁ 中文 한국어 \u1112\u1161\u11ab a\u200bb c\u00add \u0300x "
    "[MASK]y d'un 3.5 \u2028 \u00a0 \u3000 \t \n . - \U0001f600 \ufffd"
)


def wordpiece(**settings):
    tokenizer = BertWordPieceTokenizer(**settings)
    tokenizer.train_from_iterator(
        [ODD, "the quick brown fox jumps over the lazy dog " * 3], vocab_size=200, show_progress=False
    )
    tokenizer.encode_special_tokens = True
    return tokenizer._tokenizer


def assert_same(tokenizer, texts, encoder=None):
    encoded = (encoder or WordIds(tokenizer, np.dtype("<u4"))).encode(texts)
    plain = tokenizer.encode_batch(texts, add_special_tokens=False)
    assert encoded.lengths.tolist() == [len(encoding) for encoding in plain]
    assert encoded.token_ids.tolist() == [token for encoding in plain for token in encoding.ids]


SETTINGS = [{}, {"lowercase": False}, {"strip_accents": False}, {"handle_chinese_chars": False}, {"clean_text": False}]
TOKENIZERS = [wordpiece(**settings) for settings in SETTINGS]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=map(str, SETTINGS))
@given(
    texts=st.lists(
        st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_characters=word_ids._JOINING, codec="utf-8"))),
        max_size=5,
    )
)
def test_any_text_has_the_ids_that_the_tokenizer_gives_it(tokenizer, texts):
    assert_same(tokenizer, [ODD, *texts])


def test_nothing_but_empty_texts_has_no_ids():
    assert_same(TOKENIZERS[0], ["", " ", ""])


def test_a_full_memory_starts_anew_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(word_ids, "MAX_WORDS", 3)
    encoder = WordIds(TOKENIZERS[0], np.dtype("<u4"))
    for text in ("the fox jumps", "the dog", "a lazy dog jumps over", "the fox"):
        assert_same(TOKENIZERS[0], [text], encoder)
    assert len(encoder._ids) <= 5


@pytest.mark.parametrize("character", word_ids._JOINING, ids=ascii)
def test_a_character_that_joins_words_is_left_to_the_tokenizer(character):
    assert WordIds(TOKENIZERS[0], np.dtype("<u4")).encode(["the fox", f"la{character}zy"]) is None


@pytest.mark.skipif("BERTKIT_DATA" not in os.environ, reason="BERTKIT_DATA names no folder of real text")
@pytest.mark.parametrize("file", ["pretrain_en/austen.txt", "pretrain_ko/korquad_wiki_contexts.txt"])
def test_real_text_has_the_ids_that_the_tokenizer_gives_it(file):
    text = (Path(os.environ["BERTKIT_DATA"]) / file).read_text(encoding="utf-8")[:300_000]
    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator(text.splitlines(), vocab_size=2000, show_progress=False)
    assert_same(tokenizer._tokenizer, text.splitlines())


def test_only_tokenizers_that_see_no_further_than_a_word_are_looked_up():
    assert is_word_by_word(TOKENIZERS[0].to_str())
    assert not is_word_by_word(ByteLevelBPETokenizer().to_str())
    with_phrase = Tokenizer.from_str(TOKENIZERS[0].to_str())
    with_phrase.add_tokens([AddedToken("lazy dog")])
    assert not is_word_by_word(with_phrase.to_str())
