"""What consumers are tried on: checkpoints of each kind of model with each of its heads, inputs, and numbers to compare."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bertkit.hub.checkpoints import saved_auto_class
from bertkit.models import FAMILIES, ElmoCharacterTokenizer, build_config, build_model, load_model
from bertkit.tokenization import TokenizerArguments, load_any_tokenizer, save_tokenizer, train_tokenizer

TEXTS = [
    "the old story of the sea was told by the fire",
    "a film about winter and the road home",
    "nobody in the village knew the river well",
    "the fire was warm and the film was good",
]

# Every field a small model may need; a family takes those it has.
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "embedding_size": 24,
    "cell_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 48,
    "initializer_range": 0.2,  # so large that every part of a fresh model shows in its outputs
}
MAX_CHARACTERS = 20

_OWN_HEADS = ("AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForPreTraining")


@dataclass(frozen=True)
class Kind:
    """A kind of model: a family, with what of its settings makes another model of it."""

    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None
    """A checkpoint to take its weights from; None: a small one with fresh weights."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The Auto classes it has; a vocabulary that is open has no words to predict."""
        heads = tuple(FAMILIES[self.family].auto_classes)
        return tuple(head for head in heads if head not in _OWN_HEADS) if self.spells else heads

    @property
    def own_head(self) -> str:
        """The head it is pretrained with; a base model's where nothing is pretrained."""
        return next((head for head in _OWN_HEADS if head in self.heads), "AutoModel")

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it reads a source and writes a target."""
        return bool(FAMILIES[self.family].config_class().is_encoder_decoder)

    @property
    def spells(self) -> bool:
        """Whether its tokenizer gives characters and no token ids."""
        return self.settings.get("token_input") == "characters"


KINDS: dict[str, Kind] = {
    **{family: Kind(family) for family in FAMILIES},
    "gpt, norms last": Kind("gpt", {"norm_first": False}),
    "elmo, characters": Kind("elmo", {"token_input": "characters"}),
}


class Workbench:
    """A folder of checkpoints that are made when they are first asked for.

    Args:
        root: the folder.
        kinds: what is tried, by name.
        compiler: the backend of torch.compile to try.
    """

    def __init__(self, root: Path, kinds: Mapping[str, Kind], compiler: str = "inductor") -> None:
        self.root, self.kinds, self.compiler = root, dict(kinds), compiler
        self._checkpoints: dict[tuple[str, str, int], Path] = {}
        self._runs: dict[str, Any] = {}

    @cached_property
    def words(self) -> Any:
        """A small WordPiece tokenizer."""
        return train_tokenizer([TEXTS * 3], TokenizerArguments(vocab_size=120, min_frequency=1), quiet=True)

    def name_of(self, kind: Kind) -> str:
        """Return a kind's name as a part of a path."""
        [name] = [name for name, each in self.kinds.items() if each is kind]
        return name.replace(", ", "-").replace(" ", "-")

    def folder(self, name: str) -> Path:
        """Return a new folder."""
        folder = self.root / name
        folder.mkdir(parents=True)
        return folder

    def once(self, name: str, make: Any) -> Any:
        """Return what `make()` returned when it was first called under a name."""
        if name not in self._runs:
            self._runs[name] = make()
        return self._runs[name]

    def checkpoint(self, kind: Kind, head: str, seed: int = 0) -> Path:
        """Return a saved checkpoint with its tokenizer.

        Args:
            kind: of which kind of model.
            head: with which head, by its Auto class.
            seed: of fresh weights.
        """
        key = (self.name_of(kind), head, seed)
        if key not in self._checkpoints:
            folder = self.folder(f"checkpoints/{key[0]}-{head.removeprefix('AutoModel') or 'Base'}-{seed}")
            torch.manual_seed(seed)
            model = self._fresh_model(kind, head) if kind.source is None else _with_head(kind.source, head)
            model.save_pretrained(folder)
            save_tokenizer(self._new_tokenizer(kind), folder)
            self._checkpoints[key] = folder
        return self._checkpoints[key]

    def _new_tokenizer(self, kind: Kind) -> Any:
        if kind.source is not None:
            return load_any_tokenizer(kind.source, require=("pad_token",))
        return ElmoCharacterTokenizer(max_characters=MAX_CHARACTERS) if kind.spells else self.words

    def _fresh_model(self, kind: Kind, head: str) -> Any:
        known = FAMILIES[kind.family].config_class.__annotations__
        tokenizer = self._new_tokenizer(kind)
        if kind.spells:  # its token ids are those of the model's own table: padding, and what begins and ends a text
            special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
            special |= {"max_characters": MAX_CHARACTERS, "character_filters": [[1, 16], [3, 32]]}
        else:
            special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.sep_token_id}
            special |= {"bos_token_id": tokenizer.cls_token_id, "decoder_start_token_id": tokenizer.cls_token_id}
        settings = {name: value for name, value in (SMALL | special).items() if name in known}
        config = build_config(kind.family, **{**settings, "vocab_size": len(tokenizer), **kind.settings})
        return build_model(config, head).eval()

    def model(self, kind: Kind, head: str, **options: Any) -> Any:
        """Load a checkpoint through its Auto class, for evaluation; options are those of `from_pretrained`."""
        return load_model(self.checkpoint(kind, head), head, **options).eval()

    def tokenizer(self, kind: Kind, head: str) -> Any:
        """Load a checkpoint's tokenizer, padding on the right."""
        tokenizer = load_any_tokenizer(self.checkpoint(kind, head))
        tokenizer.padding_side = "right"
        return tokenizer

    def batch(self, kind: Kind, head: str, texts: list[str] | None = None, *, labels: bool = False) -> dict[str, Any]:
        """Return padded texts as the head reads them.

        Args:
            kind: of which kind of model.
            head: by its Auto class.
            texts: what is read; `TEXTS` if not given.
            labels: with labels for its loss.
        """
        rows = dict(self.tokenizer(kind, head)(texts or TEXTS, padding=True, return_tensors="pt"))
        ids, mask = rows["input_ids"], rows["attention_mask"]
        if kind.is_encoder_decoder and not labels:
            rows["decoder_input_ids"] = ids
        if head == "AutoModelForMultipleChoice":
            rows = {name: values.unflatten(0, (2, -1)) for name, values in rows.items()}  # of two questions
        if labels:
            rows |= self._labels(head, ids, mask)
        return rows

    @staticmethod
    def _labels(head: str, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        number = torch.arange(len(ids))
        if head == "AutoModelForSequenceClassification":
            return {"labels": number % 2}
        if head == "AutoModelForTokenClassification":
            return {"labels": (ids % 2).masked_fill(mask == 0, -100)}
        return {"labels": ids.masked_fill(mask == 0, -100)}

    def outputs(self, model: Any, batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return what a model says of a batch, by name, in single precision.

        Args:
            model: in evaluation mode.
            batch: as `batch` returns it.
        """
        with torch.no_grad():
            said = model(**batch)
        return {name: value.float() for name, value in said.items() if torch.is_tensor(value)}


def _with_head(source: Path, head: str) -> Any:
    """Load a checkpoint with a head, fresh where it has no weights of it; then for two labels, as `_labels` are."""
    if head == saved_auto_class(source):
        return load_model(source, head).eval()
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it reports what is fresh, which is no fault of what is tried
    try:
        options = {"num_labels": 2, "problem_type": None, "ignore_mismatched_sizes": True}
        return load_model(source, head, **options).eval()
    finally:
        logger.setLevel(level)


def assert_equal(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Raise unless both have the same tensors, to the bit."""
    assert_close(found, expected, tolerance=0.0)


def assert_close(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], tolerance: float = 1e-5
) -> None:
    """Raise unless both have the same tensors, by name, and no number is further off than the tolerance, nor not finite."""
    assert expected, "nothing to compare"
    assert found.keys() == expected.keys(), f"{sorted(found)} are not {sorted(expected)}"
    for name, tensor in expected.items():
        assert tensor.isfinite().all(), f"{name} is not finite"
        torch.testing.assert_close(found[name], tensor, atol=tolerance, rtol=tolerance, msg=f"{name}: {{}}".format)


def assert_differ(found: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> None:
    """Raise if all tensors are the same: then a comparison with what they should be says nothing."""
    assert any(not torch.allclose(found[name], others[name], atol=1e-4) for name in found), "nothing has changed"


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _is_between_others(warning: warnings.WarningMessage) -> bool:
    """Tell of one library's notice to another that it will soon be another way."""
    return issubclass(warning.category, FutureWarning | DeprecationWarning) and "bertkit" not in warning.filename


@contextmanager
def no_warnings(*but: str) -> Iterator[None]:
    """Raise at the end if transformers, peft or accelerate logged a warning or an error, or Python warned, in between.

    Args:
        *but: beginnings of messages that may come, of the libraries' own models too.

    Raises:
        AssertionError: with all that was said.
    """
    collector, loggers = _Collector(), [logging.getLogger(name) for name in ("transformers", "peft", "accelerate")]
    for logger in loggers:
        logger.addHandler(collector)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(collector)
    warned = [f"{one.category.__name__}: {one.message}" for one in caught if not _is_between_others(one)]
    said = [one for one in (*collector.messages, *warned) if not one.startswith(but)]
    assert not said, "it warned: " + " | ".join(said)
