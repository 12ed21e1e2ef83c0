"""bertkit: pretrain, fine-tune and ship language models as Hugging Face checkpoints from the first save.

The names below are the library's public face. Each is imported when it is first asked for, so `import bertkit` is free.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertkit.data.arguments import DataArguments as DataArguments
    from bertkit.data.arguments import PairDataArguments as PairDataArguments
    from bertkit.data.documents import load_documents as load_documents
    from bertkit.data.splits import build_stores as build_stores
    from bertkit.data.token_store import TokenStore as TokenStore
    from bertkit.embeddings.word_vectors import WordVectors as WordVectors
    from bertkit.features import extract_features as extract_features
    from bertkit.features import extract_word_features as extract_word_features
    from bertkit.features import open_features as open_features
    from bertkit.hub.native.exporting import export_native as export_native
    from bertkit.hub.native.loading import load_native as load_native
    from bertkit.models import FAMILIES as FAMILIES
    from bertkit.models import build_config as build_config
    from bertkit.models import build_model as build_model
    from bertkit.models import load_model as load_model
    from bertkit.objectives import OBJECTIVES as OBJECTIVES
    from bertkit.objectives.batches import ObjectiveBatches as ObjectiveBatches
    from bertkit.objectives.bidirectional import BidirectionalArguments as BidirectionalArguments
    from bertkit.objectives.bidirectional import BidirectionalObjective as BidirectionalObjective
    from bertkit.objectives.causal import CausalArguments as CausalArguments
    from bertkit.objectives.causal import CausalObjective as CausalObjective
    from bertkit.objectives.masked import MaskedArguments as MaskedArguments
    from bertkit.objectives.masked import MaskedObjective as MaskedObjective
    from bertkit.objectives.objective import Objective as Objective
    from bertkit.objectives.seq2seq import Seq2SeqArguments as Seq2SeqArguments
    from bertkit.objectives.seq2seq import Seq2SeqObjective as Seq2SeqObjective
    from bertkit.prediction import Predictor as Predictor
    from bertkit.tasks import TASKS as TASKS
    from bertkit.tokenization import TokenizerArguments as TokenizerArguments
    from bertkit.tokenization import load_tokenizer as load_tokenizer
    from bertkit.tokenization import save_tokenizer as save_tokenizer
    from bertkit.tokenization import train_tokenizer as train_tokenizer
    from bertkit.training.arguments import TrainingArguments as TrainingArguments
    from bertkit.training.trainer import Trainer as Trainer

_HOMES = {
    "BidirectionalArguments": "bertkit.objectives.bidirectional",
    "BidirectionalObjective": "bertkit.objectives.bidirectional",
    "CausalArguments": "bertkit.objectives.causal",
    "CausalObjective": "bertkit.objectives.causal",
    "DataArguments": "bertkit.data.arguments",
    "FAMILIES": "bertkit.models",
    "MaskedArguments": "bertkit.objectives.masked",
    "MaskedObjective": "bertkit.objectives.masked",
    "OBJECTIVES": "bertkit.objectives",
    "Objective": "bertkit.objectives.objective",
    "ObjectiveBatches": "bertkit.objectives.batches",
    "PairDataArguments": "bertkit.data.arguments",
    "Predictor": "bertkit.prediction",
    "Seq2SeqArguments": "bertkit.objectives.seq2seq",
    "Seq2SeqObjective": "bertkit.objectives.seq2seq",
    "TASKS": "bertkit.tasks",
    "TokenStore": "bertkit.data.token_store",
    "TokenizerArguments": "bertkit.tokenization",
    "Trainer": "bertkit.training.trainer",
    "TrainingArguments": "bertkit.training.arguments",
    "WordVectors": "bertkit.embeddings.word_vectors",
    "build_config": "bertkit.models",
    "build_model": "bertkit.models",
    "build_stores": "bertkit.data.splits",
    "export_native": "bertkit.hub.native.exporting",
    "extract_features": "bertkit.features",
    "extract_word_features": "bertkit.features",
    "load_documents": "bertkit.data.documents",
    "load_model": "bertkit.models",
    "load_native": "bertkit.hub.native.loading",
    "load_tokenizer": "bertkit.tokenization",
    "open_features": "bertkit.features",
    "save_tokenizer": "bertkit.tokenization",
    "train_tokenizer": "bertkit.tokenization",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
