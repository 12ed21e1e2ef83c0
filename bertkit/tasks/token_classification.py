"""Token classification: a tag for every word of a sentence, learned and read at the word's first piece."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from bertkit.data.errors import DataError, listed
from bertkit.data.health import Finding
from bertkit.tasks.class_weights import ClassWeights, class_weights, refuse_unknown_weights
from bertkit.tasks.labelled_data import most_frequent
from bertkit.tasks.packed_examples import IGNORED, Template, TokenizedExamples, end_to_end, lay_out, model_inputs
from bertkit.tasks.significance import Statistics, f1_of
from bertkit.tasks.tagged_words import TaggedDataArguments, TaggedSentence
from bertkit.tasks.task import Task, TaskBatches, TaskEvaluation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class TokenClassificationArguments:
    """Settings of the task `token_classification`."""

    name: Literal["token_classification"] = "token_classification"
    """The task: a tag for every word."""
    max_length: int = 128
    """Longest row in tokens, special ones included; a longer sentence is cut between words and read in parts."""
    class_weights: ClassWeights = None
    """What an error costs by tag, in training: `balanced` (as much as the tag is rare), or a number for each tag."""

    def __post_init__(self) -> None:
        """Refuse what leaves no room for words.

        Raises:
            ValueError: an example too short for a word and its special tokens.
        """
        if self.max_length < 8:
            raise ValueError(f"task.max_length is {self.max_length}; an example needs at least 8 tokens")


class TokenClassificationTask(Task[TaggedSentence]):
    """How tagged sentences become batches.

    Raises:
        DataError: fewer than two tags, or weights for other ones.
    """

    arguments_class = TokenClassificationArguments
    data_class = TaggedDataArguments
    auto_class = "AutoModelForTokenClassification"
    pipeline_tag = "token-classification"
    unit = "sentences"
    if_too_long = "are read in parts"

    def __init__(
        self,
        arguments: TokenClassificationArguments,
        tokenizer: "PreTrainedTokenizerBase",
        label_names: Sequence[str],
        label_frequencies: Mapping[str, int] | None = None,
    ) -> None:
        if len(label_names) < 2:
            raise DataError(
                f"the training data has one tag only, {', '.join(label_names)}; there is nothing to tell apart"
            )
        refuse_unknown_weights(arguments.class_weights, label_names)
        super().__init__(arguments, tokenizer, label_names, label_frequencies)

    @classmethod
    def from_examples(
        cls,
        arguments: TokenClassificationArguments,
        tokenizer: "PreTrainedTokenizerBase",
        examples: Sequence[TaggedSentence],
    ) -> Self:
        """Make the task of finding the tags of these sentences."""
        frequencies = Counter(tag for example in examples for tag in example.tags)
        return cls(arguments, tokenizer, sorted(frequencies), frequencies)

    @property
    def marks_spans(self) -> bool:
        """Whether the tags mark spans, as B-person and I-person do; else each word has its own, as a part of speech."""
        return marks_spans(self.label_names)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation gives: of spans their F1 first, of words their accuracy."""
        return ("f1", "precision", "recall", "accuracy", "loss") if self.marks_spans else ("accuracy", "f1", "loss")

    @property
    def config_settings(self) -> dict[str, Any]:
        """Fields of the model's config that the task sets."""
        settings: dict[str, Any] = {"id2label": dict(enumerate(self.label_names)), "label2id": self.label_ids}
        if self.label_frequencies is not None and self.arguments.class_weights is not None:
            weights = class_weights(self.arguments.class_weights, self.label_names, self.label_frequencies)
            settings["class_weights"] = weights
        return settings

    def batches(
        self, examples: Sequence[TaggedSentence], *, seed: int = 0, training: bool
    ) -> "TokenClassificationBatches":
        """Tokenize sentences for the Trainer; see `Task.batches`."""
        tags = self.targets(examples)
        return TokenClassificationBatches(self, self.tokenize(examples), tags, seed=seed, training=training)

    def targets(self, examples: Sequence[TaggedSentence]) -> np.ndarray:
        """Return the numbers of the words' tags, (words,).

        Raises:
            DataError: a tag that is not known.
        """
        for example in examples:
            for tag in example.tags:
                if tag not in self.label_ids:
                    known = listed(self.label_names)
                    raise DataError(f"{example.place}: tag {tag!r} is not known; the training data has {known}")
        return np.array([self.label_ids[tag] for example in examples for tag in example.tags])

    def evaluation_of_scores(
        self, examples: Sequence[TaggedSentence], scores: np.ndarray
    ) -> "TokenClassificationEvaluation":
        """Return the evaluation of a model that is no network.

        Args:
            examples: what it was asked about.
            scores: (words, labels) its logits.
        """
        import torch

        evaluation = TokenClassificationEvaluation(self, starts_of_sentences(examples), self.targets(examples))
        evaluation.totals = {"logits": torch.from_numpy(scores).float(), "evaluated": torch.ones(len(scores))}
        return evaluation

    def unlabelled_batches(self, examples: Sequence[TaggedSentence]) -> "TokenClassificationBatches":
        """Tokenize sentences whose tags are not known."""
        tags = np.full(sum(len(example.words) for example in examples), IGNORED)
        return TokenClassificationBatches(self, self.tokenize(examples), tags, seed=0, training=False)

    def tokenize(self, examples: Sequence[TaggedSentence]) -> "TokenizedWords":
        """Turn sentences into rows of tokens, each row a sentence or, of a long one, a part.

        A word without any piece (a lone control character) is read as an unknown one, and one too long for a row is cut.

        Args:
            examples: the sentences.
        """
        template = Template(self.reader, is_pair=False)
        room = self.arguments.max_length - template.num_special_tokens
        before = template.text_starts(0)[0]
        filled, words_of, places_of = [], [], []
        num_truncated = first_word = 0
        for example in examples:
            pieces = self._pieces(example)
            num_truncated += sum(map(len, pieces)) > room
            for words in _parts([min(len(piece), room) for piece in pieces], room):
                tokens = [token for word in words for token in pieces[word][:room]]
                filled.append(template.fill(tokens))
                lengths = [min(len(pieces[word]), room) for word in words]
                words_of.append(np.array(words) + first_word)
                places_of.append(before + np.concatenate([[0], np.cumsum(lengths)[:-1]]))
            first_word += len(example.words)
        return TokenizedWords(
            end_to_end(filled, num_truncated=num_truncated, spellings=self.spellings),
            words=np.concatenate(words_of),
            places=np.concatenate(places_of),
            starts=np.concatenate([[0], np.cumsum([len(words) for words in words_of])]),
            sentences=starts_of_sentences(examples),
        )

    def _pieces(self, example: TaggedSentence) -> list[list[int]]:
        encoding = self.reader(list(example.words), is_split_into_words=True, add_special_tokens=False, verbose=False)
        pieces: list[list[int]] = [[] for _ in example.words]
        for token_id, word in zip(encoding["input_ids"], encoding.word_ids(), strict=True):
            pieces[word].append(token_id)
        return [piece or [self.reader.unk_token_id] for piece in pieces]

    def predictions(self, examples: Sequence[TaggedSentence], evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
        """Yield words, tags and predicted tags of each sentence, and how probable each of the latter is."""
        probabilities = evaluation.totals["logits"].double().softmax(-1)
        shares, numbers = (tensor.tolist() for tensor in probabilities.max(-1))
        word = 0
        for example in examples:
            last = word + len(example.words)
            yield {
                "words": list(example.words),
                "tags": list(example.tags),
                "predictions": [self.label_names[number] for number in numbers[word:last]],
                "probabilities": [round(share, 6) for share in shares[word:last]],
            }
            word = last

    known_fields = ("tags",)

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return a word and its tag a line, as in a .conll file, and a blank line."""
        pairs = zip(prediction["words"], prediction["predictions"], strict=True)
        return "".join(f"{word}\t{tag}\n" for word, tag in pairs)

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return the F1 of spans, or the share of words that are right where tags mark none; see `Task.statistics`."""
        from bertkit.tasks.metrics import spans_of

        if marks_spans({tag for one in predictions for tag in one["tags"]}):
            spans = [({*spans_of(one["predictions"])}, {*spans_of(one["tags"])}) for one in predictions]
            right, predicted, true = zip(*((len(a & b), len(a), len(b)) for a, b in spans), strict=True)
            return f1_of(np.array(right), np.array(predicted), np.array(true), "f1")
        agreed = [sum(map(str.__eq__, one["predictions"], one["tags"])) for one in predictions]
        counts = np.array([agreed, [len(one["tags"]) for one in predictions]], dtype=np.float64).T
        return Statistics("accuracy", counts, lambda sums: sums[..., 0] / sums[..., 1])

    def guess(self, examples: Sequence[TaggedSentence]) -> str:
        """Return the most frequent tag."""
        return most_frequent([tag for example in examples for tag in example.tags])

    def guess_metrics(self, guess: str, examples: Sequence[TaggedSentence]) -> dict[str, float]:
        """Return the metrics of giving every word this tag."""
        tags = [list(example.tags) for example in examples]
        return self.tag_metrics([[guess] * len(of) for of in tags], tags)

    def tag_metrics(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
    ) -> dict[str, float]:
        """Compute the metrics of the tags of sentences."""
        from bertkit.tasks.metrics import classification_metrics, span_metrics

        if self.marks_spans:
            return span_metrics(predictions, references)
        predicted, true = ([self.label_ids[tag] for tags in of for tag in tags] for of in (predictions, references))
        metrics = classification_metrics(
            predicted, true, num_labels=max(len(self.label_names), 3)
        )  # f1: of all, never of one
        return {name: metrics[name] for name in ("accuracy", "f1")}

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[TaggedSentence]]) -> list[Finding]:
        """Look at how often each tag occurs, and for tags that are not in the training part."""
        train = Counter(tag for example in parts["train"] for tag in example.tags)
        shown = ", ".join(f"{tag} {count:,}" for tag, count in train.most_common(10)) + (
            ", ..." if len(train) > 10 else ""
        )
        findings = [Finding("ok", "tags", f"{len(train)} on {sum(train.values()):,} words: {shown}")]
        for part, examples in parts.items():
            if unseen := sorted({tag for example in examples for tag in example.tags} - set(train)):
                what = f"{part} has {len(unseen)} that training has not, as {unseen[0]!r}"
                findings.append(Finding("stop", "tags", what, "correct them, or add sentences that bear them"))
        return findings


class TokenizedWords(NamedTuple):
    """Rows of tokens, and which words begin where in them."""

    tokenized: TokenizedExamples
    words: np.ndarray
    """(words,) number of each word in the text, row by row."""
    places: np.ndarray
    """(words,) the place of its first piece in its row."""
    starts: np.ndarray
    """(rows + 1,) which words are of each row."""
    sentences: np.ndarray
    """(sentences + 1,) the first word of each sentence, and the end."""


class TokenClassificationBatches(TaskBatches):
    """Sentences packed into rows.

    Args:
        task: whose examples they are.
        words: the sentences as tokens; an epoch's examples are their rows.
        tags: (words,) in the order of the text, -100 where not known.
        seed: key of their order.
        training: shuffled anew each epoch; else in order.
    """

    def __init__(
        self, task: TokenClassificationTask, words: TokenizedWords, tags: np.ndarray, *, seed: int, training: bool
    ) -> None:
        rows = len(words.starts) - 1
        super().__init__(task, words.tokenized, num_examples=rows, seed=seed, training=training)
        self.task = task
        self.words = words
        self.tags = tags

    @cached_property
    def loss_floor(self) -> float:
        """Entropy of the tags in nats: the loss of a model that knows how frequent each is, and no more."""
        shares = np.array(list(Counter(self.tags.tolist()).values())) / len(self.tags)
        return float(-(shares * np.log(shares)).sum())

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Pack the rows at places `start` to `stop`; `labels` and `example_ids`, the words' numbers, are (rows, width)."""
        layout = lay_out(self.tokenized, self.order.between(start, stop), max_width=self.tokens_per_example)
        labels, word_ids = np.full(layout.shape, IGNORED), np.full(layout.shape, -1)
        for row, first in zip(layout.example_ids, layout.starts, strict=True):
            of_row = slice(self.words.starts[row], self.words.starts[row + 1])
            places = first + self.words.places[of_row]
            word_ids.flat[places] = self.words.words[of_row]
            labels.flat[places] = self.tags[self.words.words[of_row]]
        inputs = model_inputs(self.tokenized, layout, pad_token_id=self.pad_token_id)
        return {**inputs, "labels": labels, "example_ids": word_ids}

    def evaluation(self) -> "TokenClassificationEvaluation":
        """Begin an evaluation."""
        return TokenClassificationEvaluation(self.task, self.words.sentences, self.tags)


class TokenClassificationEvaluation:
    """The logits of every word.

    Args:
        task: whose metrics they are.
        sentences: (sentences + 1,) the first word of each sentence, and the end.
        tags: (words,) in the order of the text.
    """

    def __init__(self, task: TokenClassificationTask, sentences: np.ndarray, tags: np.ndarray) -> None:
        import torch

        self.task = task
        self.sentences = sentences
        self.tags = torch.from_numpy(tags)
        self.totals: dict[str, torch.Tensor] = {
            "logits": torch.zeros(len(tags), len(task.label_names)),
            "evaluated": torch.zeros(len(tags)),
        }

    def add(self, outputs: Any, batch: Mapping[str, "torch.Tensor"]) -> None:
        """Add the logits of a batch, those of each word's first piece at the word's place."""
        word_ids = batch["example_ids"].cpu()
        real = word_ids >= 0
        self.totals["logits"][word_ids[real]] = outputs.logits.float().cpu()[real]
        self.totals["evaluated"][word_ids[real]] = 1

    def compute(self) -> dict[str, float]:
        """Return the metrics over the sentences that were evaluated whole, and the loss over all words that were."""
        import torch.nn.functional as F

        evaluated = self.totals["evaluated"] > 0
        logits, names = self.totals["logits"], self.task.label_names
        predicted = logits.argmax(-1).tolist()
        true = self.tags.tolist()
        whole = [range(first, last) for first, last in pairwise(self.sentences.tolist()) if evaluated[first:last].all()]
        predictions, references = ([[names[of[word]] for word in words] for words in whole] for of in (predicted, true))
        return {
            **self.task.tag_metrics(predictions, references),
            "loss": float(F.cross_entropy(logits[evaluated], self.tags[evaluated])),
        }


def starts_of_sentences(examples: Sequence[TaggedSentence]) -> np.ndarray:
    """Return (sentences + 1,) the first word of each sentence among the words of all, and the end."""
    return np.concatenate([[0], np.cumsum([len(example.words) for example in examples])])


def marks_spans(tags: Collection[str]) -> bool:
    """Return whether tags mark spans of words.

    Args:
        tags: all that there are.

    >>> marks_spans(["O", "B-person", "I-person"]), marks_spans(["NOUN", "VERB"])
    (True, False)
    """
    return "O" in tags and all(tag == "O" or tag[:2] in ("B-", "I-", "E-", "S-", "L-", "U-") for tag in tags)


def _parts(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Cut a sentence between words into parts that fit.

    Args:
        lengths: pieces of each word, none longer than `room`.
        room: pieces of a part, at most.

    Yields:
        The numbers of the words of a part.

    >>> list(_parts([2, 1, 3, 1], 4))
    [[0, 1], [2, 3]]
    """
    part: list[int] = []
    length = 0
    for word, pieces in enumerate(lengths):
        if part and length + pieces > room:
            yield part
            part, length = [], 0
        part.append(word)
        length += pieces
    if part:
        yield part
