"""How good translations are: BLEU and chrF of what a model generates, by sacrebleu.

Papineni et al. 2002, https://aclanthology.org/P02-1040; Popović 2015, https://aclanthology.org/W15-3049; Post 2018,
https://aclanthology.org/W18-6319, on why the signature belongs to the figure.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from bertkit.evaluation.likelihood import log_probabilities_to_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Translation(NamedTuple):
    """What a model makes of a source."""

    text: str
    log_probability: float
    """Of the whole translation, its end included, as the model gives it; in nats."""


class Score(NamedTuple):
    """A figure of sacrebleu's."""

    name: str
    value: float
    signature: str
    """Everything that decides the figure besides the texts."""


@torch.no_grad()
def translate(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    sources: Sequence[str],
    *,
    num_beams: int = 1,
    max_new_tokens: int = 128,
    batch_size: int = 64,
    max_source_length: int | None = None,
    quiet: bool = False,
) -> list[Translation]:
    """Translate texts, those of about equal length together.

    Args:
        model: an `AutoModelForSeq2SeqLM`, in evaluation mode.
        tokenizer: its tokenizer.
        sources: the texts.
        num_beams: beams of the search; 1 is greedy.
        max_new_tokens: longest translation, if the model has positions for it.
        batch_size: texts translated at once.
        max_source_length: longest source in tokens, special ones included; what is longer is cut. None: not cut.
        quiet: no progress bar.

    Returns:
        The translations, in the order of the sources.
    """
    encoded = tokenizer(
        list(sources), truncation=max_source_length is not None, max_length=max_source_length, padding=False
    )["input_ids"]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        max_new_tokens = min(max_new_tokens, positions - 1)  # one is the token that a translation starts from
    order = np.argsort([-len(ids) for ids in encoded], kind="stable")
    translations: dict[int, Translation] = {}
    for start in tqdm(range(0, len(order), batch_size), desc="translating", unit="batch", disable=quiet):
        numbers = order[start : start + batch_size].tolist()
        batch = tokenizer.pad({"input_ids": [encoded[number] for number in numbers]}, return_tensors="pt")
        source = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        generated = model.generate(**source, num_beams=num_beams, do_sample=False, max_new_tokens=max_new_tokens)
        logits = model(**source, decoder_input_ids=generated[:, :-1]).logits
        log_probabilities = log_probabilities_to_end(logits, generated[:, 1:], model.config.eos_token_id)
        # Marks of punctuation move to their words, as text has them and as sacrebleu expects it.
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True, clean_up_tokenization_spaces=True)
        for number, text, log_probability in zip(numbers, texts, log_probabilities.tolist(), strict=True):
            translations[number] = Translation(text, log_probability)
    return [translations[number] for number in range(len(sources))]


def score_translations(translations: Sequence[str], references: Sequence[str], *, lowercase: bool) -> list[Score]:
    """Compare translations with one reference each.

    Args:
        translations: the texts.
        references: as many, in the same order.
        lowercase: compare without case.

    Returns:
        BLEU and chrF, from 0 to 100, with sacrebleu's signatures.
    """
    from sacrebleu.metrics import BLEU, CHRF

    scores = []
    for metric in (BLEU(lowercase=lowercase), CHRF(lowercase=lowercase)):
        result = metric.corpus_score(list(translations), [list(references)])
        scores.append(Score(result.name, float(result.score), str(metric.get_signature())))
    return scores
