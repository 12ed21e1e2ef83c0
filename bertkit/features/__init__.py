"""Features: a frozen checkpoint turns texts into vectors."""

from bertkit.features.batches import cut_batches
from bertkit.features.encode import (
    FeatureExtractor,
    Vectors,
    extract_features,
    extract_word_features,
    load_encoder,
    load_encoder_tokenizer,
)
from bertkit.features.files import OUTPUT_FORMS, output_form, save_features
from bertkit.features.folder import Features, open_features
from bertkit.features.pooling import pool
from bertkit.features.settings import FeatureSettings, Layer, Level, Pooling, WordPooling, Words
from bertkit.features.shards import ShardSettings, ShardWriter, checkpoint_digest, examine
from bertkit.features.texts import INPUT_FORMS, read_texts, stream_texts

__all__ = [
    "INPUT_FORMS",
    "OUTPUT_FORMS",
    "FeatureExtractor",
    "FeatureSettings",
    "Features",
    "Layer",
    "Level",
    "Pooling",
    "ShardSettings",
    "ShardWriter",
    "Vectors",
    "WordPooling",
    "Words",
    "checkpoint_digest",
    "cut_batches",
    "examine",
    "extract_features",
    "extract_word_features",
    "load_encoder",
    "load_encoder_tokenizer",
    "open_features",
    "output_form",
    "pool",
    "read_texts",
    "save_features",
    "stream_texts",
]
