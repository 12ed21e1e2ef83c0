"""transformers' pipelines, each from the checkpoint's folder alone, and compared with what the model itself says.

Question answering and translation, which have no pipeline since transformers 5, are asked of bertkit's `Predictor`.
"""

from typing import Any

import torch
import transformers

from bertkit import Predictor
from examples.consumers.workbench import TEXTS, Kind, Workbench

NEW_TOKENS = 6


def _pipeline(bench: Workbench, kind: Kind, task: str, head: str, **options: Any) -> Any:
    make: Any = transformers.pipeline
    return make(task, model=str(bench.checkpoint(kind, head)), device="cpu", **options)


def fill_mask(bench: Workbench, kind: Kind) -> None:
    """The likeliest words of a mask, and their probabilities, are those of the model's scores."""
    head = "AutoModelForMaskedLM"
    fill = _pipeline(bench, kind, "fill-mask", head)
    mask = fill.tokenizer.mask_token
    texts = [f"the {mask} was good", f"nobody in the {mask} knew the river"]
    for text, guesses in zip(texts, fill(texts, top_k=3), strict=True):
        batch = bench.batch(kind, head, [text])
        scores = bench.outputs(bench.model(kind, head), batch)["logits"]
        place = (batch["input_ids"][0] == fill.tokenizer.mask_token_id).nonzero().item()
        likeliest = scores[0, place].softmax(-1).topk(3)
        assert [guess["token"] for guess in guesses] == likeliest.indices.tolist()
        torch.testing.assert_close(torch.tensor([guess["score"] for guess in guesses]), likeliest.values)


def text_generation(bench: Workbench, kind: Kind) -> None:
    """Texts go on as `generate` goes on with each alone, though the pipeline pads them to a batch."""
    head = "AutoModelForCausalLM"
    generate = _pipeline(bench, kind, "text-generation", head)
    generate.tokenizer.padding_side = "left"
    beginnings = [text.rsplit(maxsplit=3)[0] for text in TEXTS]
    assert len({len(ids) for ids in generate.tokenizer(beginnings)["input_ids"]}) > 1  # so that some are padded
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    model, found = bench.model(kind, head), generate(beginnings, batch_size=len(beginnings), **options)
    for beginning, [continued] in zip(beginnings, found, strict=True):
        alone = generate.tokenizer(beginning, return_tensors="pt", return_token_type_ids=False)
        new = model.generate(**alone, **options)[0, alone["input_ids"].shape[1] :]
        expected = generate.tokenizer.decode(new, skip_special_tokens=True)
        assert continued["generated_text"].removeprefix(beginning).split() == expected.split()


def feature_extraction(bench: Workbench, kind: Kind) -> None:
    """The vectors of a text are the base model's last states."""
    extract = _pipeline(bench, kind, "feature-extraction", "AutoModel")
    for text, vectors in zip(TEXTS, extract(TEXTS), strict=True):
        states = bench.outputs(bench.model(kind, "AutoModel"), bench.batch(kind, "AutoModel", [text]))
        torch.testing.assert_close(torch.tensor(vectors), states["last_hidden_state"])


def text_classification(bench: Workbench, kind: Kind) -> None:
    """All labels of texts, in padded batches, have the probabilities of the model's scores."""
    head = "AutoModelForSequenceClassification"
    classify = _pipeline(bench, kind, "text-classification", head)
    expected = bench.outputs(bench.model(kind, head), bench.batch(kind, head))["logits"].softmax(-1)
    for guesses, probabilities in zip(classify(TEXTS, top_k=None, batch_size=len(TEXTS)), expected, strict=True):
        found = {guess["label"]: guess["score"] for guess in guesses}
        names = [classify.model.config.id2label[label] for label in range(len(probabilities))]
        assert list(found) == sorted(names, key=lambda name: -found[name])
        for name, probability in zip(names, probabilities.tolist(), strict=True):
            assert abs(found[name] - probability) < 1e-5


def token_classification(bench: Workbench, kind: Kind) -> None:
    """The label of each token is the one with the highest score."""
    head = "AutoModelForTokenClassification"
    tag = _pipeline(bench, kind, "token-classification", head, ignore_labels=[])
    special = set(tag.tokenizer.all_special_ids)
    for text, found in zip(TEXTS, tag(TEXTS), strict=True):
        batch = bench.batch(kind, head, [text])
        best = bench.outputs(bench.model(kind, head), batch)["logits"][0].argmax(-1)
        tokens = [place for place, token in enumerate(batch["input_ids"][0].tolist()) if token not in special]
        assert [(one["index"], one["entity"]) for one in found] == [
            (place, tag.model.config.id2label[int(best[place])]) for place in tokens
        ]


def question_answering(bench: Workbench, kind: Kind) -> None:
    """The answer is the likeliest stretch of the context, by the model's scores of where it begins and ends."""
    head = "AutoModelForQuestionAnswering"
    predict = Predictor(bench.checkpoint(kind, head), device="cpu")
    question, context = "who knew the river", "nobody in the village knew the river well"
    [answer] = predict([{"question": question, "context": context}])
    assert answer["prediction"] and answer["prediction"] in context
    encoded = bench.tokenizer(kind, head)(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    said = bench.outputs(bench.model(kind, head), encoded)
    places = [place for place, part in enumerate(encoded.sequence_ids(0)) if part == 1]
    spans = [(first, last) for first in places for last in places if first <= last]
    first, last = max(spans, key=lambda span: float(said["start_logits"][0, span[0]] + said["end_logits"][0, span[1]]))
    assert answer["prediction"] == context[offsets[first][0] : offsets[last][1]]


def translation(bench: Workbench, kind: Kind) -> None:
    """Translations are what `generate` makes of the sources."""
    head = "AutoModelForSeq2SeqLM"
    predict = Predictor(bench.checkpoint(kind, head), device="cpu", max_new_tokens=NEW_TOKENS)
    model, tokenizer = bench.model(kind, head), bench.tokenizer(kind, head)
    for source, found in zip(TEXTS, predict(TEXTS), strict=True):
        encoded = tokenizer(source, return_tensors="pt", return_token_type_ids=False)
        written = model.generate(**encoded, max_new_tokens=NEW_TOKENS, do_sample=False)[0]
        assert found.pop("log_probability") < 0
        assert found == {"text": source, "prediction": tokenizer.decode(written, skip_special_tokens=True)}
