"""Features: a frozen checkpoint turns texts into vectors."""

from bertkit.features.encode import Pooling, cut_batches, extract_features, load_encoder, pool
from bertkit.features.files import OUTPUT_FORMS, output_form, save_features
from bertkit.features.texts import INPUT_FORMS, read_texts

__all__ = [
    "INPUT_FORMS",
    "OUTPUT_FORMS",
    "Pooling",
    "cut_batches",
    "extract_features",
    "load_encoder",
    "output_form",
    "pool",
    "read_texts",
    "save_features",
]
