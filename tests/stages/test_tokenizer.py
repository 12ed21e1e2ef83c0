"""`bertkit tokenizer` leaves a tokenizer, its recipe and a report, and never overwrites another."""

import json

from transformers import AutoTokenizer

from bertkit.cli import main


def test_the_verb_trains_reports_and_refuses_to_overwrite(corpus_file, tmp_path, capsys):
    options = [
        "tokenizer",
        "--data.train",
        str(corpus_file),
        "--output_dir",
        str(tmp_path),
        "--tokenizer.vocab_size",
        "200",
    ]
    assert main(options) == 0
    assert "tokens per word" in capsys.readouterr().out
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 200
    assert json.loads((tmp_path / "tokenizer_report.json").read_text())["words"] > 0
    assert "vocab_size: 200" in (tmp_path / "recipe.yaml").read_text()
    written = (tmp_path / "tokenizer.json").read_bytes()
    assert main(options) == 2
    assert "already holds a tokenizer" in capsys.readouterr().err
    assert (tmp_path / "tokenizer.json").read_bytes() == written


def test_held_out_text_without_a_word_leaves_no_tokenizer_behind(corpus_file, tmp_path, capsys):
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("\ufffd\u200d\n")
    options = [
        "--data.train",
        str(corpus_file),
        "--data.eval",
        str(nothing),
        "--output_dir",
        str(tmp_path / "tokenizer"),
    ]
    assert main(["tokenizer", *options, "--quiet", "true"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "tokenizer").exists()
