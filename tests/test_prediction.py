"""`bertkit predict` and `Predictor` say what the checkpoint itself says, of every task and every kind of language model."""

import io
import json

import pytest
import torch
from transformers import pipeline

from bertkit import Predictor
from bertkit.cli import main
from bertkit.models import build_config, build_model, load_model
from bertkit.tasks import TASKS
from bertkit.tokenization import TokenizerArguments, load_tokenizer, save_tokenizer, train_tokenizer
from tests.tasks import made_up

SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "initializer_range": 0.3}
OF_FAMILY = {"rnn": {"embedding_size": 24}, "rnn_seq2seq": {"embedding_size": 24}, "elmo": {}}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([made_up.WORDS * 3], TokenizerArguments(vocab_size=150, min_frequency=1), quiet=True)


@pytest.fixture(scope="module")
def save(tokenizer, tmp_path_factory):
    """Return a function that saves a tiny model of a family with a head."""

    def build(family, head, **settings):
        folder = tmp_path_factory.mktemp("checkpoint")
        torch.manual_seed(0)
        size = SMALL | OF_FAMILY.get(family, {"num_attention_heads": 2, "intermediate_size": 64})
        config = build_config(family, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **size | settings)
        build_model(config, head).save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        return folder

    return build


@pytest.fixture(scope="module", params=TASKS)
def fine_tuned(request, save, tmp_path_factory):
    """A tiny model after two steps of a task, and its test file."""
    folder = tmp_path_factory.mktemp(request.param)
    start = save("bert", "AutoModel", max_position_embeddings=64)
    paths = {part: made_up.write(request.param, folder, part, count) for part, count in (("train", 24), ("test", 11))}
    settings = ["--task.max_length", "40", *made_up.DATA_OPTIONS.get(request.param, [])]
    if request.param == "question_answering":
        settings += ["--task.stride", "8", "--task.max_question_length", "8"]
    verb = ["finetune", "--quiet", "--task.name", request.param, "--model.from", start, "--output_dir", folder / "run"]
    data = ["--data.train", paths["train"], "--data.test", paths["test"], "--training.max_steps", "2"]
    assert main([str(part) for part in [*verb, *data, *settings]]) == 0
    return request.param, folder / "run", paths["test"]


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_predictions_are_those_that_fine_tuning_wrote_without_what_people_said(fine_tuned, tmp_path):
    task, run, test = fine_tuned
    output = tmp_path / "predictions.jsonl"
    source = test
    if task == "sequence_classification":  # whose lines begin with a label
        source = tmp_path / "texts.txt"
        source.write_text("".join(line.split(maxsplit=1)[1] for line in test.read_text().splitlines(keepends=True)))
    assert main(["predict", "--quiet", str(run / "best"), str(source), "--output", str(output)]) == 0
    expected = records(run / "predictions_test.jsonl")
    known = TASKS[task].known_fields
    assert records(output) == [{name: value for name, value in one.items() if name not in known} for one in expected]


INPUTS = {
    "sequence_classification": ["a good film", "a bad film"],
    "multi_label_classification": ["a good film", "a bad film"],
    "regression": ["a good film", "a bad film"],
    "token_classification": ["a good film", ["a", "bad", "film"]],
    "question_answering": [{"question": "very good", "context": "the film was lovely"}],
    "multiple_choice": [{"text": "the film", "choices": ["was good", "was bad"]}],
}


def test_three_lines_of_python_do_the_same(fine_tuned):
    task, run, _ = fine_tuned
    predict = Predictor(run / "best")
    together = predict(INPUTS[task])
    assert len(together) == len(INPUTS[task])
    alone = [predict([one])[0] for one in INPUTS[task]]
    for first, second in zip(together, alone, strict=True):
        assert first.get("prediction", first.get("predictions")) == second.get("prediction", second.get("predictions"))
    assert predict([]) == []
    with pytest.raises(ValueError, match="input 2 is 7; give a"):
        predict([INPUTS[task][0], 7])


def test_standard_input_gives_a_line_a_text_in_the_tasks_own_form(fine_tuned, capsys, monkeypatch):
    task, run, _ = fine_tuned
    if task in ("question_answering", "multiple_choice"):
        pytest.skip("such an example is no line of text")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a good film\nthe story was dull\n")))
    assert main(["predict", "--quiet", str(run / "best"), "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    if task == "token_classification":
        assert [line.split("\t")[0] for line in lines] == ["a", "good", "film", "", "the", "story", "was", "dull", ""]
    else:
        assert [line.split("\t")[-1] for line in lines] == ["a good film", "the story was dull"]


def test_masks_are_filled_as_transformers_pipeline_does(save, tmp_path, capsys):
    folder = save("bert", "AutoModelForMaskedLM")
    texts = ["the [MASK] was good", "a [MASK] is a [MASK]"]
    source = tmp_path / "masked.txt"
    source.write_text("".join(f"{text}\n" for text in texts))
    assert main(["predict", "--quiet", str(folder), str(source), "--top_k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    fill = pipeline("fill-mask", model=load_model(folder, "AutoModelForMaskedLM"), tokenizer=load_tokenizer(folder))
    assert lines[0].split() == [guess["token_str"] for guess in fill(texts[0], top_k=3)]
    assert lines[1].split("\t") == [" ".join(g["token_str"] for g in mask) for mask in fill(texts[1], top_k=3)]


def test_a_text_without_a_mask_is_refused(save, tmp_path, capsys):
    source = tmp_path / "masked.txt"
    source.write_text("the film was good\n")
    assert main(["predict", str(save("bert", "AutoModelForMaskedLM")), str(source)]) == 2
    assert "input 1, 'the film was good', has no [MASK]; put one" in capsys.readouterr().err


def likelihood_by_steps(model, read, new, **source):
    """Ask a model for one token after the other, and add up the log probabilities as far as the end."""
    total = 0.0
    for token in new.tolist():
        given = {"decoder_input_ids": read, **source} if source else {"input_ids": read}
        with torch.no_grad():
            total += model(**given).logits[0, -1].log_softmax(-1)[token].item()
        if token == model.config.eos_token_id:
            break
        read = torch.cat([read, torch.tensor([[token]])], 1)
    return total


@pytest.mark.parametrize("family", ["rnn", "gpt"])
def test_texts_are_gone_on_with_as_generate_does(save, family):
    folder = save(family, "AutoModelForCausalLM")
    predict = Predictor(folder, max_new_tokens=5)
    [found] = predict(["the film was"])
    model, tokenizer = load_model(folder, "AutoModelForCausalLM"), load_tokenizer(folder)
    encoded = tokenizer("the film was", return_tensors="pt", return_token_type_ids=False)
    generated = model.generate(**encoded, max_new_tokens=5, do_sample=False)[0, encoded["input_ids"].shape[1] :]
    assert found["text"] == "the film was"
    assert found["prediction"] == tokenizer.decode(generated, skip_special_tokens=True)
    assert found["log_probability"] == pytest.approx(
        likelihood_by_steps(model, encoded["input_ids"], generated), abs=1e-4
    )
    drawn = [Predictor(folder, max_new_tokens=9, temperature=2.0, seed=seed)(["the"])[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("family", "num_beams"), [("rnn_seq2seq", 1), ("transformer", 3)])
def test_sources_are_translated_as_generate_does_with_their_log_probability(save, tokenizer, family, num_beams):
    ends = {"decoder_start_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    folder = save(family, "AutoModelForSeq2SeqLM", **ends)
    model = load_model(folder, "AutoModelForSeq2SeqLM")
    sources = ["a good film", "the story was dull and the film was bad"]
    found = Predictor(folder, max_new_tokens=6, num_beams=num_beams)(sources)
    for source, one in zip(sources, found, strict=True):
        encoded = tokenizer(source, return_tensors="pt", return_token_type_ids=False)
        generated = model.generate(**encoded, max_new_tokens=6, num_beams=num_beams, do_sample=False)[0]
        assert one["prediction"] == tokenizer.decode(
            generated, skip_special_tokens=True, clean_up_tokenization_spaces=True
        )
        start, rest = generated[None, :1], generated[1:]
        assert one["log_probability"] == pytest.approx(likelihood_by_steps(model, start, rest, **encoded), abs=1e-4)


def test_what_cannot_be_asked_is_said_in_one_line(save, tmp_path, capsys):
    encoder = save("bert", "AutoModel")
    source = tmp_path / "a.txt"
    source.write_text("a\n")
    assert main(["predict", str(encoder), str(source)]) == 2
    assert "has no head to ask" in capsys.readouterr().err
    both_sides = save("elmo", "AutoModelForPreTraining")
    assert main(["predict", str(both_sides), str(source)]) == 2
    assert "has no head to ask (AutoModelForPreTraining)" in capsys.readouterr().err
    masked = save("bert", "AutoModelForMaskedLM")
    with pytest.raises(ValueError, match="inputs are one text, 'a good film'; give a list of texts"):
        Predictor(masked)("a good film")
    assert main(["predict", str(masked), str(source), "--data.tags_column", "x"]) == 2
    assert "--data.tags_column says nothing to this kind of checkpoint" in capsys.readouterr().err
    assert main(["predict", str(masked), str(source), "--output", str(tmp_path / "no" / "a.txt")]) == 2
    assert "there is no folder" in capsys.readouterr().err
