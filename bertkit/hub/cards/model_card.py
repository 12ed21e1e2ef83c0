"""The model card: what a checkpoint was trained on, how, and what came of it, written from what was measured.

What is not known is left out. Metadata comes first, as the Hub indexes it; https://huggingface.co/docs/hub/model-cards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from bertkit.hub.cards.environment import hardware, software
from bertkit.hub.cards.logged_losses import PICTURE, LoggedLosses
from bertkit.hub.privacy import is_dataset, is_local, shareable_recipe
from bertkit.hub.publishing.published_files import PLACEHOLDER

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from bertkit.data.token_store import TokenStore
    from bertkit.training.checkpointing import TrainerState

PIPELINE_TAGS = {
    "AutoModel": "feature-extraction",
    "AutoModelForPreTraining": "fill-mask",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSeq2SeqLM": "translation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
}
"""Auto class -> what the Hub calls its models, which has no name for some."""
_PIPELINES = {
    "fill-mask": 'f"A text with a {pipe.tokenizer.mask_token} in it."',
    "text-generation": '"The beginning of a text"',
    "text-classification": '"A text to be labelled."',
    "token-classification": '"A sentence to be tagged."',
}
"""Pipelines of transformers that take bertkit's models -> what they are asked."""


def figures(store: "TokenStore") -> dict[str, int]:
    """Return the sizes of a corpus that a card tells."""
    sizes = store.metadata
    return {
        "documents": sizes.num_documents,
        "sentences": sizes.num_sentences,
        "words": sizes.num_words,
        "tokens": sizes.num_tokens,
        "bytes": sizes.num_bytes,
    }


@dataclass(frozen=True)
class ModelCard:
    """What is known of a run before it starts; `render` adds where it stands.

    Args:
        auto_class: the Auto class of the trained model.
        pipeline_tag: what the Hub calls such models.
        language: language code of its text; None: it is not known.
        parameters: number of weights.
        data: name of a corpus part -> its figures.
        floor: the loss of the best guess that ignores the input.
        floor_metric: the evaluation metric that the floor bounds.
        recipe: the resolved recipe, as YAML.
    """

    auto_class: str
    pipeline_tag: str
    language: str | None
    parameters: int
    data: Mapping[str, Mapping[str, Any]]
    floor: float
    floor_metric: str
    recipe: str

    def render(self, state: "TrainerState", losses: LoggedLosses, *, has_picture: bool) -> str:
        """Return the card's text for a checkpoint of the run.

        Args:
            state: where the training stands.
            losses: what the run has logged.
            has_picture: whether they are drawn in `losses.png` beside the card.
        """
        recipe = yaml.safe_load(self.recipe)
        shareable = shareable_recipe(self.recipe, names=_names_on_the_hub(recipe)).rstrip()
        sections = {
            "Data": self._data(recipe, state),
            "Losses": "\n\n".join(
                filter(None, [f"![losses by step]({PICTURE})" if has_picture else "", losses.table()])
            ),
            "Evaluation": self._evaluation(recipe, state),
            "Environment": f"{_duration(state.elapsed_seconds)} of training by the clock. Hardware when this checkpoint was "
            f"saved: {hardware()}. Software: {software()}.",
            "Loading": loading(self.auto_class, self.pipeline_tag),
            "Limitations": "\n".join(f"- {sentence}" for sentence in self._limitations(recipe, state)),
            "Recipe": f"Of local paths the last part is given.\n\n```yaml\n{shareable}\n```",
        }
        body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
        based = _base_model(recipe)
        of_task = f" for the task {recipe['task']['name']}" if "task" in recipe else ""
        start = (
            f"`{based}`"
            if based
            else f"a local checkpoint, `{PurePath(recipe['model']['from']).name}`"
            if _starts(recipe)
            else ""
        )
        from_model = f", trained further from {start}" if start else ""
        return f"""---
{self._metadata(recipe, state)}
---

# {self.pipeline_tag} model trained with bertkit

{self.parameters:,} parameters{of_task}{from_model}; step {state.global_step:,}, {state.tokens_seen:,} tokens seen (padding not
counted).

{body}
"""

    def _metadata(self, recipe: Mapping[str, Any], state: "TrainerState") -> str:
        """Return what the Hub indexes, as YAML."""
        from huggingface_hub import ModelCardData

        results = self._results(recipe, state)
        family = recipe["model"].get("family")
        return ModelCardData(
            library_name="transformers",
            pipeline_tag=self.pipeline_tag,
            language=self.language,
            license=recipe["training"].get("hub_license"),
            base_model=_base_model(recipe),
            datasets=_dataset_names(recipe["data"]) or None,
            metrics=[result.metric_type for result in results] or None,
            tags=["bertkit", *([family] if family else [])],
            model_name=PurePath(recipe["output_dir"]).name if results else None,
            eval_results=results or None,
        ).to_yaml()

    def _results(self, recipe: Mapping[str, Any], state: "TrainerState") -> "list[EvalResult]":
        from huggingface_hub import EvalResult

        source = recipe["data"].get("eval") or recipe["data"]["train"]
        first = source if isinstance(source, str) else source[0]
        name = _dataset_name(first)
        part = "evaluation part" if recipe["data"].get("eval") else "held-out part"
        shown = name or PurePath(first.removeprefix("store:")).name
        return [
            EvalResult(
                task_type=self.pipeline_tag,
                dataset_type=name or "local",
                dataset_name=f"{shown}, {part}",
                metric_type=metric.removeprefix("eval_"),
                metric_name=metric.removeprefix("eval_").replace("_", " "),
                metric_value=round(value, 6),
            )
            for metric, value in _evaluated(state).items()
        ]

    def _data(self, recipe: Mapping[str, Any], state: "TrainerState") -> str:
        rows = "\n".join(
            f"| {part} | {', '.join(f'{value:,} {name}' for name, value in numbers.items())} |"
            for part, numbers in self.data.items()
        )
        tokens = self.data["train"].get("tokens")
        passes = (
            f"\n\nThe tokens seen are {state.tokens_seen / tokens:.2f} times those of the training part."
            if tokens
            else ""
        )
        return f"{_sources(recipe['data'])}\n\n| part | size |\n|---|---|\n{rows}{passes}"

    def _evaluation(self, recipe: Mapping[str, Any], state: "TrainerState") -> str:
        found = _evaluated(state)
        if not found:
            return "Not evaluated yet."
        rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in found.items())
        step = "" if state.evaluated_step is None else f" at step {state.evaluated_step:,}"
        floor = (
            f"\n\nThe best guess that ignores the input scores {self.floor:.4f} in `{self.floor_metric}`."
            if math.isfinite(self.floor)
            else ""
        )
        return f"On the evaluation part{step}:\n\n| metric | value |\n|---|---|\n{rows}{floor}"

    def _limitations(self, recipe: Mapping[str, Any], state: "TrainerState") -> list[str]:
        """Say what follows from how the model was made."""
        train, found = self.data["train"], _evaluated(state)
        unit = next(name for name in ("words", "examples", "tokens", *train) if name in train)
        further = " further" if _starts(recipe) else ""
        language = (
            f"in the language `{self.language}` as the recipe says" if self.language else "whose language no one named"
        )
        sentences = [
            f"It was trained{further} on {train[unit]:,} {unit}, {language}; how it does in other languages was not measured."
        ]
        if found:
            sentences.append(
                "It was evaluated on text of a source of its own, and on no other."
                if recipe["data"].get("eval")
                else "It was evaluated on text that was held out of the source of its training only: how it does on text from "
                "elsewhere was not measured."
            )
            if found.get(self.floor_metric, -math.inf) >= self.floor:
                sentences.append(
                    "Its loss is not under that of the best guess that ignores the input: it has learned little."
                )
        sentences.append("What it says of people, and whether it is true, was not measured.")
        return sentences


def loading(auto_class: str, pipeline_tag: str | None) -> str:
    """Return the ways to load a checkpoint, as Markdown.

    Args:
        auto_class: the Auto class of its model.
        pipeline_tag: what the Hub calls such models; None where neither it nor the command line has a use for them.
    """
    asked = _PIPELINES.get(pipeline_tag or "")
    if asked:
        third = f"""```python
from transformers import pipeline

pipe = pipeline("{pipeline_tag}", model="{PLACEHOLDER}", trust_remote_code=True)
print(pipe({asked}))
```"""
    elif pipeline_tag == "feature-extraction":
        third = f"```bash\nbertkit features {PLACEHOLDER} texts.txt --output vectors.parquet\n```"
    else:
        third = f"```bash\nbertkit predict {PLACEHOLDER} inputs.jsonl\n```"
    title = "In a pipeline" if asked else "From the command line"
    ending = f"\n\n{title}:\n\n{third}" if pipeline_tag else ""
    return f"""With transformers alone; the flag lets the code run that lies beside the weights:

```python
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{PLACEHOLDER}", trust_remote_code=True)
model = {auto_class}.from_pretrained("{PLACEHOLDER}", trust_remote_code=True)
```

With bertkit, whose own classes are taken, and none of that code runs:

```python
import bertkit.models
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{PLACEHOLDER}")
model = {auto_class}.from_pretrained("{PLACEHOLDER}")
```{ending}"""


def _evaluated(state: "TrainerState") -> dict[str, float]:
    """Return the metrics of the last evaluation that are numbers."""
    found = state.metrics.items()
    return {name: value for name, value in found if name.startswith("eval_") and math.isfinite(value)}


def _duration(seconds: float) -> str:
    """Return a time in the largest unit of which it is at least one.

    >>> _duration(5400), _duration(90), _duration(3.14)
    ('1.50 hours', '1.5 minutes', '3.1 seconds')
    """
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} seconds"


def _starts(recipe: Mapping[str, Any]) -> bool:
    return recipe["model"].get("from") is not None and not recipe.get("from_scratch")


def _base_model(recipe: Mapping[str, Any]) -> str | None:
    """Return the name on the Hub of the model that the training started from, None for a folder or fresh weights."""
    start = recipe["model"].get("from")
    return start.partition("@")[0] if _starts(recipe) and not is_local(start) else None


def _names_on_the_hub(recipe: Mapping[str, Any]) -> list[str]:
    based = _base_model(recipe)
    return [*_dataset_names(recipe["data"]), *([based] if based else [])]


def _sources(data: Mapping[str, Any]) -> str:
    """Say where the examples or the text of each part come from: names of datasets, and of files without their folders."""
    recipe = yaml.safe_dump({"data": dict(data)})
    shown = yaml.safe_load(shareable_recipe(recipe, names=_dataset_names(data)))["data"]
    given = {part: shown.get(part) for part in ("train", "eval", "test") if shown.get(part)}
    names = {part: ", ".join([source] if isinstance(source, str) else source) for part, source in given.items()}
    return "; ".join(f"{part}: `{name}`" for part, name in names.items())


def _dataset_names(data: Mapping[str, Any]) -> list[str]:
    """Return the datasets of the Hub among the sources of the data, each once."""
    given = [data.get(part) or [] for part in ("train", "eval", "test")]
    sources: Sequence[str] = [each for part in given for each in ([part] if isinstance(part, str) else part)]
    return [*dict.fromkeys(name for source in sources if (name := _dataset_name(source)))]


def _dataset_name(source: str) -> str | None:
    """Return the name of a dataset of the Hub without configuration and split, None for a file.

    >>> _dataset_name("hub:nyu-mll/glue:sst2@train"), _dataset_name("/data/corpus.txt")
    ('nyu-mll/glue', None)
    """
    return source.removeprefix("hub:").partition("@")[0].partition(":")[0] if is_dataset(source) else None
