"""What `bertkit evaluate` can measure of a checkpoint or of a file of vectors, and of which."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertkit.config import ConfigError
from bertkit.objectives import OBJECTIVES
from bertkit.objectives.perplexity import perplexity
from bertkit.stages.evaluating.evaluated import FINE_TUNED, TOKENIZER, Evaluated
from bertkit.stages.evaluating.positions import positions_of, refuse_too_long
from bertkit.stages.evaluating.task_evaluation import task_metrics

if TYPE_CHECKING:
    import numpy as np

    from bertkit.data.token_store import TokenStore
    from bertkit.evaluation.likelihood import TokenIds

HAVING_VECTORS = ("static", "vectors", "encoder", FINE_TUNED, *OBJECTIVES)
"""Kinds that words have vectors in: all networks."""


@dataclass(frozen=True)
class Measure:
    """Something to measure."""

    kinds: tuple[str, ...]
    """Of which checkpoints. What comes first in the table is measured where nothing else is asked for."""
    does: str
    """For the help."""
    takes: tuple[str, ...]
    """Options of the command line, but for those that say how text is read, that say something to it."""
    shares: bool
    """Several processes share the work; else it is for one."""
    run: Callable[[Evaluated], list[str]]
    """Measures, and returns the lines to print."""
    reads_data: bool = True
    """The `data` section says how INPUT is read; else it has a form of its own."""


def _loss(evaluated: Evaluated) -> list[str]:
    from bertkit.data.health import offers_pairs
    from bertkit.objectives.batches import ObjectiveBatches
    from bertkit.training.evaluation import evaluate_batches

    options = evaluated.options
    objective_class = OBJECTIVES[evaluated.kind]
    store = evaluated.store(objective_class.data_class)
    settings = evaluated.settings(objective_class.arguments_class, "objective")
    if evaluated.kind == "masked":
        settings["next_sentence"] = evaluated.auto_class == "AutoModelForPreTraining" and offers_pairs(store)
    if options.max_length is not None and "block_size" in [f.name for f in fields(objective_class.arguments_class)]:
        settings["block_size"] = options.max_length
    objective = objective_class(objective_class.arguments_class(**settings), evaluated.tokenizer)
    model = evaluated.model(objective.auto_class)
    if objective.max_positions is not None:
        refuse_too_long(objective.max_positions, model)
    batches = ObjectiveBatches(objective, store, batch_size=options.batch_size, training=False)
    metrics = evaluate_batches(
        model, batches, evaluated.accelerator, batch_size=options.batch_size, quiet=options.quiet
    )
    bounded = objective.loss_terms[0]
    shown = {**metrics, **_perplexities_per_word(metrics, store), f"unigram floor of the {bounded}": batches.loss_floor}
    if evaluated.kind == "masked":
        shown["perplexity of masked tokens"] = perplexity(metrics[bounded])
    words = _describe(store, options.input)
    if evaluated.kind == "masked" and evaluated.auto_class != objective.auto_class:
        words += "; next sentences are not evaluated, which takes several documents of several sentences"
    return [words, *_table(shown)]


def _likelihood(evaluated: Evaluated) -> list[str]:
    from bertkit.data.arguments import DataArguments
    from bertkit.evaluation.likelihood import causal_likelihoods
    from bertkit.objectives.special_tokens import ends_of_text

    options = evaluated.options
    store = evaluated.store(DataArguments)
    model = evaluated.model(evaluated.auto_class)
    context = _context(evaluated, model)
    if context is None and options.stride is not None:
        raise ConfigError("--stride says nothing to a model that reads from end to end; leave it out")
    bos_token_id, eos_token_id = ends_of_text(evaluated.tokenizer, "causal")
    scores = causal_likelihoods(
        model,
        _documents(store),
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        context=context,
        stride=options.stride,
        quiet=evaluated.quiet,
    )
    read = "from end to end" if context is None else f"windows of {context}, stride {options.stride or context // 2}"
    return [f"{_describe(store, options.input)}; {read}", *_table(_per_unit(-scores.nats.sum(), scores.tokens, store))]


def _ngram(evaluated: Evaluated) -> list[str]:
    from bertkit.data.arguments import DataArguments
    from bertkit.evaluation.ngram import MAX_ORDER, NgramModel
    from bertkit.objectives.special_tokens import ends_of_text

    options = evaluated.options
    if options.ngram_train is None:
        raise ConfigError("the measure ngram counts in a text that it learns from; name it by --ngram_train")
    if options.ngram_order > MAX_ORDER:
        raise ConfigError(f"--ngram_order is {options.ngram_order}; it must be at most {MAX_ORDER}")
    _, eos_token_id = ends_of_text(evaluated.tokenizer, "causal")
    store = evaluated.store(DataArguments)
    train = evaluated.store(DataArguments, options.ngram_train)
    model = NgramModel(
        _documents(train),
        order=options.ngram_order,
        vocab_size=len(evaluated.tokenizer),
        eos_token_id=eos_token_id,
    )
    scores = model.likelihoods(_documents(store))
    learned = f"n-grams of up to {options.ngram_order} tokens from {_describe(train, options.ngram_train)}"
    return [
        f"{_describe(store, options.input)}; {learned}",
        *_table(_per_unit(-scores.nats.sum(), scores.tokens, store)),
    ]


def _pseudo_likelihood(evaluated: Evaluated) -> list[str]:
    from bertkit.data.arguments import DataArguments

    options = evaluated.options
    store = evaluated.store(DataArguments)
    model = evaluated.model("AutoModelForMaskedLM")
    longest = (_context(evaluated, model) or 0) - 2  # [CLS] and [SEP]
    if longest < 1:
        raise ConfigError(f"--max_length is {longest + 2}; a text needs at least 3 tokens, two of them special")
    texts = [
        document[start : start + longest]
        for document in _documents(store)
        for start in range(0, len(document), longest)
    ]
    scores = _score_masked(evaluated, model, texts)
    shown = {f"pseudo-{name}": value for name, value in _per_unit(-scores.nats.sum(), scores.tokens, store).items()}
    described = f"{_describe(store, options.input)}; texts of at most {longest} tokens, every token masked in turn"
    return [described, *_table(shown)]


def _minimal_pairs(evaluated: Evaluated) -> list[str]:
    from bertkit.evaluation.minimal_pairs import compare_pairs, read_pairs

    model = evaluated.model("AutoModelForMaskedLM" if evaluated.kind == "masked" else evaluated.auto_class)
    pairs = read_pairs(evaluated.options.input)
    longest = _context(evaluated, model)

    def score(texts: list[str]) -> "np.ndarray":
        token_ids = evaluated.tokenizer(texts, add_special_tokens=False)["input_ids"]
        for text, ids in zip(texts, token_ids, strict=True):
            if longest is not None and len(ids) + 2 > longest:
                raise ConfigError(
                    f"a sentence of {len(ids)} tokens does not fit a model of {longest} positions: {text[:60]!r}…"
                )
        return _SCORES[evaluated.kind](evaluated, model, token_ids).nats

    results = compare_pairs(pairs, score)
    width = max(len(result.name) for result in results)
    lines = [f"{'':<{width}}  accuracy   pairs    ties"]
    for result in results:
        lines.append(f"{result.name:<{width}}  {result.accuracy:>8.4f}{result.pairs:>8,}{result.ties:>8,}")
    mean = sum(result.accuracy for result in results) / len(results)
    total, ties = len(pairs), sum(result.ties for result in results)
    return [*lines, f"{'mean of the paradigms':<{width}}  {mean:>8.4f}{total:>8,}{ties:>8,}"]


def _gradient_reach(evaluated: Evaluated) -> list[str]:
    import numpy as np

    from bertkit.data.arguments import DataArguments
    from bertkit.evaluation.gradient_reach import gradient_reach

    store = evaluated.store(DataArguments)
    model = evaluated.model(evaluated.auto_class)
    length = _context(evaluated, model) or 128
    norms = gradient_reach(model, _documents(store), length=length, quiet=evaluated.quiet)
    reaches = [typical(norms, axis=0) for typical in (np.median, np.mean)]
    distances = [2**power for power in range(length.bit_length()) if 2**power <= length]
    lines = [f"{_describe(store, evaluated.options.input)}; windows of {length}", "distance    median      mean"]
    for distance in distances:
        relative = (f"{reach[distance - 1] / reach[0]:>10.1e}" for reach in reaches)
        lines.append(f"{distance:>8}{''.join(relative)}")
    return lines


def _translation(evaluated: Evaluated) -> list[str]:
    from bertkit.data.pairs import read_pairs
    from bertkit.evaluation.translation import score_translations, translate

    options, objective_class = evaluated.options, OBJECTIVES["seq2seq"]
    data = evaluated.data(objective_class.data_class)
    pairs = read_pairs(data.train, data.train_target, data)
    translated = translate(
        evaluated.model(evaluated.auto_class),
        evaluated.tokenizer,
        [source for source, _ in pairs],
        num_beams=options.num_beams,
        batch_size=options.batch_size,
        max_source_length=options.max_length,
        quiet=evaluated.quiet,
    )
    translations = [translation.text for translation in translated]
    scores = score_translations(translations, [target for _, target in pairs], lowercase=options.lowercase)
    lines = [f"{len(pairs):,} pairs of {options.input}; beams: {options.num_beams}"]
    lines += [f"{score.name:<8}{score.value:>8.2f}   {score.signature}" for score in scores]
    if options.output is not None and evaluated.accelerator.is_main_process:
        path = Path(options.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{translation}\n" for translation in translations), encoding="utf-8")
        lines.append(f"translations: {path}")
    return lines


def _word_similarity(evaluated: Evaluated) -> list[str]:
    from bertkit.evaluation.word_similarity import read_scored_pairs, word_similarity
    from bertkit.stages.vector_sources import load_vectors

    source = evaluated.options.input
    pairs = read_scored_pairs(source)
    vectors = load_vectors(str(evaluated.folder))
    found = word_similarity(pairs, vectors.row_of, vectors.normalised())
    return [
        f"{found.pairs:,} pairs of {source}; {len(vectors):,} vectors of {vectors.width} numbers",
        f"{found.covered:,} pairs are covered, {found.covered / found.pairs:.1%}",
        *_table({"Spearman's correlation": found.spearman}),
    ]


def _analogies(evaluated: Evaluated) -> list[str]:
    from bertkit.evaluation.analogies import Section, answer_analogies, read_questions
    from bertkit.stages.vector_sources import load_vectors

    source = evaluated.options.input
    questions = read_questions(source)
    vectors = load_vectors(str(evaluated.folder))
    sections = answer_analogies(questions, vectors.row_of, vectors.normalised())
    total = Section(
        "all",
        sum(section.right for section in sections),
        sum(section.covered for section in sections),
        sum(section.questions for section in sections),
    )
    width = max(len(section.name) for section in (*sections, total))
    return [
        f"{total.questions:,} questions of {source}; {len(vectors):,} vectors of {vectors.width} numbers",
        f"{'':<{width}}  accuracy  covered  questions",
        *(
            f"{section.name:<{width}}  {section.accuracy:>8.4f}{section.covered:>9,}{section.questions:>11,}"
            for section in (*sections, total)
        ),
    ]


def _score_causal(evaluated: Evaluated, model: Any, texts: "Sequence[TokenIds]") -> Any:
    from bertkit.evaluation.likelihood import causal_likelihoods
    from bertkit.objectives.special_tokens import ends_of_text

    bos_token_id, eos_token_id = ends_of_text(evaluated.tokenizer, "causal")
    return causal_likelihoods(
        model,
        texts,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
        context=_context(evaluated, model),
        quiet=evaluated.quiet,
    )


def _score_bidirectional(evaluated: Evaluated, model: Any, texts: "Sequence[TokenIds]") -> Any:
    from bertkit.evaluation.likelihood import bidirectional_likelihoods
    from bertkit.objectives.special_tokens import ends_of_text

    bos_token_id, eos_token_id = ends_of_text(evaluated.tokenizer, "bidirectional")
    return bidirectional_likelihoods(
        model, texts, bos_token_id=bos_token_id, eos_token_id=eos_token_id, quiet=evaluated.quiet
    )


def _score_masked(evaluated: Evaluated, model: Any, texts: "Sequence[TokenIds]") -> Any:
    from bertkit.evaluation.likelihood import pseudo_likelihoods
    from bertkit.tokenization import is_continuation

    tokenizer = evaluated.tokenizer
    return pseudo_likelihoods(
        model,
        texts,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        mask_token_id=tokenizer.mask_token_id,
        is_continuation=is_continuation(tokenizer),
        quiet=evaluated.quiet,
    )


_SCORES: Mapping[str, Callable[..., Any]] = {
    "causal": _score_causal,
    "bidirectional": _score_bidirectional,
    "masked": _score_masked,
}

MEASURES = {
    "labels": Measure(
        (FINE_TUNED,),
        "the task's metrics on labelled examples",
        ("output", "max_length", "batch_size"),
        True,
        task_metrics,
    ),
    "likelihood": Measure(
        ("causal",), "perplexity and bits per byte of running text", ("max_length", "stride"), False, _likelihood
    ),
    "loss": Measure(
        (*OBJECTIVES,), "the losses of pretraining, on other text", ("max_length", "target", "batch_size"), True, _loss
    ),
    "pseudo_likelihood": Measure(
        ("masked",),
        "likelihood of running text with every token masked in turn",
        ("max_length",),
        False,
        _pseudo_likelihood,
    ),
    "ngram": Measure(
        (TOKENIZER, "causal", "bidirectional", "masked"),
        "the same four as likelihood, of n-grams (modified Kneser-Ney) that are counted in --ngram_train: the floor of a model",
        ("ngram_train", "ngram_order"),
        False,
        _ngram,
    ),
    "minimal_pairs": Measure(
        (*_SCORES,),
        "how often the acceptable sentence of a pair is likelier (BLiMP's jsonl)",
        (),
        False,
        _minimal_pairs,
        reads_data=False,
    ),
    "gradient_reach": Measure(
        ("causal",),
        "how much the tokens before a prediction can change it, by their distance",
        ("max_length",),
        False,
        _gradient_reach,
    ),
    "translation": Measure(
        ("seq2seq",),
        "BLEU and chrF of what the model makes of the sources",
        ("output", "max_length", "num_beams", "lowercase", "target", "batch_size"),
        False,
        _translation,
    ),
    "word_similarity": Measure(
        HAVING_VECTORS,
        "Spearman's correlation of the cosines of words with people's scores (lines word, word, score), by the vectors of a "
        "file or the input embeddings of a checkpoint",
        (),
        False,
        _word_similarity,
        reads_data=False,
    ),
    "analogies": Measure(
        HAVING_VECTORS,
        "how often b - a + c is nearest to d, by section (the form of questions-words.txt), of the same vectors",
        (),
        False,
        _analogies,
        reads_data=False,
    ),
}


def _documents(store: "TokenStore") -> "list[np.ndarray]":
    """Return the token ids of every document, memory-mapped."""
    starts = store.document_starts
    return [store.token_ids[start:end] for start, end in pairwise(starts)]


def _per_unit(nats: float, tokens: "np.ndarray", store: "TokenStore") -> dict[str, float]:
    """Return the loss of a text by its units; ends of documents count as tokens and words."""
    sizes = store.metadata
    return {
        "loss per token": nats / tokens.sum(),
        "perplexity per token": perplexity(nats / tokens.sum()),
        "perplexity per word": perplexity(nats / (sizes.num_words + sizes.num_documents)),
        "bits per byte": nats / math.log(2) / sizes.num_normalised_bytes,
    }


def _perplexities_per_word(metrics: Mapping[str, float], store: "TokenStore") -> dict[str, float]:
    """Return for every metric in bits per byte the perplexity per word, in which ends of documents count as words."""
    sizes = store.metadata
    bits = (
        math.log(2) * sizes.num_normalised_bytes / (sizes.num_words + sizes.num_documents)
    )  # nats a word in one a byte
    return {
        name.replace("bits_per_byte", "perplexity_per_word"): perplexity(value * bits)
        for name, value in metrics.items()
        if name.endswith("bits_per_byte")
    }


def _context(evaluated: Evaluated, model: Any) -> int | None:
    """Return how many tokens the model reads at once; None if it has no bound and the command line gives none.

    By default those of a row in training, for a model may have positions that it never saw.
    """
    asked = evaluated.options.max_length
    if asked is not None:
        refuse_too_long(asked, model)
        return asked
    positions, trained = positions_of(model), evaluated.recipe().get("objective", {}).get("block_size")
    return positions if positions is None or trained is None else min(positions, trained)


def _describe(store: "TokenStore", source: str) -> str:
    return f"{store.metadata.num_words:,} words, {store.metadata.num_tokens:,} tokens of {source}"


def _table(shown: Mapping[str, float]) -> list[str]:
    width = max(28, *(len(name) for name in shown))
    return [f"{name.replace('_', ' '):<{width}}{value:>12.4f}" for name, value in shown.items()]
