"""Every objective walks `bertkit pretrain` with a family that it trains, and its runs keep the Trainer's promises."""

import contextlib
import json

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from bertkit.cli import main
from bertkit.models import FAMILIES, load_model
from bertkit.objectives import OBJECTIVES
from tests.training.runs import NO_DROPOUT, assert_close, assert_same_bits, assert_same_course, log_of, losses_of
from tests.training.test_resuming import AUTO, Killed, kill_at

BERT = {f"model.{name}": None for name in ("num_attention_heads", "intermediate_size", "num_hidden_layers")}
PAIRS = {
    "objective.name": "seq2seq",
    "objective.block_size": None,
    "objective.max_source_length": 24,
    "objective.max_target_length": 24,
}
ROADS = {
    "masked": {},
    "causal gpt": {"objective.name": "causal", "model.family": "gpt"},
    "causal rnn": {"objective.name": "causal", "model.family": "rnn", **BERT},
    "causal rnn, state carried": {
        "objective.name": "causal",
        "objective.carry_state": "true",
        "objective.block_size": 16,
        "model.family": "rnn",
        **BERT,
    },
    "bidirectional": {"objective.name": "bidirectional", "model.family": "elmo", "model.preset": "tiny", **BERT},
    "seq2seq transformer": {**PAIRS, "model.family": "transformer", "model.num_hidden_layers": None},
    "seq2seq rnn": {**PAIRS, "model.family": "rnn_seq2seq", **BERT},
}
EACH = {"training.max_steps": 6, "training.logging_steps": 1, "training.save_steps": 2, "training.train_batch_size": 7,
        "training.eval_batch_size": 6, "training.learning_rate": 0.003}  # fmt: skip
EVERY = pytest.mark.parametrize("road", ROADS)


@pytest.fixture(scope="module")
def pairs_file(corpus_file, tmp_path_factory):
    """Write every line of the corpus, shortened, beside its words in reverse order."""
    words = [line.split()[:8] for line in corpus_file.read_text().splitlines() if line]
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(f"{' '.join(line)}\t{' '.join(reversed(line))}\n" for line in words))
    return path


@pytest.fixture(scope="module")
def walk(run, pairs_file):
    """Return a function: road and settings -> the folder of a finished run."""

    def walk(road, output_dir=None, **settings):
        chosen = EACH | ROADS[road] | settings
        if road.startswith("seq2seq"):
            chosen["data.train"] = pairs_file
        return run(output_dir, **chosen)

    return walk


@pytest.fixture(scope="module")
def unbroken(walk):
    found = {}

    def of(road):
        if road not in found:
            found[road] = walk(road, **{"training.micro_batch_size": 3})
        return found[road]

    return of


def test_every_objective_has_a_road():
    assert {settings.get("objective.name", "masked") for settings in ROADS.values()} == set(OBJECTIVES)


@EVERY
def test_a_killed_run_ends_with_the_bits_and_the_log_of_an_unbroken_one(walk, unbroken, tmp_path, road):
    for step, micro in ((3, 1), (5, 0)):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step, micro)
            with contextlib.suppress(Killed):
                walk(road, tmp_path / "run", **{"training.micro_batch_size": 3}, **AUTO)
    walk(road, tmp_path / "run", **{"training.micro_batch_size": 3}, **AUTO)
    assert_same_bits(unbroken(road), tmp_path / "run")
    assert losses_of(unbroken(road)) == losses_of(tmp_path / "run")
    for name in ("batches", "tokens_seen", "eval_loss"):
        assert log_of(unbroken(road), name) == log_of(tmp_path / "run", name), name


@EVERY
def test_the_micro_batch_size_changes_nothing_but_rounding(walk, road):
    without = NO_DROPOUT if road in ("masked", "causal gpt") else {"model.hidden_dropout_prob": 0.0}
    whole, parts = (walk(road, **without, **{"training.micro_batch_size": size}) for size in (7, 2))
    assert_same_course(whole, parts, rel=1e-4)
    assert_close(whole, parts, tolerance=1e-3)


@EVERY
def test_a_run_reports_its_measures_and_its_checkpoint_knows_how_texts_begin_and_end(unbroken, road):
    folder = unbroken(road) / "last"
    state = json.loads((folder / "state" / "trainer_state.json").read_text())
    objective = OBJECTIVES[ROADS[road].get("objective.name", "masked")]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arguments = objective.arguments_class(**{} if road != "causal rnn, state carried" else {"carry_state": True})
    built = objective(arguments, tokenizer)
    for name in built.metric_names:
        assert f"eval_{name}" in state["metrics"]
    if road != "masked":
        assert any("bits_per_" in name for name in state["metrics"])
    config = AutoConfig.from_pretrained(folder)
    for name, value in built.config_settings.items():
        assert getattr(config, name) == value, name
    assert type(load_model(folder, built.auto_class)).__name__ == config.architectures[0]
    assert f"pipeline_tag: {built.pipeline_tag}" in (folder / "README.md").read_text()
    has_state = (folder / "state" / "carried_state.safetensors").is_file()
    assert has_state == built.carries_state
    if has_state:
        assert all(len(tensor) == 7 for tensor in load_file(folder / "state" / "carried_state.safetensors").values())


@pytest.mark.parametrize(
    ("road", "settings", "message"),
    [
        ("causal gpt", {"objective.carry_state": "true"}, "GptForCausalLM has no recurrent state"),
        ("causal gpt", {"model.family": "gtp"}, "unknown model family 'gtp'"),
        ("causal gpt", {"objective.block_size": 5000}, "raise model.max_position_embeddings"),
        (
            "causal rnn, state carried",
            {"training.train_batch_size": 70000},
            "let fewer rows go on (training.train_batch_size",
        ),
        (
            "causal rnn, state carried",
            {"training.train_batch_size_start": 2, "training.batch_size_warmup_steps": 3},
            "the batch cannot grow",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(pretrain_options, tmp_path, capsys, road, settings, message):
    from bertkit.cli import main

    assert main(["pretrain", *pretrain_options(tmp_path / "run", **EACH | ROADS[road] | settings)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_family_of_another_objective_is_refused_by_name_before_anything_is_read(tmp_path, capsys, objective):
    from bertkit.cli import main

    needed = ["--output_dir", str(tmp_path / "run"), "--tokenizer", "nowhere", "--data.train", "nowhere"]
    pretrained = {name for name, family in FAMILIES.items() if family.made_by == "pretrain"}
    for family in pretrained - set(OBJECTIVES[objective].families):
        given = [] if family == "bert" else ["--model.family", family]  # the default is as wrong as any other
        assert main(["pretrain", *needed, "--objective.name", objective, *given]) == 2
        [line] = capsys.readouterr().err.splitlines()
        [fitting] = [name for name, other in OBJECTIVES.items() if family in other.families]
        assert f"model.family {family} is trained by objective.name {fitting}, not {objective}, which trains " in line
        assert line.endswith(" and ".join(OBJECTIVES[objective].families))


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.made_by != "pretrain"])
def test_a_family_that_nothing_pretrains_is_refused_before_anything_is_read(tmp_path, capsys, family):
    from bertkit.cli import main

    needed = ["--output_dir", str(tmp_path / "run"), "--tokenizer", "nowhere", "--data.train", "nowhere"]
    assert main(["pretrain", *needed, "--model.family", family]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"model.family {family} is made by `bertkit {FAMILIES[family].made_by}`, and no objective trains it" in line
    assert family not in line.partition("choose from ")[2] and "bert" in line.partition("choose from ")[2]


@pytest.mark.parametrize(
    ("road", "settings", "message"),
    [
        ("seq2seq rnn", {"model.attention_type": "bahdanau"}, "unknown attention_type 'bahdanau'; choose from none, "),
        ("causal gpt", {"model.hidden_size": 33}, "hidden_size"),
        ("causal gpt", {"objective.block_size": 5000}, "raise model.max_position_embeddings"),
        ("masked", {"model.hiden_size": 32}, "did you mean 'hidden_size'?"),
        ("masked", AUTO | {"model.hidden_size": 64}, "model.hidden_size is 64, but "),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_the_text_is_read(
    unbroken, pretrain_options, tmp_path, capsys, road, settings, message
):
    from bertkit.cli import main

    run = unbroken(road) if settings.keys() & AUTO.keys() else tmp_path / "run"
    options = pretrain_options(run, **EACH | ROADS[road] | settings | {"data.train": tmp_path / "nowhere.txt"})
    assert main(["pretrain", *options]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line and "nowhere" not in line


def test_a_run_that_goes_on_is_refused_a_family_of_another_objective(unbroken, pretrain_options, capsys):
    from bertkit.cli import main

    for settings in ({"model.family": "gpt"}, ROADS["bidirectional"] | {"model.family": "bert"}):
        assert main(["pretrain", *pretrain_options(unbroken("masked"), **EACH | settings | AUTO)]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert f"model.family {settings['model.family']} is trained by objective.name " in line


def test_pairs_that_cannot_be_evaluated_end_the_run_before_its_first_step(
    pretrain_options, pairs_file, tmp_path, capsys
):
    held_out = tmp_path / "held_out.tsv"
    held_out.write_text("a source without its target\t\n")
    settings = {**EACH, **ROADS["seq2seq rnn"], "data.train": pairs_file, "data.eval": held_out}
    settings |= {"data.eval_fraction": None}
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert "held_out.tsv: 0 of 1 are used" in complaint
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@EVERY
def test_the_tokenizer_of_a_checkpoint_gives_what_the_model_takes(unbroken, road):
    folder = unbroken(road) / "last"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), load_model(folder, _head(road))
    encoded = tokenizer("the of and", return_tensors="pt")
    ids = encoded["input_ids"][0].tolist()
    assert ids[0] == tokenizer.cls_token_id
    assert (ids[-1] == tokenizer.sep_token_id) == (not road.startswith("causal"))
    assert tokenizer.padding_side == ("left" if road.startswith("causal") else "right")
    if model.can_generate():
        how = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
        texts, alone = ["the of and", "the"], []
        for text in texts:
            generated = model.generate(**tokenizer(text, return_tensors="pt"), **how)
            assert generated.shape[0] == 1 and generated.shape[1] > 1
            alone += tokenizer.batch_decode(generated, skip_special_tokens=True)
        together = model.generate(**tokenizer(texts, padding=True, return_tensors="pt"), **how)
        assert tokenizer.batch_decode(together, skip_special_tokens=True) == alone
    else:
        model(**encoded)


def _head(road):
    if road == "masked":
        return "AutoModelForPreTraining"
    return OBJECTIVES[road.split()[0]].auto_class
