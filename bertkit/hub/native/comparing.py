"""How far apart two models are that shall compute the same, measured on a padded batch."""

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

TOLERANCE = 1e-5
_STATES = ("last_hidden_state", "encoder_last_hidden_state")
_A_TOKEN_EACH = ("last_hidden_state", "logits", "prediction_logits", "start_logits", "end_logits")
_AN_EXAMPLE_EACH = ("pooler_output", "seq_relationship_logits")
_HEADS_OF_EXAMPLES = (  # their logits are of an example each
    "AutoModelForSequenceClassification",
    "AutoModelForNextSentencePrediction",
    "AutoModelForMultipleChoice",
)
_CHOICES = 3


def is_of_example(name: str, auto_class: str) -> bool:
    """Tell whether an output has something for each example, and not for each token.

    Args:
        name: of the output, as "logits".
        auto_class: which head gives it.
    """
    return name in _AN_EXAMPLE_EACH or (name == "logits" and auto_class in _HEADS_OF_EXAMPLES)


def padded_batch(
    config: PreTrainedConfig, auto_class: str, *, rows: int = 6, longest: int = 24, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Make rows of several lengths, padded on the right, of token ids that are drawn from all but padding.

    Args:
        config: of a family of bertkit.
        auto_class: which head the batch is for.
        rows: how many; for multiple choice a multiple of 3, the choices of a question.
        longest: length of the longest, if the model takes so much.
        seed: of the token ids.

    Returns:
        input_ids and attention_mask (rows, seq), or (rows / 3, 3, seq) for multiple choice; token_type_ids for a family with
        segments; decoder_input_ids (rows, another seq) for an encoder-decoder.
    """
    generator = torch.Generator().manual_seed(seed)
    width = max(1, min(longest, getattr(config, "max_position_embeddings", longest)))
    lengths = torch.tensor([max(1, width * part // rows) for part in range(rows, 0, -1)])
    mask = (torch.arange(width) < lengths[:, None]).long()
    usable = torch.tensor([token_id for token_id in range(config.vocab_size) if token_id != config.pad_token_id] or [0])
    padding = config.pad_token_id or 0

    def drawn(columns: int) -> torch.Tensor:
        return usable[torch.randint(len(usable), (rows, columns), generator=generator)]

    batch = {"input_ids": drawn(width).where(mask.bool(), padding), "attention_mask": mask}
    if hasattr(config, "type_vocab_size"):
        segments = torch.randint(config.type_vocab_size, mask.shape, generator=generator)
        batch["token_type_ids"] = segments * mask
    if config.is_encoder_decoder:
        batch["decoder_input_ids"] = drawn(max(1, width - 1))
    if auto_class == "AutoModelForMultipleChoice":
        batch = {name: part.view(-1, _CHOICES, width) for name, part in batch.items()}
    return batch


@torch.no_grad()
def largest_difference(
    ours: PreTrainedModel,
    native: PreTrainedModel,
    batch: dict[str, torch.Tensor],
    channels: torch.Tensor,
    auto_class: str,
    *,
    with_pooler: bool = True,
) -> float:
    """Compare all that two models return for a batch, at padding excepted.

    Args:
        ours: a model of bertkit in evaluation mode.
        native: one of transformers.
        batch: as `padded_batch` makes it.
        channels: (hidden,) for each channel of our states its number in the native ones.
        auto_class: which head they have.
        with_pooler: compare what the pooler makes, too; False where a base model's is fresh on both sides.

    Raises:
        ValueError: they return nothing that both have.
    """
    outputs: list[Any] = [model(**batch, return_dict=True) for model in (ours, native)]
    real = batch["attention_mask"].bool()
    of_target = torch.ones_like(batch["decoder_input_ids"], dtype=torch.bool) if "decoder_input_ids" in batch else real
    largest = torch.zeros((), dtype=torch.float64)
    compared = 0
    for name in (*_A_TOKEN_EACH, *_AN_EXAMPLE_EACH, "encoder_last_hidden_state"):
        first, second = (output.get(name) for output in outputs)
        if first is None or second is None or (name == "pooler_output" and not with_pooler):
            continue
        if name in _STATES:
            second = second[..., channels]
        difference = (first - second).abs()
        at_tokens = real if name.startswith("encoder") else of_target
        if not is_of_example(name, auto_class):
            difference = difference[at_tokens]
        largest = torch.maximum(largest, difference.max().double())  # not a number, if that is among them
        compared += 1
    if not compared:
        raise ValueError(
            f"{type(ours).__name__} and {type(native).__name__} return nothing that could be compared; export another head"
        )
    return float(largest)


def differences(
    ours: PreTrainedModel,
    native: PreTrainedModel,
    auto_class: str,
    channels: torch.Tensor,
    *,
    with_pooler: bool = True,
) -> dict[str, float]:
    """Compare two models in single and in double precision, in which they then are.

    Rounding, of which large outputs have more, is in the first only: the second tells whether they compute the same.

    Args:
        ours: a model of bertkit in evaluation mode, in single precision.
        native: one of transformers.
        auto_class: which head they have.
        channels: as in `largest_difference`; so is with_pooler.

    Returns:
        Precision -> the largest difference.

    Raises:
        ValueError: they do not compute the same.
    """
    batch = padded_batch(ours.config, auto_class)
    single = largest_difference(ours, native, batch, channels, auto_class, with_pooler=with_pooler)
    double = largest_difference(ours.double(), native.double(), batch, channels, auto_class, with_pooler=with_pooler)
    if not double <= TOLERANCE:
        raise ValueError(
            f"{type(ours).__name__} and {type(native).__name__} differ by up to {double:.1e} on a padded batch, and "
            f"{TOLERANCE:.0e} is allowed; nothing is kept"
        )
    return {"single": single, "double": double}
