"""Translations come in the order of their sources, as text, and are scored by sacrebleu."""

from types import SimpleNamespace

import pytest
import sacrebleu
import torch

from bertkit.evaluation.translation import score_translations, translate
from bertkit.tokenization import TokenizerArguments, train_tokenizer

TEXTS = ["a dog barks .", "he didn't see it, did he?", "two men", "a very long way to go , and no end in sight !"]


class Echo:
    """A translator that gives back its source."""

    config = SimpleNamespace(max_position_embeddings=64, eos_token_id=None)
    device = torch.device("cpu")

    def generate(self, input_ids, attention_mask, num_beams, do_sample, max_new_tokens):
        assert max_new_tokens <= 63 and not do_sample
        return input_ids

    def __call__(self, input_ids, attention_mask, decoder_input_ids):
        return SimpleNamespace(logits=torch.zeros(*decoder_input_ids.shape, 200))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_translations_stand_in_the_order_of_the_sources_with_punctuation_at_its_word(batch_size):
    tokenizer = train_tokenizer([TEXTS], TokenizerArguments(vocab_size=200, min_frequency=1), quiet=True)
    translations = translate(Echo(), tokenizer, TEXTS, batch_size=batch_size, quiet=True)
    assert [translation.text for translation in translations] == [
        "a dog barks.",
        "he didn't see it, did he?",
        "two men",
        "a very long way to go, and no end in sight!",
    ]


def test_figures_are_sacrebleus_and_say_how_case_was_taken():
    translations, references = ["The dog barks at me today.", "two men"], ["the dog barks at us today.", "two men"]
    bleu, chrf = score_translations(translations, references, lowercase=True)
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(translations, [references], lowercase=True).score)
    assert chrf.value == pytest.approx(
        sacrebleu.corpus_chrf([text.lower() for text in translations], [references]).score, abs=1e-4
    )
    assert "case:lc" in bleu.signature and "tok:13a" in bleu.signature
    cased, _ = score_translations(translations, references, lowercase=False)
    assert cased.value < bleu.value and "case:mixed" in cased.signature
