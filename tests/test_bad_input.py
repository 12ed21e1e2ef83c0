"""Whatever bytes or settings are thrown at it, bertkit reads them or says in one line what is wrong."""

import gzip
import tempfile
from pathlib import Path

import pytest
import yaml
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.cli import main
from bertkit.config import ConfigError
from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.errors import DataError
from bertkit.stages import finetune, pretrain
from bertkit.tasks.labelled_data import Columns, read_labelled_texts

SUFFIXES = [".txt", ".jsonl", ".json", ".parquet", ".csv", ".tsv", ""]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
JSON_ISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FRAGMENTS = [b"text", b"label", b",", b"\t", b"\n", b'"', b"\r", b"\0", b"\xff", b"{", b"}", b"1 x"]
CONTENTS = (
    st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text(max_size=60).map(lambda text: text.encode("utf-16", "surrogatepass"))
    | st.lists(JSON_ISH, max_size=4).map(lambda rows: "\n".join(yaml.safe_dump(row) for row in rows).encode())
    | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join)
)  # fmt: skip


def one_line(error):
    message = str(error)
    assert message and "\n" not in message and "\r" not in message, repr(message)
    return message


@settings(max_examples=300, deadline=None)
@given(content=CONTENTS, suffix=st.sampled_from(SUFFIXES), packed=st.sampled_from(sorted(COMPRESS)), torn=st.booleans())
def test_any_file_is_read_as_documents_or_refused_by_name(content, suffix, packed, torn):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"corpus{suffix}{packed}"
        content = COMPRESS[packed](content)
        path.write_bytes(content[: len(content) // 2] if torn else content)
        try:
            documents = list(load_documents(str(path), DataArguments(train=str(path))))
        except DataError as error:
            assert path.name in one_line(error)
        else:
            assert documents and all(document and all(document) for document in documents)
            assert not any("\n" in paragraph or "\0" in paragraph for document in documents for paragraph in document)


@settings(max_examples=300, deadline=None)
@given(content=CONTENTS, suffix=st.sampled_from([*SUFFIXES, ".xml"]), packed=st.sampled_from(["", ".gz"]))
def test_any_file_is_read_as_labelled_texts_or_refused_by_name(content, suffix, packed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"reviews{suffix}{packed}"
        path.write_bytes(COMPRESS[packed](content))
        try:
            examples = read_labelled_texts(str(path), Columns("text", None, "label"))
        except DataError as error:
            assert path.name in one_line(error)
        else:
            assert examples and all(example.label.strip() for example in examples)


KEYS = ["output_dir", "tokenizer", "data.train", "data.eval_fraction", "data.documents", "objective.block_size",
        "objective.mlm_probability", "objective.masking_unit", "training.max_steps", "training.train_batch_size",
        "training.learning_rate", "training.report_to", "training.loss_policy", "model", "model.family", "quiet", "seeds",
        "training", "objective", "objektive.name", "config"]  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(verb=st.sampled_from([pretrain, finetune]), given=st.dictionaries(st.sampled_from(KEYS), JSON_ISH, max_size=5))
def test_any_recipe_is_taken_or_refused_in_one_line(verb, given):
    recipe = {}
    for key, value in given.items():
        *sections, name = key.split(".")
        place = recipe
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[name] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        try:
            arguments = ["--config", str(path)]
            verb.build_parser(arguments).read(arguments)
        except ValueError as error:
            one_line(error)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_as_a_recipe_are_refused_in_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_bytes(content)
        try:
            arguments = ["--config", str(path)]
            pretrain.build_parser(arguments).read(arguments)
        except ValueError as error:
            one_line(error)


def test_a_folder_of_images_is_refused(tmp_path, pretrain_options, capsys):
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **{"data.train": tmp_path / "images"})]) == 2
    error = capsys.readouterr().err
    assert "has no file of a known form" in error and error.count("\n") == 1


def test_an_image_that_calls_itself_text_is_refused(tmp_path):
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(DataError, match=r"image\.txt, line 1"):
        list(load_documents(str(tmp_path / "image.txt"), DataArguments(train="x")))


def test_a_value_of_the_wrong_type_is_refused_by_the_file_it_stands_in(tmp_path):
    for number, value in enumerate(("5", "[1]", "7")):
        (tmp_path / f"{number}.yaml").write_text(f"training:\n  max_steps: {value}\n")
    arguments = [part for number in range(2) for part in ("--config", str(tmp_path / f"{number}.yaml"))]
    with pytest.raises(ConfigError, match=r"1\.yaml: training\.max_steps is '\[1\]'; it takes a whole number or null"):
        pretrain.build_parser(arguments).read(arguments)
    arguments = ["--config", str(tmp_path / "2.yaml"), "--training.max_steps", "many"]
    with pytest.raises(ConfigError, match=r"^training\.max_steps is 'many'"):
        pretrain.build_parser(arguments).read(arguments)


@pytest.mark.parametrize("error", [ConfigError, DataError])
def test_what_users_did_wrong_is_a_value_error(error):
    assert issubclass(error, ValueError)
