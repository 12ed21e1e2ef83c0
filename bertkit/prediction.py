"""What a checkpoint says of new text: labels, numbers, tags, answers, filled masks, translations or continuations.

from bertkit import Predictor
predict = Predictor("runs/sst2/best")
predict(["a good film"])
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError, load_yaml

if TYPE_CHECKING:
    import torch

    from bertkit.tasks.sources import TaskDataArguments
    from bertkit.tasks.task import Task, TaskEvaluation

FILLS = ("AutoModelForMaskedLM", "AutoModelForPreTraining")
CONTINUES = "AutoModelForCausalLM"
TRANSLATES = "AutoModelForSeq2SeqLM"


@dataclass(kw_only=True)
class PredictionArguments:
    """How a checkpoint is asked."""

    batch_size: int = 32
    """Examples computed at once."""
    max_length: int | None = None
    """Longest input in tokens; default: as in training, or what the model takes."""
    top_k: int = 5
    """Masked language models: words to name for each mask."""
    max_new_tokens: int = 64
    """Continuations and translations: tokens to generate, at most."""
    num_beams: int = 1
    """Continuations and translations: beams of the search; 1 is greedy."""
    temperature: float = 0.0
    """Continuations: 0 takes the likeliest token, more draws tokens, the more freely the higher."""
    top_p: float = 1.0
    """Continuations that are drawn: share of the probability, from the likeliest token on, to draw from."""
    seed: int = 0
    """Continuations that are drawn: key of the drawing."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: naming the setting.
        """
        for name in ("batch_size", "top_k", "max_new_tokens", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature must not be below 0, and top_p lies above 0 and at most at 1")


class Predictor:
    """Asks a checkpoint about new text, in what it has learned.

    Args:
        checkpoint: its folder, or its name on the Hub.
        device: where to compute; default: a GPU if there is one.
        quiet: no progress bar.
        settings: fields of `PredictionArguments`.

    Raises:
        ConfigError: there is no such checkpoint, or it has no head to ask.
    """

    def __init__(
        self, checkpoint: str | Path, *, device: str | None = None, quiet: bool = True, **settings: Any
    ) -> None:
        import torch

        from bertkit.embeddings.bag_of_words import load_bag_of_words
        from bertkit.hub.checkpoints import checkpoint_folder, load_checkpoint, saved_auto_class, saved_family
        from bertkit.models import FAMILIES  # with it a tokenizer beside a model of bertkit loads without a question
        from bertkit.tokenization import load_any_tokenizer, load_tokenizer

        self.folder = checkpoint_folder(str(checkpoint))
        self.arguments = PredictionArguments(**settings)
        self.quiet = quiet
        self.bag = load_bag_of_words(self.folder)
        if self.bag is not None:
            self.auto_class = None
            return
        self.auto_class = saved_auto_class(self.folder)
        family = saved_family(self.folder)
        fills = self.auto_class in FILLS and (family is None or "AutoModelForMaskedLM" in FAMILIES[family].auto_classes)
        is_one_of = (self.task_class is not None, fills, self.auto_class in (CONTINUES, TRANSLATES))
        if self.auto_class is None or not any(is_one_of):
            raise ConfigError(
                f"{self.folder} has no head to ask ({self.auto_class or 'none'}); give a fine-tuned checkpoint, a masked or "
                "causal language model, or a model that translates"
            )
        load = load_tokenizer if self.task_class is None else load_any_tokenizer
        self.tokenizer: Any = load(self.folder, require=("pad_token",))
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        head = "AutoModelForMaskedLM" if self.auto_class == "AutoModelForPreTraining" else self.auto_class
        model: Any = load_checkpoint(self.folder, head)
        self.model = model.to(where).eval()

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe that the checkpoint was trained with; empty where bertkit did not train it."""
        path = self.folder / "recipe.yaml"
        return load_yaml(path) if path.is_file() else {}

    @cached_property
    def task_class(self) -> "type[Task[Any]] | None":
        """What the checkpoint was fine-tuned for; None for a language model."""
        from bertkit.tasks import TASKS
        from bertkit.tasks.saved import saved_task

        if self.bag is None and self.auto_class not in {task.auto_class for task in TASKS.values()}:
            return None
        return TASKS[saved_task(self.recipe, self.folder, self.auto_class or "")]

    @cached_property
    def task(self) -> "Task[Any]":
        """The task, with the settings it was trained with."""
        assert self.task_class is not None
        known = {field.name for field in fields(self.task_class.arguments_class)}
        settings = {name: value for name, value in self.recipe.get("task", {}).items() if name in known}
        if self.arguments.max_length is not None:
            settings["max_length"] = self.arguments.max_length
        arguments = self.task_class.arguments_class(**settings)
        if self.bag is not None:
            task_class: Any = self.task_class
            task: Task[Any] = task_class(arguments, None, self.bag.label_names)
            return task
        return self.task_class.from_config(arguments, self.tokenizer, self.model.config)

    def data(self, **settings: Any) -> "TaskDataArguments":
        """Return how files of examples are read: as in training, but for what is given.

        Args:
            settings: fields of the task's `data` section.

        Raises:
            ConfigError: one that there is not.
        """
        data_class = self.task.data_class
        known = {field.name for field in fields(data_class)}
        for name in settings:
            if name not in known:
                raise ConfigError(f"--data.{name} says nothing to this kind of checkpoint; leave it out")
        parts = ("train", "eval", "test", "eval_fraction", "test_fraction", "form")
        saved = {n: v for n, v in self.recipe.get("data", {}).items() if n in known and n not in parts}
        return data_class(**{**saved, **settings}, train=[])

    def __call__(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """Ask about inputs.

        Args:
            inputs: texts, or pairs of texts where the task is about pairs; for tags texts or lists of words; for questions
                mappings with `question` and `context`; for choices mappings with `text` and `choices`; for masked language
                models texts with the mask token in them; for causal ones beginnings of texts; for translation sources.

        Returns:
            For each input what it was and what the model says, with probabilities; the fields are those of a predictions file.
            What is generated has the `log_probability` of the whole, as the model gives it before any temperature, in nats.

        Raises:
            ValueError: an input of another kind.
        """
        if isinstance(inputs, str):
            raise ValueError(f"inputs are one text, {inputs[:40]!r}; give a list of texts")
        inputs = list(inputs)
        if not inputs:
            return []
        if self.task_class is not None:
            data = self.data()
            return self.predict([data.input_of(value, f"input {number}") for number, value in enumerate(inputs, 1)])
        for number, value in enumerate(inputs, 1):
            if not isinstance(value, str):
                raise ValueError(f"input {number} is {type(value).__name__}; give texts")
        if self.auto_class in FILLS:
            return self._fill(inputs)
        return self._continue(inputs) if self.auto_class == CONTINUES else self._translate(inputs)

    def predict(self, examples: Sequence[Any]) -> list[dict[str, Any]]:
        """Ask about examples of the task, as its data are read; labels they bear are not looked at.

        Args:
            examples: the examples.
        """
        evaluation = self._ask(examples)
        return [
            {name: value for name, value in record.items() if name not in self.task.known_fields}
            for record in self.task.predictions(examples, evaluation)
        ]

    def _ask(self, examples: Sequence[Any]) -> "TaskEvaluation":
        import torch
        from tqdm import tqdm

        from bertkit.embeddings.bag_of_words import texts_and_pairs

        task: Any = self.task
        if self.bag is not None:
            return task.evaluation_of_scores(examples, self.bag.logits(*texts_and_pairs(examples)))
        batches = task.unlabelled_batches(examples)
        evaluation, size = batches.evaluation(), self.arguments.batch_size
        with torch.inference_mode():
            for start in tqdm(range(0, len(batches), size), desc="predicting", unit="batch", disable=self.quiet):
                arrays = batches.batch(start, min(start + size, len(batches)), 0.0)
                batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
                evaluation.add(self.model(**self._inputs(batch)), batch)
        return evaluation

    def _inputs(self, batch: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Return what of a batch the model reads, without labels."""
        left_out = ("example_ids", "labels", "start_positions", "end_positions")
        return {name: tensor.to(self.model.device) for name, tensor in batch.items() if name not in left_out}

    def _fill(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        from transformers import pipeline

        mask = self.tokenizer.mask_token
        for number, text in enumerate(texts, 1):
            if mask not in text:
                raise ValueError(f"input {number}, {text[:40]!r}, has no {mask}; put one where a word is to be found")
        fill = pipeline("fill-mask", model=self.model, tokenizer=self.tokenizer)
        found = []
        for text in texts:
            guesses = fill(text, top_k=self.arguments.top_k)
            masks = guesses if isinstance(guesses[0], list) else [guesses]
            found.append(
                {
                    "text": text,
                    "predictions": [
                        [{"token": one["token_str"], "probability": round(one["score"], 6)} for one in of_mask]
                        for of_mask in masks
                    ],
                }
            )
        return found

    def _continue(self, beginnings: Sequence[str]) -> list[dict[str, Any]]:
        import torch
        from tqdm import tqdm

        from bertkit.evaluation.likelihood import log_probabilities_to_end

        arguments, results = self.arguments, []
        drawn = {"do_sample": True, "temperature": arguments.temperature, "top_p": arguments.top_p}
        how = drawn if arguments.temperature else {"do_sample": False}
        torch.manual_seed(arguments.seed)
        for text in tqdm(beginnings, desc="generating", unit="text", disable=self.quiet):
            encoded = self.tokenizer(text, return_tensors="pt", return_token_type_ids=False).to(self.model.device)
            with torch.inference_mode():
                generated = self.model.generate(
                    **encoded,
                    **how,
                    max_new_tokens=arguments.max_new_tokens,
                    num_beams=arguments.num_beams,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
                length = encoded["input_ids"].shape[1]
                new = generated[:, length:]
                logits = self.model(generated[:, :-1]).logits[:, length - 1 :]
            [log_probability] = log_probabilities_to_end(logits, new, self.model.config.eos_token_id).tolist()
            prediction = self.tokenizer.decode(new[0], skip_special_tokens=True)
            results.append({"text": text, "prediction": prediction, "log_probability": round(log_probability, 6)})
        return results

    def _translate(self, sources: Sequence[str]) -> list[dict[str, Any]]:
        from bertkit.evaluation.translation import translate

        arguments = self.arguments
        translations = translate(
            self.model,
            self.tokenizer,
            sources,
            num_beams=arguments.num_beams,
            max_new_tokens=arguments.max_new_tokens,
            batch_size=arguments.batch_size,
            max_source_length=arguments.max_length,
            quiet=self.quiet,
        )
        return [
            {"text": source, "prediction": text, "log_probability": round(log_probability, 6)}
            for source, (text, log_probability) in zip(sources, translations, strict=True)
        ]
