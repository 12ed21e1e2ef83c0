"""What may be wrong with labelled examples, said before a step is taken."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertkit.data.health import Finding
from bertkit.tasks.labelled_data import LabelledText

if TYPE_CHECKING:
    from bertkit.tasks.task import Task, TaskBatches


def cheap_checks(
    task: "Task[Any]", parts: Mapping[str, Sequence[Any]], batches: Mapping[str, "TaskBatches"]
) -> list[Finding]:
    """Check what can be told without training.

    Args:
        task: what is learned.
        parts: the examples of each part, "train" among them.
        batches: the same, tokenized.
    """
    cuts = [
        check_lengths(
            f"of the {len(parts[part]):,} {task.unit} of {part}",
            of_part.tokenized.num_truncated,
            len(parts[part]),
            task.arguments.max_length,
            task.if_too_long,
        )
        for part, of_part in batches.items()
    ]
    unknown = check_unknown(batches["train"].tokenized.token_ids, task.reader.unk_token_id)
    return [*task.checks(parts), *cuts, unknown]


def check_labels(parts: Mapping[str, Sequence[LabelledText]]) -> list[Finding]:
    """Look at how often each label occurs, and for labels that are not in the training part."""
    counts = {part: Counter(example.label for example in examples) for part, examples in parts.items()}
    train = counts["train"]
    shown = ", ".join(f"{label} {count:,}" for label, count in train.most_common(10)) + (
        ", ..." if len(train) > 10 else ""
    )
    findings = [Finding("ok", "labels", f"{len(train)}: {shown}")]
    if len(train) < 2:
        findings = [Finding("stop", "labels", f"one only: {shown}", "there is nothing to tell apart")]
    elif len(train) > 0.5 * sum(train.values()):
        findings = [
            Finding(
                "warning", "labels", f"{len(train):,} for {sum(train.values()):,} texts", "is data.label_column right?"
            )
        ]
    elif min(train.values()) < 5:
        rare = [label for label, count in train.items() if count < 5]
        what = f"{len(rare)} have fewer than 5 training texts, as {rare[0]!r}"
        findings.append(Finding("warning", "labels", what, "give more texts, or join labels"))
    for part, of_part in counts.items():
        if unseen := sorted(set(of_part) - set(train)):
            what = f"{part} has {len(unseen)} that training has not, as {unseen[0]!r}"
            findings.append(Finding("stop", "labels", what, "correct them, or add training texts that bear them"))
    return findings


def check_texts(parts: Mapping[str, Sequence[LabelledText]]) -> list[Finding]:
    """Look for empty texts, texts with several labels, and training texts that are evaluated on."""
    findings = []
    empty = sum(not example.text for examples in parts.values() for example in examples)
    if empty:
        findings.append(Finding("warning", "texts", f"{empty:,} are empty", "is data.text_column right?"))
    labels: dict[tuple[str, str | None], set[str]] = {}
    for example in parts["train"]:
        labels.setdefault((example.text, example.text_pair), set()).add(example.label)
    several = [text for (text, _), given in labels.items() if len(given) > 1]
    if several:
        what = f"{len(several):,} stand in training with different labels, as {several[0][:40]!r}"
        findings.append(Finding("warning", "texts", what, "no model can be right about all of them"))
    repeated = len(parts["train"]) - len(labels)
    if repeated > 0.01 * len(parts["train"]):
        findings.append(Finding("warning", "texts", f"{repeated:,} of training are repeated", "leave repetitions out"))
    for part, examples in parts.items():
        known = sum((example.text, example.text_pair) in labels for example in examples)
        if part != "train" and known > 0.01 * len(examples):
            what = f"{known:,} of the {len(examples):,} of {part} stand in training too"
            findings.append(Finding("warning", "texts", what, "take them out of one: the figures will flatter"))
    return findings or [Finding("ok", "texts", "none empty, contradictory or in two parts")]


def check_lengths(of_all: str, num_longer: int, num_examples: int, max_length: int, if_too_long: str) -> Finding:
    """Look at how many examples do not fit whole.

    Args:
        of_all: the examples, as "of the 5 texts of train".
        num_longer: how many of them have more tokens than fit.
        num_examples: how many there are.
        max_length: how many tokens fit.
        if_too_long: what becomes of those that have more.
    """
    what = f"{num_longer:,} {of_all} are longer than {max_length} tokens and {if_too_long}"
    if num_longer > 0.05 * num_examples:
        return Finding("warning", "length", what, "raise task.max_length")
    return Finding("ok", "length", what)


def check_unknown(token_ids: np.ndarray, unk_token_id: int | None) -> Finding:
    """Look at the share of tokens that the tokenizer does not know."""
    share = float((token_ids == unk_token_id).mean()) if unk_token_id is not None else 0.0
    what = f"{100 * share:.2f} % of the tokens"
    if share >= 0.5:
        return Finding(
            "stop", "unknown", what, "the checkpoint's tokenizer cannot read this text: take another checkpoint"
        )
    if share >= 0.03:
        return Finding("warning", "unknown", what, "the checkpoint has read other text")
    return Finding("ok", "unknown", what)
