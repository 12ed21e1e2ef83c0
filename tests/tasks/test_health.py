"""What is said of labelled examples before a step is taken."""

from bertkit.tasks.health import cheap_checks
from bertkit.tasks.sequence_classification import SequenceClassificationArguments, SequenceClassificationTask
from bertkit.tasks.tagged_words import TaggedSentence
from bertkit.tasks.token_classification import TokenClassificationArguments, TokenClassificationTask


def said_of_lengths(task, examples):
    batches = {"train": task.batches(examples, training=False)}
    return [finding for finding in cheap_checks(task, {"train": examples}, batches) if finding.subject == "length"]


def test_a_sentence_too_long_is_said_to_be_read_in_parts(tokenizer):
    sentences = [TaggedSentence(("good", "film") * words, ("A", "B") * words, "") for words in (2, 2, 20)]
    task = TokenClassificationTask.from_examples(TokenClassificationArguments(max_length=16), tokenizer, sentences)
    (finding,) = said_of_lengths(task, sentences)
    assert finding.what == "1 of the 3 sentences of train are longer than 16 tokens and are read in parts"


def test_a_text_too_long_is_said_to_be_cut(tokenizer, examples):
    task = SequenceClassificationTask.from_examples(SequenceClassificationArguments(max_length=8), tokenizer, examples)
    (finding,) = said_of_lengths(task, examples)
    assert "of the 45 texts of train are longer than 8 tokens and are cut" in finding.what
