"""Frozen vectors of a task's examples, and a linear model that does the task with them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bertkit.features import Layer, Pooling
from bertkit.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.tasks.task import TaskEvaluation

PROBED = ("sequence_classification", "regression", "token_classification")
"""The tasks that linear models do with frozen vectors."""
Pairs: TypeAlias = Literal["apart", "together"]
Sides: TypeAlias = list[np.ndarray]
"""(vectors, features) of the texts, and of the second ones where a pair is read apart."""


class FrozenVectors:
    """A frozen encoder that turns the examples of a task into vectors: of each text or pair, or of each word that is tagged.

    Args:
        model: the encoder.
        tokenizer: its tokenizer.
        task: one of `PROBED`.
        layers: which of its states; each layer has vectors of its own.
        pooling: how the states of a text become one; those of a word are averaged.
        pairs: whether the two texts of a pair are read `together`, as one sequence, or `apart`; then a pair's vector joins
            theirs, how far these differ, and their product, number by number (Conneau et al. 2017).
        max_length: longest text in tokens; by default what the model takes.
        batch_tokens: tokens computed at a time.

    Raises:
        ValueError: what `FeatureExtractor` says.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        task: str,
        layers: Sequence[Layer],
        pooling: Pooling,
        pairs: Pairs | None,
        max_length: int | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        from bertkit.features import FeatureExtractor, FeatureSettings

        self.of_words = TASKS[task].auto_class == "AutoModelForTokenClassification"
        self.pairs = pairs
        level: dict[str, Any] = {"level": "word", "words": "spaces"} if self.of_words else {"pooling": pooling}
        settings = FeatureSettings(layers=list(layers), max_length=max_length, batch_tokens=batch_tokens, **level)
        self._extractor = FeatureExtractor(model, tokenizer, settings, pairs=pairs == "together")
        self._unknown = str(tokenizer.unk_token)

    def of(self, examples: Sequence[Any], *, quiet: bool) -> Sides:
        """Compute the vectors of examples, all layers joined.

        Args:
            examples: the examples.
            quiet: no progress bar.
        """
        if self.of_words:
            # Each word one between spaces, also one that has a space inside or is nothing else.
            words = [["".join(word.split()) or self._unknown for word in example.words] for example in examples]
            return [self._extractor([" ".join(of_sentence) for of_sentence in words], quiet=quiet).vectors]
        firsts = [example.text for example in examples]
        seconds = [example.text_pair or "" for example in examples]
        if self.pairs == "together":
            return [self._extractor(firsts, seconds, quiet=quiet).vectors]
        sides = [firsts, seconds] if self.pairs == "apart" else [firsts]
        return [self._extractor(side, quiet=quiet).vectors for side in sides]

    def of_layer(self, sides: Sides, place: int) -> np.ndarray:
        """Return the vectors of one layer, (vectors, features).

        Args:
            sides: what `of` computed.
            place: of the layer among the layers.
        """
        columns = columns_of_layer(self._extractor.layer_widths, place, self._extractor.width)
        first, *second = (side[:, columns] for side in sides)
        return np.concatenate([first, *second, abs(first - second[0]), first * second[0]], 1) if second else first

    def warn_of_losses(self, num_texts: int) -> None:
        """Say how many texts were cut, and how many words have no vector.

        Args:
            num_texts: texts that were given.
        """
        self._extractor.warn_of_losses(num_texts)


def do_task(
    task: Any, vectors: Mapping[str, np.ndarray], parts: Mapping[str, Sequence[Any]]
) -> tuple[float, dict[str, "TaskEvaluation"]]:
    """Fit a logistic regression, or a ridge regression of numbers, to the part `train`, its penalty chosen on `eval`.

    Args:
        task: what is learned, one of `PROBED`.
        vectors: (vectors, features) of each part.
        parts: the examples.

    Returns:
        The C that was chosen, and by part what the model says of the examples.

    Raises:
        ValueError: a label that training does not have, or but one.
    """
    from bertkit.evaluation.probing import fit_probe

    def quality(scores: np.ndarray) -> float:
        metrics: dict[str, float] = task.evaluation_of_scores(parts["eval"], scores).compute()
        return metrics[task.metric_names[0]]

    num_classes = None if task.problem_type == "regression" else len(task.label_names)
    found = fit_probe(vectors, task.targets(parts["train"]), num_classes=num_classes, quality=quality)
    return found.penalty, {
        part: task.evaluation_of_scores(parts[part], scores) for part, scores in found.scores.items()
    }


def columns_of_layer(widths: Sequence[int], place: int, width: int) -> list[int]:
    """Return which numbers of a vector that joins layers come of one of them.

    Args:
        widths: of the layers that are joined.
        place: which of them.
        width: of the vector; more than the widths together where several poolings are joined, each of all layers.

    >>> columns_of_layer([2, 3], 0, width=10)
    [0, 1, 5, 6]
    """
    together, before = sum(widths), sum(widths[:place])
    return [start + before + number for start in range(0, width, together) for number in range(widths[place])]
