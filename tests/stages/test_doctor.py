"""`bertkit doctor` finds what was put into the data, and nothing where nothing is wrong."""

import random

import pytest

from bertkit.cli import main
from bertkit.data.health import num_near_duplicates
from tests.training.runs import finish, launch


@pytest.fixture
def doctor(capsys):
    """Return a function: options -> exit code, lines of the report, and what was said on stderr."""

    def run(options, verdict=0):
        assert main(["doctor", *map(str, options)]) == verdict
        captured = capsys.readouterr()
        return captured.out, captured.err

    return run


def findings(report, verdict):
    return [line for line in report.splitlines() if line.startswith(verdict)]


@pytest.fixture
def pretraining(pretrain_options, tmp_path):
    def options(text=None, **settings):
        if text is not None:
            (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
            settings["data.train"] = tmp_path / "corpus.txt"
        return pretrain_options(tmp_path / "run", **settings)

    return options


def test_a_sound_recipe_gets_no_warning_and_nothing_is_written(doctor, pretraining, tmp_path):
    report, _ = doctor(pretraining(**{"training.max_steps": 90}))
    assert findings(report, "warning") == findings(report, "stop") == []
    assert "nothing says stop; 0 warnings" in report
    assert "tokens    documents" in report and "tokens    sentences" in report
    said = [line.split(maxsplit=1)[1] for line in findings(report, "ok")]
    for subject in [
        "size",
        "unknown",
        "vocabulary",
        "next-sentence",
        "limits",
        "encoding",
        "language",
        "duplicates",
        "training",
        "memory",
    ]:
        assert any(line.startswith(subject.replace("-", " ")) for line in said), subject
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_a_corpus_is_found(doctor, pretraining, corpus_file):
    documents = corpus_file.read_text().split("\n\n")
    near = documents[1].replace("ba", "be", 1)
    bad = ["Ceci est trÃ¨s mal dÃ©codÃ©, hÃ©las pour Ã§a.\nEt encore une phrase."] * 1
    text = "\n\n".join([*documents, documents[0], documents[0], near, documents[2] + " Ba.", *bad * 5]) + "\n"
    report, _ = doctor(pretraining(text))
    warnings = "\n".join(findings(report, "warning"))
    assert "documents are exact duplicates of others" in warnings
    assert "documents are near duplicates" in warnings
    assert "look decoded twice" in warnings


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("여러 문장이 있다. 둘째 문장이다.\n\n" * 8, {}, "the tokenizer cannot read this text"),
        (
            "A line.\n\nAnother line.\n\n" * 9,
            {},
            "that needs several documents, and two sentences a document on average",
        ),
        (None, {"objective.block_size": 600}, "model.max_position_embeddings"),
        (None, {"model.vocab_size": 10}, "model.vocab_size is 10"),
    ],
)
def test_what_cannot_work_says_stop(doctor, pretraining, text, settings, message):
    report, error = doctor(pretraining(text, **settings), verdict=2)
    (stop,) = findings(report, "stop")
    assert message in stop and message in error and "Traceback" not in error
    assert " documents, " in report  # what else there is to say is said, too


def test_letters_of_another_language_are_a_warning(doctor, pretraining):
    report, _ = doctor(pretraining(**{"data.language": "ru"}))
    assert "letters are Latin 100 %; is data.language ru right?" in report


def test_time_epochs_and_size_are_told(doctor, pretraining):
    report, _ = doctor(pretraining(**{"training.max_steps": 100000}))
    (training,) = [line for line in report.splitlines() if "100,000 steps of 8 rows" in line]
    assert training.startswith("warning") and "so many passes are learned by heart" in training
    (size,) = [line for line in report.splitlines() if "a checkpoint takes" in line]
    assert "at most 2 are kept" in size


def test_a_pretraining_that_goes_on_from_a_checkpoint_is_one(doctor, pretraining, checkpoint):
    size = dict.fromkeys(("family", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"))
    settings = {f"model.{name}": value for name, value in size.items()} | {"model.from": checkpoint, "tokenizer": None}
    report, _ = doctor(pretraining(**settings, **{"objective.name": "masked"}))
    assert "6 steps of 8 rows" in report
    report, _ = doctor(pretraining(**{"model.from": "null"}))
    assert "6 steps of 8 rows" in report


@pytest.fixture
def finetuning(checkpoint, reviews):
    def options(**files):
        data = [part for name, path in (reviews | files).items() for part in (f"--data.{name}", path)]
        return ["--model.from", checkpoint, *data, "--task.max_length", 16]

    return options


def test_sound_labelled_texts_get_no_warning(doctor, finetuning):
    report, _ = doctor(finetuning())
    assert findings(report, "warning") == findings(report, "stop") == []
    assert " epochs of 120 examples" in report
    assert "tokens    training texts" in report and "16 tokens at once are asked for, it takes up to" in report


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("pos good film\npos a fine film\n" * 9, [], "one only: pos 18; there is nothing to tell apart"),
        (None, ["--task.max_length", 5000], "task.max_length is 5000"),
    ],
)
def test_labelled_texts_that_cannot_be_learned_from_say_stop(doctor, finetuning, tmp_path, text, settings, message):
    files = {}
    if text is not None:
        (tmp_path / "train.txt").write_text(text)
        files["train"] = files["eval"] = files["test"] = tmp_path / "train.txt"
    report, error = doctor([*finetuning(**files), *settings], verdict=2)
    (stop,) = findings(report, "stop")
    assert message in stop and message in error


def test_what_is_wrong_with_labelled_texts_is_found(doctor, finetuning, reviews, tmp_path):
    lines = reviews["train"].read_text().splitlines()
    other = {"pos": "neg", "neg": "pos"}
    contradictions = [f"{other[line.split()[0]]} {line.split(maxsplit=1)[1]}" for line in lines[:3]]
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("\n".join([*lines, *lines[:5], *contradictions, "rare good", "pos " + "good " * 40]) + "\n")
    test.write_text("\n".join(lines[:20]) + "\n")
    report, _ = doctor(finetuning(train=train, test=test))
    warnings = "\n".join(findings(report, "warning"))
    assert "1 have fewer than 5 training texts, as 'rare'" in warnings
    assert "3 stand in training with different labels" in warnings
    assert "of training are repeated" in warnings
    assert "20 of the 20 of test stand in training too" in warnings


def test_labels_unseen_in_training_say_stop(doctor, finetuning, tmp_path):
    test = tmp_path / "test.txt"
    test.write_text("pos good film\nmixed good and bad\n")
    _, error = doctor(finetuning(test=test), verdict=2)
    assert "test has 1 that training has not, as 'mixed'" in error


def test_near_duplicates_are_those_whose_triples_of_words_are_much_alike():
    generator = random.Random(0)
    texts = [" ".join(generator.choices([f"word{number}" for number in range(500)], k=100)) for _ in range(50)]
    copies = [text.replace(text.split()[50], "changed", 1) for text in texts[:7]]
    assert num_near_duplicates(texts) == 0
    assert num_near_duplicates([*texts, *copies]) == 7


def test_pretraining_says_the_warnings_and_stops_where_nothing_can_be_learned(pretraining, tmp_path, capsys):
    assert main(["pretrain", *pretraining("여러 문장이 있다. 둘째 문장이다.\n\n" * 8)]) == 2
    assert "the tokenizer cannot read this text" in capsys.readouterr().err
    assert not list(tmp_path.glob("run/checkpoint-*"))


ON_SEVERAL = "import sys; from bertkit.cli import main; sys.exit(main(['doctor', *sys.argv[1:]]))"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["corpus", "labelled"])
def test_two_processes_examine_as_one_and_speak_with_one_voice(
    doctor, pretraining, checkpoint, reviews, tmp_path, kind
):
    options = pretraining(**{"training.max_steps": 90})
    if kind == "labelled":
        options = ["--model.from", checkpoint, "--data.train", reviews["train"], "--task.max_length", 16]
    options = [str(option) for option in [*options, "--quiet", "true"]]
    (tmp_path / "doctor.py").write_text(ON_SEVERAL)
    said = finish(launch(options, processes=2, script=tmp_path / "doctor.py"))
    alone, _ = doctor(options)
    for subject in ("size", "training", "memory"):
        count = sum(line.split()[1] == subject for line in findings(alone, "ok"))
        assert sum(line.split()[1] == subject for line in findings(said, "ok")) == count > 0, subject
    assert ", 2 process(es)" in said and said.count("nothing says stop") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_say_stop_once(pretraining, tmp_path):
    (tmp_path / "doctor.py").write_text(ON_SEVERAL)
    options = pretraining(**{"model.vocab_size": 10})
    said = finish(launch(options, processes=2, script=tmp_path / "doctor.py"), returncode=1)
    assert said.count("bertkit doctor: model.vocab_size is 10") == said.count("bertkit doctor: ") == 1
