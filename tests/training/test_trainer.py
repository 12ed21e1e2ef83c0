"""The Trainer's promises, kept by real runs of a tiny BERT."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bertkit.cli import main
from tests.training.runs import NO_DROPOUT, assert_close, assert_same_bits, finish, launch, losses_of, tensors_of

SHIPPED_TOKENIZER = Path(__file__).parents[2] / "tokenizer" / "wordpiece-wikipedia-4k"


def test_a_resumed_run_ends_with_the_bits_of_an_unbroken_one(run, tmp_path):
    settings = {"training.max_steps": 12, "training.logging_steps": 1, "objective.mlm_probability_end": 0.3}
    unbroken = run(**settings, **{"training.micro_batch_size": 3})
    broken = tmp_path / "broken"
    # One epoch of this corpus is shorter than 12 steps: the break and the end lie in different epochs.
    run(
        broken, **settings, **{"training.micro_batch_size": 3, "training.save_steps": 5, "training.save_total_limit": 9}
    )
    (broken / "last").unlink()
    for step in (10, 12):
        subprocess.run(["rm", "-r", broken / f"checkpoint-{step}"], check=True)
    run(broken, **settings, **{"training.micro_batch_size": 3, "training.resume_from_checkpoint": "auto"})
    assert_same_bits(unbroken, broken)
    assert losses_of(unbroken) == losses_of(broken)


def test_a_finished_run_that_is_asked_to_go_on_keeps_its_weights(run):
    finished = run()
    before = tensors_of(finished)
    run(finished, **{"training.resume_from_checkpoint": "auto"})
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(finished).items())


@pytest.mark.parametrize("micro_batch_size", [1, 3, 5])
def test_the_micro_batch_size_changes_nothing_but_rounding(run, micro_batch_size):
    whole = run(**NO_DROPOUT)
    parts = run(**NO_DROPOUT, **{"training.micro_batch_size": micro_batch_size})
    assert_close(whole, parts, tolerance=3e-5)


def test_another_seed_trains_another_model(run):
    one, other = (tensors_of(run(**{"training.seed": seed})) for seed in (0, 1))
    assert not torch.equal(
        one["model.embeddings.word_embeddings.weight"], other["model.embeddings.word_embeddings.weight"]
    )


def test_two_processes_train_as_one_does(run, pretrain_options, tmp_path):
    settings = {
        **NO_DROPOUT,
        "training.logging_steps": 1,
        "training.micro_batch_size": 3,
        "training.train_batch_size": 9,
    }
    alone = run(**settings)
    process = launch(pretrain_options(tmp_path / "two", **settings, quiet="false"), processes=2)
    output = finish(process)
    assert "2 process(es)" in output
    assert_close(alone, tmp_path / "two")
    for (step, loss), (step_of_two, loss_of_two) in zip(losses_of(alone), losses_of(tmp_path / "two"), strict=True):
        assert step == step_of_two and loss_of_two == pytest.approx(loss, rel=1e-5)
    metrics = [
        json.loads((d / "last/state/trainer_state.json").read_text())["metrics"] for d in (alone, tmp_path / "two")
    ]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_and_ends_the_run_which_then_goes_on_to_the_same_bits(run, pretrain_options, tmp_path, number):
    settings = {"training.max_steps": 200}
    broken = tmp_path / "broken"
    process = launch(pretrain_options(broken, **settings, **{"training.logging_steps": 1}, quiet="false"))
    for line in process.stdout:
        if "training:" in line and "loss" in line:
            break
    process.send_signal(number)
    output = finish(process)
    assert f"stopped by {number.name}" in output
    step = json.loads((broken / "last/state/trainer_state.json").read_text())["global_step"]
    assert 0 < step < 200
    run(broken, **settings, **{"training.resume_from_checkpoint": "auto"})
    run(tmp_path / "unbroken", **settings)
    assert_same_bits(tmp_path / "unbroken", broken)


def test_the_loss_of_a_step_is_the_mean_over_all_its_labels_not_the_mean_of_its_parts(run, monkeypatch):
    """The oracle: the same weights and examples with dense labels, summed and divided by hand."""
    from bertkit.models import load_model
    from bertkit.training import trainer as module

    seen = []
    original = module.Trainer.training_step

    def remember(self, micro_batches, counts):
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        original(self, micro_batches, counts)
        seen.append((weights, micro_batches, self.losses.unread[0].read()))

    monkeypatch.setattr(module.Trainer, "training_step", remember)
    output_dir = run(**NO_DROPOUT, **{"training.max_steps": 1, "training.micro_batch_size": 3})
    weights, micro_batches, losses = seen[0]
    assert len(micro_batches) == 3
    model = load_model(output_dir / "last", "AutoModelForPreTraining")
    model.load_state_dict(weights)
    sums, counts = torch.zeros(2), torch.zeros(2)
    for batch in micro_batches:
        labels = torch.full(batch["input_ids"].shape, -100)
        real = batch["labels"] != -100
        labels.view(-1)[batch["label_positions"][real]] = batch["labels"][real]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids", "position_ids")}
        outputs = model(**inputs)
        pairs = batch["next_sentence_label"][: len(outputs.seq_relationship_logits)]
        sums += torch.stack(
            [
                F.cross_entropy(outputs.prediction_logits.flatten(0, 1), labels.flatten(), reduction="sum"),
                F.cross_entropy(outputs.seq_relationship_logits, pairs, reduction="sum"),
            ]
        )
        counts += torch.tensor([real.sum(), (pairs != -100).sum()])
    mlm_loss, next_sentence_loss = (sums / counts).tolist()
    assert losses == pytest.approx([mlm_loss + next_sentence_loss, mlm_loss, next_sentence_loss], rel=1e-5)


def test_the_floor_is_said_at_the_start_and_whether_the_model_got_under_it_at_the_end(run, capsys):
    run(quiet="false")
    few = capsys.readouterr().out
    assert "unigram entropy of the labels: " in few and "NOT under the floor" in few
    floor = float(few.split("unigram entropy of the labels: ")[1].split()[0])
    more = {"training.max_steps": 400, "training.train_batch_size": 16, "training.learning_rate": 0.004}
    output_dir = run(
        quiet="false", **NO_DROPOUT, **more, **{"objective.next_sentence": "false", "model.hidden_size": 64}
    )
    enough = capsys.readouterr().out
    loss = json.loads((output_dir / "last/state/trainer_state.json").read_text())["metrics"]["eval_loss"]
    assert loss < floor
    assert f"evaluation loss {loss:.4f}: under the floor" in enough


def test_quiet_says_nothing(run, capsys):
    run()
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


def test_a_time_budget_ends_the_run_and_a_resumed_run_counts_the_time_spent(run, tmp_path):
    started = time.monotonic()
    settings = {"training.max_steps": "null", "training.logging_steps": 1}
    run(tmp_path / "run", **settings, **{"training.max_time": "4s"})
    assert 4 <= time.monotonic() - started < 30
    state = json.loads((tmp_path / "run/last/state/trainer_state.json").read_text())
    assert 3.5 < state["elapsed_seconds"] < 6 and state["global_step"] > 5
    rates = [json.loads(line).get("learning_rate") for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    rates = [rate for rate in rates if rate is not None]
    assert max(rates) > 0.005 and rates[-1] < 0.002  # risen, and fallen with the time left
    started = time.monotonic()
    run(tmp_path / "run", **settings, **{"training.max_time": "4s", "training.resume_from_checkpoint": "auto"})
    resumed = json.loads((tmp_path / "run/last/state/trainer_state.json").read_text())
    assert resumed["global_step"] <= state["global_step"] + 3


def test_a_loss_that_is_not_a_number_stops_the_run_in_one_line(pretrain_options, tmp_path, capsys):
    options = pretrain_options(tmp_path, **{"training.learning_rate": 1e30, "training.max_grad_norm": "null"})
    assert main(["pretrain", *options]) == 2
    assert "the loss is nan at step" in capsys.readouterr().err


def test_best_and_last_are_kept_whatever_the_limit_and_the_links_lead_to_them(run):
    settings = {"training.max_steps": 10, "training.save_steps": 2, "training.save_total_limit": 1}
    # A rate that ruins the model after a good start: the best checkpoint is an early one.
    output_dir = run(**settings, **{"training.warmup_steps": 10, "training.learning_rate": 3.0})
    best, last = (output_dir / "best").resolve(), (output_dir / "last").resolve()
    assert last.name == "checkpoint-10" and best.name != "checkpoint-10"
    assert {folder.name for folder in output_dir.glob("checkpoint-*")} == {best.name, last.name}
    logged = [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]
    evaluated = {line["step"]: line["eval_loss"] for line in logged if "eval_loss" in line}
    assert set(evaluated) == {2, 4, 6, 8, 10}
    assert f"checkpoint-{min(evaluated, key=evaluated.get)}" == best.name


def test_a_checkpoint_is_safetensors_json_and_text_alone(run):
    names = {path.relative_to(folder) for folder in [run() / "last"] for path in folder.rglob("*") if path.is_file()}
    assert {path.suffix for path in names} <= {".safetensors", ".json", ".py", ".md", ".yaml", ".txt"}
    expected = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "recipe.yaml", "modeling_bert.py"}
    assert expected <= {path.name for path in names}


def test_the_saved_recipe_trains_the_same_model_again(run, tmp_path):
    first = run(**{"training.max_grad_norm": "null"})  # what was taken away stays away
    main(["pretrain", "--config", str(first / "last" / "recipe.yaml"), "--output_dir", str(tmp_path / "again")])
    assert_same_bits(first, tmp_path / "again")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training.max_steps": "null"}, "how long to train"),
        ({"training.train_batch_size": "many"}, "training.train_batch_size is 'many'"),
        ({"training.metric_for_best_model": "bleu"}, "the evaluation gives loss, mlm_loss"),
        ({"training.resume_from_checkpoint": "nowhere"}, "there is no folder nowhere"),
        ({"objective.block_size": 600}, "model.max_position_embeddings"),
        ({"model.hidden_sise": 3}, "did you mean 'hidden_size'"),
        ({"model.family": "bart"}, "choose from rnn, "),
        ({"model.vocab_size": 10}, "model.vocab_size is 10"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_no_checkpoint(
    pretrain_options, tmp_path, capsys, settings, message
):
    assert main(["pretrain", *pretrain_options(tmp_path / "run", **settings)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_a_fresh_start_never_overwrites_another_run(run, pretrain_options, capsys):
    finished = run()
    assert main(["pretrain", *pretrain_options(finished)]) == 2
    assert "already holds checkpoint-6" in capsys.readouterr().err


def test_a_torn_log_and_a_half_written_checkpoint_do_not_stop_a_run_from_going_on(run, tmp_path):
    whole = run(tmp_path / "whole", **{"training.save_steps": 3, "training.logging_steps": 1})
    with (whole / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "train_lo')
    (whole / ".checkpoint-9.123" / "state").mkdir(parents=True)
    (whole / "checkpoint-6").rename(whole / ".replaced-checkpoint-6.123")
    run(whole, **{"training.logging_steps": 1, "training.max_steps": 8, "training.resume_from_checkpoint": "auto"})
    assert [step for step, _ in losses_of(whole)] == list(range(1, 9))
    assert not list(whole.glob(".*checkpoint*"))


def test_going_back_behind_a_newer_checkpoint_is_refused(run, pretrain_options, capsys):
    output_dir = run(**{"training.save_steps": 2})
    older = output_dir / "checkpoint-4"
    assert main(["pretrain", *pretrain_options(output_dir, **{"training.resume_from_checkpoint": older})]) == 2
    assert "already holds checkpoint-6" in capsys.readouterr().err
    assert (output_dir / "last").resolve().name == "checkpoint-6"


def test_a_run_that_goes_on_elsewhere_leaves_the_first_alone_and_chooses_its_own_best(run, tmp_path):
    first = run()
    before = sorted(path.name for path in first.iterdir())
    settings = {"training.max_steps": 9, "training.resume_from_checkpoint": first / "last"}
    second = run(tmp_path / "second", **settings)
    assert (second / "best").resolve().name == "checkpoint-9"
    assert sorted(path.name for path in first.iterdir()) == before


def test_dropout_may_change_when_a_run_goes_on_and_the_shape_may_not(run, pretrain_options, capsys):
    output_dir = run()
    settings = {"training.max_steps": 8, "training.resume_from_checkpoint": "auto"}
    options = pretrain_options(output_dir, **settings, **{"model.intermediate_size": 128})
    assert main(["pretrain", *options]) == 2
    assert "model.intermediate_size is 128" in capsys.readouterr().err
    run(output_dir, **settings, **{"model.hidden_dropout_prob": 0.3})
    assert json.loads((output_dir / "last/config.json").read_text())["hidden_dropout_prob"] == 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer": SHIPPED_TOKENIZER}, "is not the one that"),
        ({"objective.next_sentence": "false"}, "is of AutoModelForPreTraining and not of AutoModelForMaskedLM"),
    ],
)
def test_a_run_goes_on_with_its_own_tokenizer_and_objective_only(run, pretrain_options, capsys, settings, message):
    output_dir = run()
    options = {"training.max_steps": 8, "training.resume_from_checkpoint": "auto", **settings}
    assert main(["pretrain", *pretrain_options(output_dir, **options)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and str(output_dir / "checkpoint-6") in error


def test_processes_that_prepare_batches_change_nothing(run):
    settings = {"objective.mlm_probability_end": 0.3}
    assert_same_bits(run(**settings), run(**settings, **{"training.dataloader_num_workers": 2}))


def test_an_interrupt_of_the_whole_process_group_saves_too(pretrain_options, tmp_path):
    settings = {"training.max_steps": 3000, "training.logging_steps": 1, "training.dataloader_num_workers": 2}
    process = launch(pretrain_options(tmp_path, **settings, quiet="false"), start_new_session=True)
    for line in process.stdout:
        if "training:" in line and "loss" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    assert "stopped by SIGINT" in finish(process)
    assert (tmp_path / "last" / "model.safetensors").is_file()


def test_a_compiled_model_saves_the_names_of_the_plain_one(run, tmp_path):
    from accelerate import Accelerator

    from bertkit.models import load_model
    from bertkit.training.arguments import TrainingArguments
    from bertkit.training.checkpointing import TrainerState, load_optimizer_state, save_checkpoint
    from bertkit.training.optimization import build_optimizer

    plain = load_model(run() / "last", "AutoModelForPreTraining")
    accelerator = Accelerator()
    compiled = torch.compile(plain)  # compiles nothing before its first forward
    groups = {"whole": [name for name, _ in compiled.named_parameters()]}
    optimizer = build_optimizer(compiled, TrainingArguments(), groups)
    save = {"accelerator": accelerator, "state": TrainerState(global_step=1), "write_extras": lambda folder: None}
    folder = save_checkpoint(tmp_path, model=compiled, optimizer=optimizer, **save)
    load_optimizer_state(folder, model=compiled, optimizer=optimizer)
    loaded = load_model(folder, "AutoModelForPreTraining").state_dict()
    assert loaded.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in plain.state_dict().items())
