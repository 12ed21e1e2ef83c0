"""Every family through everything that reads checkpoints: the table of examples/consumers/, cell by cell."""

import dataclasses
import logging
import re

import pytest

from bertkit.models import build_config, build_model
from bertkit.tokenization import save_tokenizer
from examples import every_consumer
from examples.consumers import ecosystem_page
from examples.consumers.table import CONSUMERS
from examples.consumers.workbench import KINDS, Workbench, no_warnings

SMALL_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "initial_attention": "neighbours",
}
DEAREST = [
    *(("torch.compile", kind) for kind in KINDS if kind != "bert"),
    *(("onnxruntime", kind) for kind in KINDS),  # test_onnx_export.py has them all
    *(("without bertkit", kind) for kind in KINDS),  # so has tests/models/test_standalone.py,
    *(("the Hub, with revision", kind) for kind in KINDS),  # and publishing/test_push.py
]
CELLS = [
    pytest.param(consumer, kind, marks=[pytest.mark.slow] if (consumer, kind) in DEAREST else [])
    for consumer in CONSUMERS
    for kind in KINDS
    if CONSUMERS[consumer].left_out(kind, KINDS[kind]) is None
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Workbench(tmp_path_factory.mktemp("bench"), KINDS, compiler="aot_eager")


@pytest.mark.parametrize(("consumer", "kind"), CELLS)
def test_a_consumer_does_with_a_checkpoint_what_the_page_claims(bench, consumer, kind):
    CONSUMERS[consumer].take(bench, KINDS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_compiler_changes_no_number(tmp_path, kind):
    CONSUMERS["torch.compile"].take(Workbench(tmp_path, KINDS, compiler="inductor"), KINDS[kind])


@pytest.mark.parametrize(
    ("folder", "kind", "head"),
    [
        ("runs/answers/best", "bert", "AutoModelForQuestionAnswering"),
        ("runs/multi30k/best", "transformer", "AutoModelForSeq2SeqLM"),
    ],
)
def test_the_pages_lines_answer_and_translate(bench, capsys, folder, kind, head):
    [lines] = [
        code
        for code in re.findall(r"```python\n(.*?)```", ecosystem_page.PAGE.read_text(), re.DOTALL)
        if folder in code
    ]
    exec(lines.replace(folder, str(bench.checkpoint(KINDS[kind], head))), {})
    said = capsys.readouterr().out.splitlines()
    if kind == "bert":
        assert said[0] and said[0] in "nobody in the village knew the river well"
    else:
        assert [line.split(" -> ")[0] for line in said] == ["a man rides a bicycle", "two dogs play"]


def test_a_failure_is_printed_with_its_reason_and_ends_the_script_with_1(monkeypatch, capsys):
    def fail(bench, kind):
        raise AssertionError("the numbers differ")

    broken = {"torch.compile": dataclasses.replace(CONSUMERS["torch.compile"], check=fail)}
    monkeypatch.setattr(every_consumer, "CONSUMERS", broken)
    monkeypatch.setattr("sys.argv", ["every_consumer", "--only", "static"])
    assert every_consumer.main() == 1
    printed = capsys.readouterr()
    assert re.search(r"torch.compile +FAILED", printed.out)
    assert "torch.compile, static: AssertionError: the numbers differ" in printed.err


def test_ones_own_checkpoint_is_taken_through_with_the_heads_and_labels_it_has_and_fresh_ones(
    bench, tmp_path, monkeypatch, capsys
):
    labels = dict(enumerate(("bad", "so-so", "good")))
    config = build_config("bert", **SMALL_BERT, vocab_size=len(bench.words), id2label=labels, pooling="mean")
    build_model(config, "AutoModelForSequenceClassification").save_pretrained(tmp_path / "best")
    save_tokenizer(bench.words, tmp_path / "best")
    consumers = ("fill-mask", "feature-extraction", "text-classification", "token-classification")
    named = [f"pipeline {name}" for name in consumers] + ["question answering", "half precision", "device_map"]
    monkeypatch.setattr("sys.argv", ["every_consumer", "--checkpoint", str(tmp_path / "best"), "--consumer", *named])
    assert every_consumer.main() == 0, capsys.readouterr().err
    assert re.findall(r"  (\w+)$", capsys.readouterr().out, re.MULTILINE) == ["bert", *["ok"] * len(named)]


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["every_consumer", "--checkpoint", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="2"):
        every_consumer.main()
    assert "none has no config.json, so it is no checkpoint" in capsys.readouterr().err


def test_what_a_library_warns_of_fails_a_check_unless_it_is_named():
    for message in ("The model 'X' is not supported for y", "Some weights are strange"):
        with pytest.raises(AssertionError, match="it warned"), no_warnings("Some parameters"):
            logging.getLogger("transformers.pipelines").warning(message)
    with no_warnings("Some parameters"):
        logging.getLogger("transformers.pipelines").warning("Some parameters are on the disk")


def test_the_page_shows_the_consumers_and_families_of_today():
    assert ecosystem_page.is_up_to_date()
