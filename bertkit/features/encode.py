"""A frozen checkpoint turns texts into vectors, without computing padding.

Texts of like length share a batch, laid into rows as long as its longest text; where several texts share a row they are
packed, and none sees another. A vector is pooled over its own text's tokens alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np

from bertkit.features.batches import cut_batches, lay_batch
from bertkit.features.pooling import CONCATENATED, pool
from bertkit.features.settings import FeatureSettings, Layer, Pooling, WordPooling, Words
from bertkit.features.tokens import choose_max_length, tokenize

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from bertkit.models.modeling_scalar_mix import ScalarMix

logger = logging.getLogger(__name__)

_AS_POOLING: dict[WordPooling, Pooling] = {"mean": "mean", "first": "cls", "last": "last"}


def load_encoder(checkpoint: str | Path) -> PreTrainedModel:
    """Load the encoder of a checkpoint in float32, whatever head it was saved with.

    Args:
        checkpoint: folder or Hub name of a bertkit checkpoint, or of a BERT of transformers.

    Returns:
        The model in evaluation mode, without its head unless that has learned how to mix the layers.

    Raises:
        ValueError: there is no checkpoint, or it is of an architecture that does not pack.
    """
    from bertkit.hub.checkpoints import checkpoint_folder, load_checkpoint, saved_auto_class

    folder = checkpoint_folder(str(checkpoint))
    # In the class it was saved as, so that no weight is left over or missing.
    model = load_checkpoint(folder, saved_auto_class(folder) or "AutoModel")
    return cast("PreTrainedModel", (model if hasattr(model, "scalar_mix") else model.base_model).float())


def load_encoder_tokenizer(checkpoint: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint, also the one of an ELMo that spells its words.

    Args:
        checkpoint: folder or Hub name of the checkpoint.

    Raises:
        ValueError: there is none, or it is neither fast nor spells words.
    """
    import bertkit.models  # noqa: F401 (a tokenizer beside a model of bertkit loads without a question once it is known)
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.tokenization import load_any_tokenizer

    return load_any_tokenizer(checkpoint_folder(str(checkpoint)))


class Vectors(NamedTuple):
    """Vectors of texts, or of their words or tokens, in the order of the texts."""

    vectors: np.ndarray
    """(vectors, features) float32."""
    offsets: np.ndarray
    """(texts + 1,) int64: those of text i are `vectors[offsets[i] : offsets[i + 1]]`."""
    words: list[list[str]] | None
    """What each vector of each text is of; None where it is of the text."""


class FeatureExtractor:
    """A model and a tokenizer that turn texts into vectors, in as many calls as there are texts to give.

    Args:
        model: a model of a bertkit family, with or without a head; it computes where it is, without dropout.
        tokenizer: the model's, a fast one or that of an ELMo that spells its words.
        settings: what a vector is.
        pairs: whether texts come in pairs.

    Raises:
        ValueError: an architecture that does not pack, a setting out of range, or a tokenizer that is not the model's.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: FeatureSettings | None = None,
        *,
        pairs: bool = False,
    ) -> None:
        self.settings = FeatureSettings() if settings is None else settings
        self.num_texts = 0
        """Texts so far."""
        self.num_cut = 0
        """Texts that were cut so far."""
        self.num_without_token = 0
        """Words without a token so far."""
        self._model, self._tokenizer, self._pairs = model, tokenizer, pairs
        _check_fit(model, tokenizer)
        if pairs and self.settings.level == "word":
            raise ValueError("vectors of words come of single texts; leave out the second texts")
        self._max_length = choose_max_length(model, tokenizer, self.settings.max_length, pairs=pairs)
        widths = widths_of_states(model, tokenizer)
        _check_layers(self.settings.layer_list, widths)
        self.layer_widths = [widths[0 if layer == "mix" else layer] for layer in self.settings.layer_list]
        """Numbers of each layer, in the order of the settings; a vector joins them."""
        concatenated = self.settings.level == "text" and self.settings.pooling == "concat"
        self.width = sum(self.layer_widths) * (len(CONCATENATED) if concatenated else 1)
        """Numbers of a vector."""
        self._mix = _layer_mix(model, len(widths))

    def __call__(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str] | None = None,
        *,
        numbers: range | None = None,
        quiet: bool = False,
    ) -> Vectors:
        """Turn texts, or pairs of texts, into vectors.

        Args:
            texts: the texts; an empty one has its special tokens only.
            text_pairs: the second text of each pair.
            numbers: the numbers of the texts, from 0, for messages.
            quiet: no progress bar.

        Raises:
            ValueError: a text without any token, of which a vector is asked for.
        """
        import torch
        from tqdm import tqdm

        if (text_pairs is not None) != self._pairs or (text_pairs is not None and len(text_pairs) != len(texts)):
            raise ValueError(
                f"there are {len(texts)} texts and {len(text_pairs or ())} text_pairs; give each text its second"
            )
        examples = tokenize(
            self._tokenizer,
            texts,
            text_pairs,
            self.settings,
            max_length=self._max_length,
            numbers=range(len(texts)) if numbers is None else numbers,
            quiet=quiet,
        )
        offsets = examples.offsets
        vectors = np.empty((offsets[-1], self.width), dtype=np.float32)
        with_tokens = np.flatnonzero(examples.lengths)
        start, done = time.monotonic(), 0
        # The bar counts tokens: batches come longest texts first, so that texts would not tell the time left.
        with (
            _frozen(self._model),
            tqdm(total=len(examples.token_ids), desc="Encoding", unit=" tokens", unit_scale=True, disable=quiet) as bar,
        ):
            for places in cut_batches(examples.lengths[with_tokens], self.settings.batch_tokens):
                of_batch = with_tokens[places]
                batch = lay_batch(examples, of_batch, pad_token_id=self._tokenizer.pad_token_id or 0)
                states = self._states(batch.inputs)  # (rows * seq, features)
                vector_of = torch.from_numpy(batch.vector_of).to(states.device)
                pooled = pool(states, vector_of, len(batch.vectors), self._pooling)
                vectors[batch.vectors] = pooled.cpu().numpy()
                done += len(of_batch)
                bar.set_postfix_str(f"{done / (time.monotonic() - start):,.0f} texts/s", refresh=False)
                bar.update(int(examples.lengths[of_batch].sum()))
        without_token = examples.without_token()
        vectors[without_token] = np.nan
        self.num_texts += len(texts)
        self.num_cut += examples.num_cut
        self.num_without_token += int(without_token.sum())
        return Vectors(vectors, offsets, examples.words)

    def warn_of_losses(self, num_texts: int) -> None:
        """Say how many texts were cut, and how many words have no vector.

        Args:
            num_texts: texts that were given.
        """
        if self.num_cut:
            logger.warning(
                "%s of %s texts were cut to %s tokens", f"{self.num_cut:,}", f"{num_texts:,}", self._max_length
            )
        if self.num_without_token:
            logger.warning(
                "%s words have no token (they were cut off, or the tokenizer drops them); their vectors are NaN",
                f"{self.num_without_token:,}",
            )

    @property
    def _pooling(self) -> Pooling:
        return self.settings.pooling if self.settings.level == "text" else _AS_POOLING[self.settings.word_pooling]

    def _states(self, inputs: dict[str, np.ndarray]) -> torch.Tensor:
        """Return the states of all positions, (rows * seq, features) float32, the layers joined."""
        import torch

        hidden_states = self._model.base_model(
            **{name: torch.from_numpy(array).to(self._model.device) for name, array in inputs.items()},
            output_hidden_states=True,
            return_dict=True,
        ).hidden_states
        chosen = [
            self._mix(hidden_states) if layer == "mix" else hidden_states[layer] for layer in self.settings.layer_list
        ]
        return torch.cat(chosen, dim=-1).flatten(0, 1).float()


def extract_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    text_pairs: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    layers: Layer | Sequence[Layer] = -1,
    max_length: int | None = None,
    batch_tokens: int = 4096,
    quiet: bool = False,
) -> np.ndarray:
    """Turn every text, or pair of texts, into a vector.

    What a vector is depends neither on the other texts nor on `batch_tokens`, beyond rounding. Texts longer than
    `max_length` are cut, and a warning says how many.

    Args:
        model: a model of a bertkit family, with or without a head; it computes where it is, without dropout.
        tokenizer: the model's, a fast one or that of an ELMo that spells its words.
        texts: the texts; an empty one has its special tokens only.
        text_pairs: the second text of each pair.
        pooling: see `FeatureSettings.pooling`.
        layers: see `FeatureSettings.layers`.
        max_length: longest text (or pair) in tokens, special tokens included; by default what model and tokenizer take.
        batch_tokens: tokens computed at a time, at most; one text may be longer. It decides on memory and speed only.
        quiet: no progress bar.

    Returns:
        (texts, features) float32, in the order of the texts; features are the layers' widths together, and three times as
        many where pooling is "concat".

    Raises:
        ValueError: an architecture that does not pack, an argument out of range, a tokenizer that is not the model's,
            or a text without any token.
    """
    settings = FeatureSettings(pooling=pooling, layers=layers, max_length=max_length, batch_tokens=batch_tokens)
    extractor = FeatureExtractor(model, tokenizer, settings, pairs=text_pairs is not None)
    vectors = extractor(texts, text_pairs, quiet=quiet).vectors
    extractor.warn_of_losses(len(texts))
    return vectors


def extract_word_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    level: Literal["word", "token"] = "word",
    word_pooling: WordPooling = "mean",
    words: Words = "tokenizer",
    layers: Layer | Sequence[Layer] = -1,
    max_length: int | None = None,
    batch_tokens: int = 4096,
    quiet: bool = False,
) -> Vectors:
    """Turn every word, or every token, of every text into a vector, computed in its text.

    A word without a token, which was cut off or is dropped by the tokenizer, has a vector of NaN where words are given
    (`words="spaces"`), so that vectors and words stay aligned; a warning says how many. Else there is no such word.

    Args:
        model: see `extract_features`.
        tokenizer: see `extract_features`.
        texts: the texts.
        level: what gets a vector.
        word_pooling: see `FeatureSettings.word_pooling`.
        words: see `FeatureSettings.words`.
        layers: see `FeatureSettings.layers`.
        max_length: see `extract_features`.
        batch_tokens: see `extract_features`.
        quiet: no progress bar.

    Returns:
        The vectors (all words, features), where those of each text begin, and the words.

    Raises:
        ValueError: see `extract_features`.
    """
    settings = FeatureSettings(
        level=level,
        word_pooling=word_pooling,
        words=words,
        layers=layers,
        max_length=max_length,
        batch_tokens=batch_tokens,
    )
    extractor = FeatureExtractor(model, tokenizer, settings)
    vectors = extractor(texts, quiet=quiet)
    extractor.warn_of_losses(len(texts))
    return vectors


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Compute without dropout and without gradients, and leave the model as it was."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _layer_mix(model: PreTrainedModel, num_layers: int) -> ScalarMix:
    from bertkit.models.modeling_scalar_mix import ScalarMix

    return cast("ScalarMix", getattr(model, "scalar_mix", ScalarMix(num_layers).to(model.device)))


def _check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    from bertkit.models import FAMILIES, family_of
    from bertkit.tokenization import spells_words

    if family_of(model.config) is None:
        raise ValueError(
            f"{type(model).__name__} does not take packed rows; give a model of bertkit ({', '.join(FAMILIES)}), or load "
            "a BERT of transformers by load_encoder"
        )
    if model.config.is_encoder_decoder:
        raise ValueError(f"{type(model).__name__} translates and has no features; give a model that reads one text")
    if not tokenizer.is_fast and not spells_words(tokenizer):
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer; give one saved with a tokenizer.json")
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens and the model {model.config.vocab_size}; give the tokenizer the "
            "model was trained with"
        )


def widths_of_states(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the width of the embeddings and of each layer, as the model gives them.

    Args:
        model: a model that reads one text.
        tokenizer: the model's.
    """
    import torch

    ids: Any = tokenizer("a")["input_ids"] or [0]
    input_ids = torch.tensor([ids], device=model.device)
    with _frozen(model):
        outputs = model.base_model(input_ids=input_ids, output_hidden_states=True, return_dict=True)
    return [states.shape[-1] for states in outputs.hidden_states]


def _check_layers(layers: Sequence[Layer], widths: Sequence[int]) -> None:
    last = len(widths) - 1
    outside = [layer for layer in layers if isinstance(layer, int) and not -last - 1 <= layer <= last]
    if outside or not layers:
        given = f"layer {outside[0]} is out of range" if outside else "no layer is named"
        raise ValueError(f"{given}; the model has layers 0 (embeddings) to {last}, or from the end -1 to {-last - 1}")
    unknown = [layer for layer in layers if isinstance(layer, str) and layer != "mix"]
    if unknown:
        raise ValueError(f"unknown layer {unknown[0]!r}; give numbers, or mix")
    if "mix" in layers and len(set(widths)) > 1:
        raise ValueError(
            f"layers as wide as {', '.join(map(str, widths))} cannot be mixed; name layers, which are joined"
        )
