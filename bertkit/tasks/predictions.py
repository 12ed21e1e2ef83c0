"""What a model says about labelled examples, as a file: one JSON object a line, in the order of the input."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertkit.tasks.task import Task, TaskEvaluation


def write_predictions(path: Path, task: Task[Any], examples: Sequence[Any], evaluation: TaskEvaluation) -> None:
    """Write what a model says of each example, beside its label; the fields are the task's.

    Args:
        path: the file.
        task: what was asked.
        examples: the examples.
        evaluation: the model's answers to all of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in task.predictions(examples, evaluation):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
