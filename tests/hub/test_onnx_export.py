"""Checkpoints written as ONNX: onnxruntime computes what they compute, for every family and head, at any shape."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bertkit import cli
from bertkit.models import FAMILIES
from bertkit.models.modeling_recurrent import CELLS
from bertkit.models.tokenization_elmo import ElmoCharacterTokenizer
from bertkit.stages import export
from bertkit.tokenization import TokenizerArguments, frame_texts, train_tokenizer
from tests.features.made_up import FAMILIES_OF_ONE_TEXT, WORDS
from tests.hub.conftest import WITHOUT_BERTKIT
from tests.hub.exported_models import HEADS, VOCABULARY, small_model, written

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from bertkit.hub.onnx import exporting  # noqa: E402
from bertkit.hub.onnx.exporting import export_onnx  # noqa: E402

BASIC = (
    "AutoModel",
    "AutoModelForPreTraining",
    "AutoModelForCausalLM",
)  # all task heads are quickly tried on one family
OF_EXAMPLES = ("AutoModelForSequenceClassification", "AutoModelForNextSentencePrediction", "AutoModelForMultipleChoice")
TEXTS = ["the cat sat on the mat and then ran under the tree again", "a dog", "slowly again the tree sat"]
ANSWERS_ALONE = """
import json
import numpy, onnxruntime
from transformers import AutoTokenizer

folders, texts = json.loads(sys.argv[1])
for folder, flag in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=flag)
    batch = dict(tokenizer(texts, padding=True, return_tensors="np"))
    numpy.savez(f"{folder}/answers.npz", *onnxruntime.InferenceSession(f"{folder}/model.onnx").run(None, batch))
print(sorted({"torch", "bertkit"} & sys.modules.keys()))
"""


@pytest.fixture(scope="module")
def tokenizer():
    arguments = TokenizerArguments(vocab_size=VOCABULARY, min_frequency=1)
    return train_tokenizer([[" ".join(WORDS)]], arguments, quiet=True)


def ragged(model, head, rows, longest, seed=1):
    """A batch padded on the right; one row has a single token."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows,), generator=generator)
    lengths[0], lengths[-1] = longest, 1
    mask = (torch.arange(longest) < lengths[:, None]).long()
    batch = {"input_ids": torch.randint(1, VOCABULARY, mask.shape, generator=generator) * mask, "attention_mask": mask}
    if hasattr(model.config, "type_vocab_size"):
        batch["token_type_ids"] = torch.randint(2, mask.shape, generator=generator) * mask
    if head == "AutoModelForMultipleChoice":
        batch = {name: torch.stack([value, value.flip(0)], dim=1) for name, value in batch.items()}
    return batch


@torch.no_grad()
def expected(model, batch):
    return {name: value.numpy() for name, value in model(**batch).items() if isinstance(value, torch.Tensor)}


def assert_the_graph_computes(folder, model, head, batch):
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert {given.name for given in session.get_inputs()} == batch.keys()
    answers = expected(model, batch)
    assert [answer.name for answer in session.get_outputs()] == list(answers)
    real = batch["attention_mask"].numpy() != 0
    for (name, ours), theirs in zip(
        answers.items(), session.run(None, {key: value.numpy() for key, value in batch.items()}), strict=True
    ):
        assert ours.shape == theirs.shape
        at = slice(None) if head in OF_EXAMPLES or name in ("pooler_output", "seq_relationship_logits") else real
        np.testing.assert_allclose(theirs[at], ours[at], atol=2e-5, rtol=1e-4, err_msg=name)
    return session


def exported(tmp_path, model):
    (tmp_path / "out").mkdir()
    return export_onnx(written(model, tmp_path / "checkpoint"), tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "head"),
    [pytest.param(*pair, marks=[] if pair[0] == "static" or pair[1] in BASIC else pytest.mark.slow) for pair in HEADS],
)
def test_every_head_of_every_family_computes_the_same_at_shapes_it_was_not_traced_on(tmp_path, family, head):
    model = small_model(family, head, num_hidden_layers=2 if (family, head) == ("rnn", "AutoModel") else 1)
    told = exported(tmp_path, model)
    assert told.auto_class == head and told.difference < 1e-4
    for rows, longest in ((4, 19), (1, 2), (7, 64)):
        session = assert_the_graph_computes(
            tmp_path / "out", model, head, ragged(model, head, rows, longest, seed=rows)
        )
    batch, *_, length = session.get_inputs()[0].shape
    assert (batch, length) == ("batch", "length")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["hidden_size"] == 16 and "auto_map" not in settings


@pytest.mark.parametrize(
    "cell_type",
    [
        pytest.param(cell_type, marks=[] if cell_type in ("rnn", "peephole_lstm") else pytest.mark.slow)
        for cell_type in CELLS
        if cell_type != "lstm"
    ],
)
def test_every_recurrent_cell_is_an_operator_of_onnx(tmp_path, cell_type):
    model = small_model("rnn", "AutoModel", cell_type=cell_type)
    exported(tmp_path, model)
    assert_the_graph_computes(tmp_path / "out", model, "AutoModel", ragged(model, "AutoModel", 5, 23))
    file = (tmp_path / "out" / "model.onnx").read_bytes()
    assert {"rnn": b"RNN", "gru": b"GRU"}.get(cell_type, b"LSTM") in file


def test_an_elmo_clips_projects_and_reads_characters_by_its_table(tmp_path):
    settings = {"token_input": "characters", "cell_clip": 0.5, "projection_clip": 0.3, "num_hidden_layers": 2}
    model = small_model("elmo", "AutoModelForTokenClassification", **settings)
    exported(tmp_path, model)
    batch = ragged(model, "AutoModelForTokenClassification", 5, 23)
    first_layer = model.model(**batch, output_hidden_states=True).hidden_states[1]
    assert (first_layer.abs() == torch.tensor(0.3)).any()
    assert_the_graph_computes(tmp_path / "out", model, "AutoModelForTokenClassification", batch)


@pytest.mark.parametrize(
    "pooling", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("last", "mean", "max")), "concat"]
)
def test_every_pooling_is_over_an_examples_own_tokens(tmp_path, pooling):
    head = "AutoModelForSequenceClassification"
    model = small_model("static", head, pooling=pooling)
    exported(tmp_path, model)
    assert_the_graph_computes(tmp_path / "out", model, head, ragged(model, head, 6, 17))


def test_of_pretraining_one_head_is_written_alone_and_a_base_has_no_pooler_that_nothing_trained(tmp_path):
    model = small_model("bert", "AutoModelForPreTraining")
    written(model, tmp_path / "both")
    (tmp_path / "one").mkdir()
    export_onnx(tmp_path / "both", tmp_path / "one", "AutoModelForMaskedLM")
    batch = ragged(model, "AutoModelForMaskedLM", 3, 9)
    session = onnxruntime.InferenceSession(tmp_path / "one" / "model.onnx")
    (logits,) = session.run(None, {name: value.numpy() for name, value in batch.items()})
    real = batch["attention_mask"].numpy() != 0
    np.testing.assert_allclose(logits[real], expected(model, batch)["prediction_logits"][real], atol=2e-5, rtol=1e-4)
    written(small_model("bert", "AutoModelForMaskedLM"), tmp_path / "masked")
    (tmp_path / "base").mkdir()
    assert export_onnx(tmp_path / "masked", tmp_path / "base", "AutoModel").outputs == ["last_hidden_state"]


def command(*arguments):
    return cli.main(["export", *map(str, arguments)])


def test_eight_bits_are_smaller_and_what_is_said_of_them_is_so(tmp_path, tokenizer, capsys):
    head = "AutoModelForSequenceClassification"
    model = small_model("bert", head, hidden_size=64, intermediate_size=256, id2label={0: "no", 1: "yes", 2: "both"})
    written(model, tmp_path / "checkpoint", tokenizer)
    capsys.readouterr()
    assert command(tmp_path / "checkpoint", "--to", "onnx", "--int8", "true", "--output", tmp_path / "out") == 0
    said = capsys.readouterr().out
    sizes = [(tmp_path / "out" / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")]
    assert sizes[1] < 0.5 * sizes[0] and f"{sizes[1] / 1e6:.1f} MB of its {sizes[0] / 1e6:.1f}" in said
    batch = ragged(model, head, 5, 20)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model_int8.onnx")
    (logits,) = session.run(None, {name: value.numpy() for name, value in batch.items()})
    ours = expected(model, batch)["logits"]
    assert 0 < np.abs(logits - ours).max() < 0.3 * np.abs(ours).max()
    difference = float(said.split("differs from the checkpoint by up to ")[1].split()[0])
    assert 0 < difference < 0.3 * np.abs(ours).max()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]["1"] == "yes"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: onnx\npipeline_tag: text-classification\n" in card and "`token_type_ids`" in card
    trace = [word for word in (b"site-packages", b".py", str(tmp_path).encode()) if word in session_bytes(tmp_path)]
    assert not trace


@pytest.mark.parametrize(
    ("family", "longest"), [("gpt", 64), pytest.param("bert", 64, marks=pytest.mark.slow), ("rnn", None)]
)
def test_its_tokenizer_cuts_texts_to_what_the_graph_takes_and_pads_on_the_right(tmp_path, tokenizer, family, longest):
    model, reader = small_model(family, "AutoModel"), tokenizer
    if family == "gpt":
        reader = frame_texts(tokenizer, begin_token_id=2, end_token_id=None)
        assert reader.padding_side == "left"
    written(model, tmp_path / "ours", reader)
    assert command(tmp_path / "ours", "--to", "onnx", "--quiet", "true", "--output", tmp_path / "out") == 0
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    batch = loaded([" ".join(TEXTS) * 9, TEXTS[0]], padding=True, truncation=True, return_tensors="np")
    assert batch["attention_mask"][1, 0] and not batch["attention_mask"][1, -1]
    assert batch["input_ids"].shape[1] == longest or (longest is None and batch["input_ids"].shape[1] > 64)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert session.run(["last_hidden_state"], dict(batch))[0].shape[:2] == batch["input_ids"].shape


def session_bytes(tmp_path):
    return b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.onnx"))


def test_onnxruntime_and_the_tokenizer_answer_where_bertkit_is_not(tmp_path, tokenizer):
    kinds = [
        ("bert", "AutoModelForSequenceClassification", tokenizer, {}),
        ("rnn", "AutoModelForTokenClassification", tokenizer, {}),
        ("elmo", "AutoModel", ElmoCharacterTokenizer(max_characters=12), {"token_input": "characters"}),
    ]
    folders = []
    for family, head, reader, settings in kinds:
        model = small_model(family, head, **settings)
        written(model, tmp_path / family, reader)
        assert (
            command(tmp_path / family, "--to", "onnx", "--quiet", "true", "--output", tmp_path / f"{family}-out") == 0
        )
        folders.append((str(tmp_path / f"{family}-out"), family == "elmo"))
    script = [sys.executable, "-I", "-c", WITHOUT_BERTKIT + ANSWERS_ALONE, json.dumps([folders, TEXTS])]
    process = subprocess.run(
        script, cwd=tmp_path, capture_output=True, text=True, check=False, env={"HF_HOME": str(tmp_path)}
    )
    assert process.returncode == 0, process.stderr
    assert "bertkit" not in process.stdout and "You are using a model of type `bertkit-bert`" not in process.stderr
    for (family, head, reader, settings), (folder, _) in zip(kinds, folders, strict=True):
        batch = reader(TEXTS, padding=True, return_tensors="pt")
        if family != "bert":
            batch.pop("token_type_ids", None)
        (ours,) = (
            value
            for name, value in expected(small_model(family, head, **settings), batch).items()
            if name != "pooler_output"
        )
        theirs = np.load(f"{folder}/answers.npz")["arr_0"]
        real = slice(None) if head in OF_EXAMPLES else batch["attention_mask"].numpy() != 0
        np.testing.assert_allclose(theirs[real], ours[real], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in FAMILIES_OF_ONE_TEXT])
def test_what_writes_token_by_token_is_refused_in_one_line_and_leaves_nothing(tmp_path, capsys, family):
    written(small_model(family, "AutoModelForSeq2SeqLM", decoder_start_token_id=1), tmp_path / "checkpoint")
    capsys.readouterr()
    assert command(tmp_path / "checkpoint", "--to", "onnx", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"the family {family} writes token by token" in error and "--to native" in error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_graph_that_computes_something_else_is_refused_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    written(small_model("static", "AutoModel"), tmp_path / "checkpoint")

    def off_by_a_little(model, *, spelt):
        model.word_embeddings.weight.data += 1e-3
        return model

    monkeypatch.setattr(exporting, "over_padded_rows", off_by_a_little)
    capsys.readouterr()
    assert command(tmp_path / "checkpoint", "--to", "onnx", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "differ by up to 1.0e-03" in error
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("target", "option", "value"),
    [
        *(
            ("native", option, value)
            for option, value in (("int8", "true"), ("pooling", "cls"), ("normalize", "false"))
        ),
        *(("onnx", option, value) for option, value in (("pooling", "cls"), ("normalize", "true"))),
        *(
            ("sentence-transformers", option, value)
            for option, value in (("int8", "true"), ("auto_class", "AutoModel"))
        ),
    ],
)
def test_an_option_of_another_target_is_refused_in_one_line(tmp_path, capsys, target, option, value):
    assert command(tmp_path, "--to", target, f"--{option}", value, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"--{option} says nothing to --to {target}; leave it out" in error


@pytest.mark.parametrize("target", ["onnx", "sentence-transformers"])
def test_a_missing_package_is_named_with_the_extra_that_has_it(tmp_path, capsys, monkeypatch, target):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert command(tmp_path, "--to", target, "--output", tmp_path / "out") == 2
    assert f"pip install 'bertkit[{target}]'" in capsys.readouterr().err
