"""Loads checkpoints of bertkit where bertkit is not installed, with transformers alone, and asks each what its head can say.

    python -m venv elsewhere && elsewhere/bin/pip install torch transformers
    elsewhere/bin/python examples/without_bertkit.py CHECKPOINT ...

A checkpoint is a folder, or a name on the Hub, with @ and a revision behind it where one is meant. The flag
`trust_remote_code` is given where the model's code lies beside its weights, and not where transformers has the architecture.
"""

import argparse
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

TEXTS = [
    "the old story of the sea was told by the fire",
    "a film about winter and the road home",
    "nobody in the village knew the river well",
    "the fire was warm and the film was good",
]
AUTO_CLASSES = {  # by what the name of a class says
    r"ForPreTraining$": "AutoModelForPreTraining",
    r"ForMaskedLM$": "AutoModelForMaskedLM",
    r"(ForCausalLM|LMHeadModel)$": "AutoModelForCausalLM",
    r"(ForConditionalGeneration|MTModel)$": "AutoModelForSeq2SeqLM",
    r"ForNextSentencePrediction$": "AutoModelForNextSentencePrediction",
    r"ForSequenceClassification$": "AutoModelForSequenceClassification",
    r"ForTokenClassification$": "AutoModelForTokenClassification",
    r"ForQuestionAnswering$": "AutoModelForQuestionAnswering",
    r"ForMultipleChoice$": "AutoModelForMultipleChoice",
    r"Model$": "AutoModel",
}
PIPELINES = {
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
}


class Listener(logging.Handler):
    """Keeps what transformers warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.heard.append(record.getMessage())


def answer(auto_class: str, model: Any, tokenizer: Any) -> str:
    """Ask a model of the first text, through transformers' pipeline for its head where there is one.

    Args:
        auto_class: the model's head.
        model: in evaluation mode.
        tokenizer: its own.
    """
    text = TEXTS[0]
    encoded = tokenizer(text, return_tensors="pt")
    spells = encoded["input_ids"].dim() > 2  # characters instead of token ids, which the pipeline of tokens cannot read
    if auto_class in PIPELINES and not (spells and auto_class == "AutoModelForTokenClassification"):
        make: Any = transformers.pipeline
        ask = make(PIPELINES[auto_class], model=model, tokenizer=tokenizer)
        if auto_class == "AutoModelForMaskedLM":
            return str(ask(text.replace("story", tokenizer.mask_token))[0]["sequence"])
        if auto_class == "AutoModelForCausalLM":
            return str(ask(text, max_new_tokens=4, do_sample=False)[0]["generated_text"])
        if auto_class == "AutoModelForSequenceClassification":
            return str(ask(text)[0]["label"])
        return " ".join(f"{one['word']}/{one['entity']}" for one in ask(text, ignore_labels=[]))
    if auto_class == "AutoModelForSeq2SeqLM":
        written = model.generate(encoded["input_ids"], max_new_tokens=4, do_sample=False)
        return str(tokenizer.decode(written[0]))
    return "numbers: " + ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs_of(model, encoded).items())


def outputs_of(model: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return what a model says of a batch.

    Args:
        model: in evaluation mode.
        batch: of a tokenizer.
    """
    rows = dict(batch)
    if type(model).__module__.startswith("transformers.models.") and not hasattr(model.config, "type_vocab_size"):
        rows.pop("token_type_ids", None)
    if model.config.is_encoder_decoder:
        rows["decoder_input_ids"] = rows["input_ids"]
    if type(model).__name__.endswith("ForMultipleChoice"):
        rows = {name: values.unflatten(0, (-1, min(2, len(values)))) for name, values in rows.items()}
    with torch.no_grad():
        said = model(**rows)
    return {name: value.contiguous().clone() for name, value in said.items() if torch.is_tensor(value)}


def ask(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Load a checkpoint and ask it.

    Args:
        name: its folder, or its name on the Hub and an @ with a revision.

    Returns:
        What it is and said, and its outputs on all texts.
    """
    path, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    options: dict[str, Any] = {"revision": revision} if revision else {}
    settings, _ = transformers.PreTrainedConfig.get_config_dict(path, **options)
    if "auto_map" in settings:
        options["trust_remote_code"] = True
    class_name = settings["architectures"][0]
    auto_class = next(auto for pattern, auto in AUTO_CLASSES.items() if re.search(pattern, class_name))
    model = getattr(transformers, auto_class).from_pretrained(path, **options).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path, **options)
    tokenizer.padding_side = "right"
    outputs = outputs_of(model, tokenizer(TEXTS, padding=True, return_tensors="pt"))
    about = {
        "class": type(model).__name__,
        "module": type(model).__module__,
        "flag": "trust_remote_code" in options,
        "answer": answer(auto_class, model, tokenizer),
    }
    return about, outputs


def main() -> int:
    """Load and ask all that are named; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="Folders, or names on the Hub.")
    parser.add_argument("--json", type=Path, help="File for what was said, by checkpoint.")
    parser.add_argument("--outputs", type=Path, help="Safetensors file for the numbers, by place and name.")
    arguments = parser.parse_args()
    try:
        import bertkit  # noqa: F401
    except ImportError:
        pass
    else:
        parser.error("bertkit is installed here; run this where it is not")
    transformers.utils.logging.disable_progress_bar()
    listener = Listener()
    logging.getLogger("transformers").addHandler(listener)
    said: dict[str, dict[str, Any]] = {}
    numbers: dict[str, torch.Tensor] = {}
    for place, name in enumerate(arguments.checkpoints):
        listener.heard.clear()
        try:
            about, outputs = ask(name)
        except Exception as error:
            about, outputs = {"error": f"{type(error).__name__}: {error}"}, {}
        said[name] = {"place": place, "warnings": [*listener.heard], **about}
        numbers |= {f"{place} {part}": value for part, value in outputs.items()}
        flag = " with trust_remote_code" if about.get("flag") else ""
        print(f"{name}: {about.get('error') or about['class'] + flag}; {about.get('answer', 'no answer')}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(said), encoding="utf-8")
    if arguments.outputs:
        save_file(numbers, arguments.outputs)
    failed = [name for name, about in said.items() if "error" in about or about["warnings"]]
    for name in failed:
        print(f"{name}: {said[name].get('error') or said[name]['warnings']}", file=sys.stderr)
    print(
        f"{len(said) - len(failed)} of {len(said)} checkpoints loaded and answered without bertkit, and without a warning"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
