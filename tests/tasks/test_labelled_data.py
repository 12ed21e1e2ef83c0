import gzip
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertkit.data.errors import DataError
from bertkit.tasks.labelled_data import (
    Columns,
    LabelledDataArguments,
    LabelledText,
    hold_out,
    load_parts,
    read_labelled_texts,
)
from bertkit.tasks.sources import fold_of, hold_out_groups

COLUMNS = Columns("text", None, "label")
TEXTS = ['he said "no', "a, b\u2028c", "", "한국어"]
LABELS = ["1", "0", "1", "0"]


def write(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def csv_field(text):
    return '"' + text.replace('"', '""') + '"'


FORMS = {
    "a.csv": lambda rows: "id,text,label\r\n" + "".join(f"1,{csv_field(text)},{label}\r\n" for text, label in rows),
    "a.tsv": lambda rows: "label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in rows),
    "a.jsonl": lambda rows: "".join(json.dumps({"text": text, "label": int(label)}) + "\n\n" for text, label in rows),
    "a.txt": lambda rows: "".join(f"{label} {text}\n" for text, label in rows),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_form_gives_the_same_examples(tmp_path, name, compressed):
    content = FORMS[name](list(zip(TEXTS, LABELS, strict=True))).encode("utf-8-sig")
    path = tmp_path / (name + ".gz" * compressed)
    path.write_bytes(gzip.compress(content) if compressed else content)
    examples = read_labelled_texts(str(path), COLUMNS)
    assert [(example.text, example.label) for example in examples] == list(zip(TEXTS, LABELS, strict=True))
    assert all(str(path) in example.place for example in examples)


def test_parquet_gives_the_same_examples_and_a_missing_text_is_an_empty_one(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [*TEXTS, None], "label": [1, 0, 1, 0, 1]}), path)
    examples = read_labelled_texts(str(path), COLUMNS)
    assert [(example.text, example.label) for example in examples] == list(
        zip([*TEXTS, ""], [*LABELS, "1"], strict=True)
    )


def test_a_dataset_gives_its_rows_and_takes_its_split_by_name(tmp_path):
    for split, text in (("train", "one"), ("validation", "two")):
        write(tmp_path / f"{split}.csv", f"text,label\n{text},x\n")
    hub = f"hub:{tmp_path}"
    assert [example.text for example in read_labelled_texts(hub, COLUMNS)] == ["one"]
    assert [example.text for example in read_labelled_texts(f"{hub}@validation", COLUMNS)] == ["two"]
    assert [example.text for example in read_labelled_texts(hub, COLUMNS, default_split="validation")] == ["two"]


def test_a_dataset_below_the_home_folder_is_found_by_its_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "reviews").mkdir()
    write(tmp_path / "reviews" / "train.csv", "text,label\none,x\n")
    assert [example.text for example in read_labelled_texts("hub:~/reviews", COLUMNS)] == ["one"]


def test_numbered_classes_of_a_dataset_come_by_their_names_and_hidden_ones_are_refused(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    for name, labels in (("seen", [1, 0]), ("hidden", [1, -1])):
        (tmp_path / name).mkdir()
        table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": labels}, features=features)
        table.to_parquet(str(tmp_path / name / "train.parquet"))
    assert [example.label for example in read_labelled_texts(f"hub:{tmp_path / 'seen'}", COLUMNS)] == ["pos", "neg"]
    with pytest.raises(DataError, match="row 2: no label in column 'label'"):
        read_labelled_texts(f"hub:{tmp_path / 'hidden'}", COLUMNS)


def test_several_sources_follow_one_another(tmp_path):
    sources = [write(tmp_path / "a.txt", "1 a\n"), write(tmp_path / "b.tsv", "text\tlabel\nb\t0\n")]
    assert [example.text for example in read_labelled_texts(sources, COLUMNS)] == ["a", "b"]


def test_a_csv_field_may_hold_line_breaks_and_the_rows_behind_it_are_still_placed_right(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"two\nlines",1\nlast,\n')
    with pytest.raises(DataError, match=r"a\.csv, line 4: no label"):
        read_labelled_texts(path, COLUMNS)


def test_pairs_are_read_and_refused_where_there_are_no_columns(tmp_path):
    pairs = Columns("premise", "hypothesis", "label")
    [example] = read_labelled_texts(write(tmp_path / "a.tsv", "premise\thypothesis\tlabel\np\th\tyes\n"), pairs)
    assert (example.text, example.text_pair) == ("p", "h")
    with pytest.raises(DataError, match=r"hold no pairs; give \.tsv, .* by data\.form"):
        read_labelled_texts(write(tmp_path / "a.txt", "1 a\n"), pairs)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "id,review,label\n1,x,1\n",
            r"a\.csv, line 2: no column 'text'; set data.text_column to one of id, rev",
        ),
        (
            "a.tsv",
            "1\tgood\n0\tbad\n",
            r"set data.text_column to one of 1, good; .* the header is missing: put one above",
        ),
        ("a.txt", "1 x\n1 \0\n", r"a\.txt, line 2: a NUL byte, so this is not UTF-8 text"),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', r"line 1: half a surrogate pair in column 'text'; remove it"),
        ("a.jsonl", '{"text": "x", "label": "a\\u0000"}\n', r"line 1: a NUL character in column 'label'; remove it"),
        ("a.jsonl", '{"text": "x", "y": 1}\n', r"line 1: no column 'label'; set data.label_column to one of text, y"),
        ("a.csv", "text,label\nx,1\ny\n", r"a\.csv, line 3: 1 fields, but the header has 2"),
        ("a.csv", "text,text,label\nx,y,1\n", r"a\.csv, line 1: the header names 'text' 2 times"),
        ("a.tsv", "text\tlabel\tlabel\nx\t1\t2\n", r"a\.tsv, line 1: the header names 'label' 2 times"),
        ("a.tsv", "text\tlabel\nx\t1\ny\t1\tz\n", r"a\.tsv, line 3: 3 fields"),
        ("a.csv", 'text,label\nx,1\n"y,1\n', r"a\.csv, line 3: not CSV"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text"\n', r"line 2: not JSON"),
        ("a.jsonl", '["x"]\n', r"line 1: JSON, but not an object"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', r"line 1: column 'text' holds int, not text"),
        ("a.jsonl", '{"text": "x", "label": 2.5}\n', r"line 1: column 'label' holds 2.5, which is no class"),
        ("a.jsonl", '{"text": "x", "label": null}\n', r"line 1: no label"),
        ("a.tsv", "text\tlabel\n\t\n", r"line 2: no label"),
        ("a.txt", "1 x\n two\n", r"a\.txt, line 2: begins with a space"),
        ("a.csv", "", "holds no labelled text"),
        ("a.tsv", "text\tlabel\n", "holds no labelled text"),
        ("a.xml", "<x/>", r"not known by its ending; use \.csv"),
        ("a.parquet", "no parquet", "cannot be read as parquet"),
        ("a.csv.gz", "no gzip", "cannot be read: Not a gzipped file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_labelled_texts(write(tmp_path / name, content), COLUMNS)
    assert "\n" not in str(caught.value)


def test_a_byte_that_is_not_utf_8_is_named_by_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1 x\n1 caf\xe9\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2: not UTF-8"):
        read_labelled_texts(str(tmp_path / "a.txt"), COLUMNS)


def test_a_path_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_labelled_texts(str(tmp_path / "no.csv"), COLUMNS)
    with pytest.raises(DataError, match="is a folder"):
        read_labelled_texts(str(tmp_path), COLUMNS)


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=60), st.floats(0.05, 0.9))
def test_holding_out_parts_each_label_in_proportion_and_loses_nothing(labels, fraction):
    examples = [LabelledText(f"text {number}", None, label, "") for number, label in enumerate(labels)]
    if max(Counter(labels).values()) < 2:
        with pytest.raises(DataError, match=r"give data\.eval"):
            hold_out(examples, fraction)
        return
    train, evaluation = hold_out(examples, fraction)
    assert sorted(train + evaluation, key=examples.index) == examples
    assert train == sorted(train, key=examples.index) and evaluation == sorted(evaluation, key=examples.index)
    for label, count in Counter(labels).items():
        held_out = sum(example.label == label for example in evaluation)
        assert held_out == min(max(round(fraction * count), 1), count - 1)
    assert hold_out(examples, fraction) == (train, evaluation)


def test_parts_are_held_out_only_where_no_evaluation_part_is_given(tmp_path):
    train = write(tmp_path / "train.txt", "".join(f"{number % 2} text {number}\n" for number in range(40)))
    other = write(tmp_path / "other.txt", "1 x\n0 y\n")
    sizes = {part: len(rows) for part, rows in load_parts(LabelledDataArguments(train=train)).items()}
    assert sizes == {"train": 36, "eval": 4}
    given_parts = load_parts(LabelledDataArguments(train=train, eval=other, test=other))
    assert {part: len(rows) for part, rows in given_parts.items()} == {"train": 40, "eval": 2, "test": 2}


@pytest.mark.parametrize(
    ("file", "columns", "count", "labels"),
    [
        ("classification/sst2.dev.txt", COLUMNS, 872, {"0", "1"}),
        ("classification/trec.test.txt", COLUMNS, 500, set("012345")),
        ("classification/nsmc_small_train.tsv", Columns("document", None, "label"), 10_000, {"0", "1"}),
        ("pairs/rte.dev.tsv", Columns("sentence1", "sentence2", "label"), None, {"entailment", "not_entailment"}),
    ],
)
def test_real_files_give_all_their_rows(data_folder, file, columns, count, labels):
    path = data_folder / file
    examples = read_labelled_texts(str(path), columns)
    assert len(examples) == (count or path.read_bytes().count(b"\n") - 1)
    assert {example.label for example in examples} == labels


def test_a_label_and_its_text_may_be_parted_by_a_tab(tmp_path):
    path = tmp_path / "tabs.txt"
    path.write_text("pos\tgreat film yes\nneg  bad\n")
    assert [(example.label, example.text) for example in read_labelled_texts(str(path), COLUMNS)] == [
        ("pos", "great film yes"),
        ("neg", "bad"),
    ]


@given(labels=st.lists(st.sampled_from("abc"), min_size=6, max_size=60), count=st.integers(2, 6))
def test_folds_are_of_like_size_have_their_share_of_each_label_and_hold_every_example_once(labels, count):
    examples = [LabelledText(str(number), None, label, "") for number, label in enumerate(labels)]
    folds = [fold_of(examples, number, count) for number in range(count)]
    assert sorted(example.text for _, fold in folds for example in fold) == sorted(str(n) for n in range(len(labels)))
    sizes = [len(fold) for _, fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for label in "abc":
        shares = Counter(sum(example.label == label for example in fold) for _, fold in folds)
        assert max(shares) - min(shares) <= 1
    assert all(stays + fold and not {*stays} & {*fold} for stays, fold in folds)


def test_whole_groups_are_held_out_whole():
    examples = [LabelledText(str(number), None, f"article {number % 7}", "") for number in range(40)]
    for divide in (lambda: fold_of(examples, 1, 3, whole_groups=True), lambda: hold_out_groups(examples, 0.3)):
        stays, held_out = divide()
        assert len(stays) + len(held_out) == 40 and held_out
        assert not {example.label for example in stays} & {example.label for example in held_out}
    with pytest.raises(DataError, match="7 texts make no 8 folds"):
        fold_of(examples, 0, 8, whole_groups=True)
