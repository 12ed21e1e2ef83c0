"""Extractive question answering: where in a text the answer to a question stands, long texts read through windows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from bertkit.data.errors import DataError
from bertkit.data.health import Finding
from bertkit.data.packing import pad_to_multiple
from bertkit.tasks.packed_examples import (
    EXAMPLES_MULTIPLE,
    IGNORED,
    Template,
    TokenizedExamples,
    end_to_end,
    lay_out,
    model_inputs,
)
from bertkit.tasks.questions import Question, QuestionDataArguments
from bertkit.tasks.significance import Statistics, mean_of
from bertkit.tasks.task import Task, TaskBatches, TaskEvaluation

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

N_BEST = 5  # answers that are kept of each window
NOWHERE = 0  # the token that is pointed at where a window holds no answer


@dataclass(kw_only=True)
class QuestionAnsweringArguments:
    """Settings of the task `question_answering`."""

    name: Literal["question_answering"] = "question_answering"
    """The task: the stretch of a text that answers a question."""
    max_length: int = 384
    """Longest window in tokens: the question, a stretch of the text and special tokens."""
    stride: int = 128
    """Tokens of the text that a window shares with the one before."""
    max_question_length: int = 64
    """Tokens of a question, at most; it is cut at its end."""
    max_answer_length: int = 30
    """Tokens of an answer, at most."""
    unanswerable: bool = False
    """Whether a text may hold no answer, as in SQuAD 2."""

    def __post_init__(self) -> None:
        """Refuse what leaves no room for the text.

        Raises:
            ValueError: a window too short for question, overlap and a token more.
        """
        if min(self.stride, self.max_question_length, self.max_answer_length) < 1:
            raise ValueError("task.stride, task.max_question_length and task.max_answer_length must be at least 1")
        least = self.max_question_length + self.stride + 8
        if self.max_length < least:
            raise ValueError(
                f"task.max_length is {self.max_length}; with max_question_length {self.max_question_length} and stride "
                f"{self.stride} it must be at least {least}"
            )


class Windows(NamedTuple):
    """Questions with what they are asked of, cut into windows that fit."""

    tokenized: TokenizedExamples
    question: np.ndarray
    """(windows,) number of the question."""
    context_starts: np.ndarray
    """(windows,) the place of the first token of the text in the window."""
    first_tokens: np.ndarray
    """(windows,) which token of the text that is."""
    num_tokens: np.ndarray
    """(windows,) tokens of the text in the window."""
    offsets: list[np.ndarray]
    """For each question (tokens, 2): where each token of its text begins and ends, in characters."""


class QuestionAnsweringTask(Task[Question]):
    """How questions become batches."""

    arguments_class = QuestionAnsweringArguments
    data_class = QuestionDataArguments
    auto_class = "AutoModelForQuestionAnswering"
    pipeline_tag = "question-answering"
    unit = "questions"
    label_counts: ClassVar[Mapping[str, str]] = {"num_items_in_batch": "start_positions"}

    @classmethod
    def from_config(
        cls, arguments: QuestionAnsweringArguments, tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig"
    ) -> Self:
        """Make the task that a checkpoint was fine-tuned for; the head's two scores are no labels."""
        return cls(arguments, tokenizer)

    @property
    def config_settings(self) -> dict[str, Any]:
        """Nothing: the head always has two scores a token."""
        return {}

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What an evaluation gives."""
        split = ("f1_answerable", "f1_unanswerable") if self.arguments.unanswerable else ()
        return ("f1", "exact_match", *split, "loss")

    def batches(self, examples: Sequence[Question], *, seed: int = 0, training: bool) -> "QuestionAnsweringBatches":
        """Tokenize questions for the Trainer; see `Task.batches`."""
        for example in examples:
            if not example.answers and not self.arguments.unanswerable:
                raise DataError(f"{example.place}: no answer; leave it out, or set task.unanswerable to true")
        return QuestionAnsweringBatches(self, examples, self.windows(examples), seed=seed, training=training)

    def unlabelled_batches(self, examples: Sequence[Question]) -> "QuestionAnsweringBatches":
        """Tokenize questions whose answers are not known."""
        return QuestionAnsweringBatches(self, examples, self.windows(examples), seed=0, training=False)

    def windows(self, examples: Sequence[Question]) -> Windows:
        """Cut questions and their texts into windows."""
        template = Template(self.reader, is_pair=True)
        arguments = self.arguments
        questions = self.reader([e.question for e in examples], add_special_tokens=False, verbose=False)["input_ids"]
        contexts: dict[str, tuple[list[int], np.ndarray]] = {}  # many questions are asked of one text
        filled, of_question, starts, firsts, counts, offsets = [], [], [], [], [], []
        for number, (example, question) in enumerate(zip(examples, questions, strict=True)):
            if example.context not in contexts:
                contexts[example.context] = self._context(example)
            context, spans = contexts[example.context]
            question = question[: arguments.max_question_length]
            room = arguments.max_length - template.num_special_tokens - len(question)
            start = template.text_starts(len(question))[1]
            offsets.append(spans)
            for first in range(0, max(len(context) - arguments.stride, 1), room - arguments.stride):
                some = context[first : first + room]
                filled.append(template.fill(question, some))
                of_question.append(number)
                starts.append(start)
                firsts.append(first)
                counts.append(len(some))
        return Windows(
            end_to_end(filled, num_truncated=0, spellings=self.spellings),
            np.array(of_question),
            np.array(starts),
            np.array(firsts),
            np.array(counts),
            offsets,
        )

    def _context(self, example: Question) -> tuple[list[int], np.ndarray]:
        encoding = self.reader(example.context, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        if not encoding["input_ids"]:
            raise DataError(f"{example.place}: the text has no token; leave the question out")
        return encoding["input_ids"], np.array(encoding["offset_mapping"])

    def predictions(self, examples: Sequence[Question], evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
        """Yield each question with its answers and the one found ("" for none), its probability and the next best."""
        assert isinstance(evaluation, QuestionAnsweringEvaluation)
        for example, found in zip(examples, evaluation.answers(), strict=True):
            yield {
                "id": example.id,
                "question": example.question,
                "answers": [answer.text for answer in example.answers],
                "prediction": found[0].text,
                "start": found[0].start,
                "probability": round(found[0].probability, 6),
                "others": [{"text": one.text, "probability": round(one.probability, 6)} for one in found[1:]],
            }

    known_fields = ("answers",)

    def in_short(self, prediction: Mapping[str, Any]) -> str:
        """Return the question's name, the answer and its probability between tabs."""
        answer = " ".join(prediction["prediction"].split())
        return f"{prediction['id']}\t{answer}\t{prediction['probability']:.4f}"

    @classmethod
    def statistics(cls, predictions: Sequence[Mapping[str, Any]]) -> Statistics:
        """Return the F1 of words; see `Task.statistics`."""
        from bertkit.tasks.metrics import best_word_f1

        return mean_of(np.array([best_word_f1(one["prediction"], one["answers"]) for one in predictions]), "f1")

    def guess(self, examples: Sequence[Question]) -> None:
        """Return None: no answer is found without reading."""

    def guess_metrics(self, guess: None, examples: Sequence[Question]) -> dict[str, float]:
        """Return nothing."""
        return {}

    @classmethod
    def checks(cls, parts: Mapping[str, Sequence[Question]]) -> list[Finding]:
        """Look at how many questions have answers, and whether texts stand in several parts."""
        findings = []
        read = {example.context for example in parts["train"]}
        for part, examples in parts.items():
            none = sum(not example.answers for example in examples)
            texts = len({example.context for example in examples})
            what = f"{part}: {len(examples):,} asked of {texts:,} texts, {none:,} without answer"
            findings.append(Finding("ok", "questions", what))
            known = sum(example.context in read for example in examples)
            if part != "train" and known:
                what = f"{known:,} of the {len(examples):,} of {part} are asked of texts that training has, too"
                findings.append(Finding("warning", "texts", what, "the figures will flatter: divide by articles"))
        return findings


class Found(NamedTuple):
    """An answer that a model gives."""

    text: str
    """Empty where it says that there is none."""
    start: int
    """Where it begins in the context, in characters; -1 for none."""
    probability: float
    """Among the answers that were kept of all windows."""


class QuestionAnsweringBatches(TaskBatches):
    """Windows packed into rows.

    Args:
        task: whose examples they are.
        examples: the questions.
        windows: the same, as tokens; an epoch's examples are these.
        seed: key of their order.
        training: shuffled anew each epoch; else in order.
    """

    def __init__(
        self,
        task: QuestionAnsweringTask,
        examples: Sequence[Question],
        windows: Windows,
        *,
        seed: int,
        training: bool,
    ) -> None:
        count = len(windows.question)
        super().__init__(task, windows.tokenized, num_examples=count, seed=seed, training=training)
        self.task = task
        self.examples = examples
        self.windows = windows
        self.floor_name = "loss of pointing at every token alike"
        self.answer_starts, self.answer_ends = _answer_places(examples, windows)

    @cached_property
    def loss_floor(self) -> float:
        """Loss in nats of pointing at every token of a window alike."""
        return float(np.log(self.tokenized.lengths).mean())

    def batch(self, start: int, stop: int, progress: float) -> dict[str, np.ndarray]:
        """Pack the windows at places `start` to `stop`; `start_positions`, `end_positions` and `example_ids` (windows,)."""
        layout = lay_out(self.tokenized, self.order.between(start, stop), max_width=self.tokens_per_example)
        return {
            **model_inputs(self.tokenized, layout, pad_token_id=self.pad_token_id),
            "start_positions": pad_to_multiple(self.answer_starts[layout.example_ids], EXAMPLES_MULTIPLE, IGNORED),
            "end_positions": pad_to_multiple(self.answer_ends[layout.example_ids], EXAMPLES_MULTIPLE, IGNORED),
            "example_ids": pad_to_multiple(layout.example_ids, EXAMPLES_MULTIPLE, -1),
        }

    def evaluation(self) -> "QuestionAnsweringEvaluation":
        """Begin an evaluation."""
        return QuestionAnsweringEvaluation(self.task, self.examples, self.windows)


def _answer_places(examples: Sequence[Question], windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Find where in each window the first answer begins and ends, `NOWHERE` where it is not in there whole, (windows,) each."""
    starts, ends = np.full((2, len(windows.question)), NOWHERE)
    for window, number in enumerate(windows.question):
        if not examples[number].answers:
            continue
        answer, offsets = examples[number].answers[0], windows.offsets[number]
        touched = np.flatnonzero((offsets[:, 1] > answer.start) & (offsets[:, 0] < answer.start + len(answer.text)))
        first, count = windows.first_tokens[window], windows.num_tokens[window]
        if len(touched) and touched[0] >= first and touched[-1] < first + count:
            starts[window] = windows.context_starts[window] + touched[0] - first
            ends[window] = windows.context_starts[window] + touched[-1] - first
    return starts, ends


class QuestionAnsweringEvaluation:
    """The best answers of every window, and of them those to each question.

    Args:
        task: whose metrics they are.
        examples: the questions.
        windows: the same, as tokens.
    """

    def __init__(self, task: QuestionAnsweringTask, examples: Sequence[Question], windows: Windows) -> None:
        import torch

        count = len(windows.question)
        self.task = task
        self.examples = examples
        self.windows = windows
        self.totals: dict[str, torch.Tensor] = {
            "scores": torch.zeros(count, N_BEST),
            "starts": torch.zeros(count, N_BEST),
            "ends": torch.zeros(count, N_BEST),
            "nowhere": torch.zeros(count),
            "evaluated": torch.zeros(count),
            "loss": torch.zeros(1),
        }

    def add(self, outputs: Any, batch: Mapping[str, "torch.Tensor"]) -> None:
        """Keep the best answers of the windows of a batch."""
        import torch

        starts, ends = (logits.float().cpu().flatten() for logits in (outputs.start_logits, outputs.end_logits))
        for window, first in zip(batch["example_ids"].tolist(), batch["example_starts"].tolist(), strict=True):
            if window < 0:
                continue
            place = first + int(self.windows.context_starts[window])
            context = slice(place, place + int(self.windows.num_tokens[window]))
            scores, begins, finishes = best_spans(
                starts[context], ends[context], max_length=self.task.arguments.max_answer_length, count=N_BEST
            )
            kept = len(scores)
            self.totals["scores"][window] = -torch.inf
            self.totals["scores"][window, :kept] = scores
            self.totals["starts"][window, :kept] = begins
            self.totals["ends"][window, :kept] = finishes
            self.totals["nowhere"][window] = starts[first + NOWHERE] + ends[first + NOWHERE]
            self.totals["evaluated"][window] = 1
        if outputs.loss is not None:
            self.totals["loss"] += outputs.loss.float().cpu()

    def answers(self) -> list[list[Found]]:
        """Return the best answers to each question, the likeliest first; none for one that was not evaluated whole."""
        import torch

        of_question: list[list[int]] = [[] for _ in self.examples]
        for window, number in enumerate(self.windows.question.tolist()):
            of_question[number].append(window)
        found: list[list[Found]] = []
        for number, windows in enumerate(of_question):
            if not all(self.totals["evaluated"][windows] > 0):
                found.append([])
                continue
            spans: dict[tuple[int, int], float] = {}
            offsets = self.windows.offsets[number]
            for window in windows:
                first = int(self.windows.first_tokens[window])
                for score, start, end in zip(
                    *(self.totals[name][window].tolist() for name in ("scores", "starts", "ends")), strict=True
                ):
                    span = (int(offsets[first + int(start), 0]), int(offsets[first + int(end), 1]))
                    spans[span] = max(spans.get(span, -np.inf), score)
            if self.task.arguments.unanswerable:  # no answer in the text is none in any window
                spans[-1, -1] = float(self.totals["nowhere"][windows].min())
            ranked = sorted(spans.items(), key=lambda item: -item[1])[:N_BEST]
            shares = torch.tensor([score for _, score in ranked], dtype=torch.float64).softmax(0).tolist()
            context = self.examples[number].context
            found.append(
                [
                    Found("" if start < 0 else context[start:end], start, share)
                    for ((start, end), _), share in zip(ranked, shares, strict=True)
                    if share > 0
                ]
            )
        return found

    def compute(self) -> dict[str, float]:
        """Return the metrics over the questions that were evaluated, and the loss a window."""
        from bertkit.tasks.metrics import answer_metrics

        pairs = [
            (found[0].text, example) for found, example in zip(self.answers(), self.examples, strict=True) if found
        ]
        predictions = [text for text, _ in pairs]
        references = [[answer.text for answer in example.answers] for _, example in pairs]
        metrics = answer_metrics(predictions, references)
        if self.task.arguments.unanswerable:
            for name, wanted in (("f1_answerable", True), ("f1_unanswerable", False)):
                chosen = [n for n, answers in enumerate(references) if bool(answers) == wanted]
                part = answer_metrics([predictions[n] for n in chosen], [references[n] for n in chosen])
                metrics[name] = part["f1"]
        return {**metrics, "loss": float(self.totals["loss"] / self.totals["evaluated"].sum())}


def best_spans(
    starts: "torch.Tensor", ends: "torch.Tensor", *, max_length: int, count: int
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Find the likeliest stretches of a text.

    Args:
        starts: (tokens,) scores of beginning at each token.
        ends: (tokens,) scores of ending there.
        max_length: tokens of a stretch, at most.
        count: how many to find; fewer where there are no more.

    Returns:
        (n,) scores, the highest first, and the first and last token of each stretch.

    >>> import torch
    >>> best_spans(torch.tensor([0.0, 3.0, 0.0]), torch.tensor([4.0, 1.0, 2.0]), max_length=2, count=1)
    (tensor([5.]), tensor([1]), tensor([2]))
    """
    import torch

    tokens = len(starts)
    scores = starts[:, None] + ends[None, :]  # (start, end)
    place = torch.arange(tokens)
    length = place[None, :] - place[:, None] + 1
    scores = scores.masked_fill((length < 1) | (length > max_length), -torch.inf).flatten()
    top = scores.topk(min(count, len(scores)))
    possible = top.values > -torch.inf
    values, places = top.values[possible], top.indices[possible]
    return values, places // tokens, places % tokens
