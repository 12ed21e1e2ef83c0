"""The model card: what a checkpoint was trained on, how, and what came of it, written from what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertkit.data.token_store import TokenStore
    from bertkit.training.checkpointing import TrainerState


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
        language: language code of its text.
        parameters: number of weights.
        data: name of a corpus part -> its figures.
        floor: the loss of the best guess that ignores the input.
        floor_metric: the evaluation metric that the floor bounds.
        recipe: the resolved recipe, as YAML.
    """

    auto_class: str
    pipeline_tag: str
    language: str
    parameters: int
    data: Mapping[str, Mapping[str, Any]]
    floor: float
    floor_metric: str
    recipe: str

    def render(self, state: "TrainerState") -> str:
        """Return the card's text for a checkpoint of the run.

        Args:
            state: where the training stands.
        """
        metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in state.metrics.items())
        figures = "\n".join(
            f"| {part} | {', '.join(f'{value:,} {name}' for name, value in numbers.items())} |"
            for part, numbers in self.data.items()
        )
        results = (
            f"Evaluated on the evaluation part at this checkpoint or the last evaluated one before it:\n\n"
            f"| metric | value |\n|---|---|\n{metrics}\n\nThe best guess that ignores the input "
            f"scores {self.floor:.4f} in `{self.floor_metric}`."
            if metrics
            else "Not evaluated yet."
        )
        return f"""---
library_name: transformers
language: {self.language}
pipeline_tag: {self.pipeline_tag}
tags:
- bertkit
---

# {self.pipeline_tag} model trained with bertkit

{self.parameters:,} parameters; step {state.global_step:,}, {state.tokens_seen:,} tokens seen (padding not counted),
{state.elapsed_seconds / 3600:.2f} hours of training.

## Data

| part | size |
|---|---|
{figures}

## Results

{results}

## Loading

```python
from transformers import {self.auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this-folder", trust_remote_code=True)
model = {self.auto_class}.from_pretrained("this-folder", trust_remote_code=True)  # no flag after `import bertkit.models`
```

## Recipe

```yaml
{self.recipe.rstrip()}
```
"""
