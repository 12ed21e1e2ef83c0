"""The rate that is found, and that nothing else comes of the search."""

import csv
import math
import sys
from itertools import pairwise

import pytest

from bertkit.config import load_yaml
from bertkit.training.learning_rate_search import HIGHEST, LOWEST, STEPS, Curve, range_test, write_curve
from tests.training.runs import NO_DROPOUT, assert_same_bits, finish, launch, log_of, losses_of, trainer_state_of
from tests.training.test_resuming import KILLED

AUTO = {"training.resume_from_checkpoint": "auto"}
FIND = {"training.learning_rate": "find", "training.max_steps": 4, "training.save_steps": 2, "training.logging_steps": 1,
        "training.train_batch_size": 4}  # fmt: skip


def falling_at(rate, width=0.3):
    """Return the curve of a loss that falls from 6 to 3 around a rate, as a logistic curve, and then grows."""
    rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)) for step in range(STEPS)]
    fall = [3 / (1 + math.exp(-(math.log10(x) - math.log10(rate)) / width)) for x in rates]
    growth = [max(0.0, math.log10(x) + 1.0) * 20 for x in rates]
    return Curve(rates, [6 - f + g for f, g in zip(fall, growth, strict=True)])


@pytest.mark.parametrize("rate", [1e-5, 3e-4, 1e-2])
def test_the_rate_at_which_the_loss_falls_most_steeply_is_chosen(rate):
    assert falling_at(rate).chosen() == pytest.approx(rate, rel=0.2)


def test_noise_does_not_lead_far_from_it():
    clean = falling_at(1e-3)
    noisy = Curve(clean.rates, [loss + 0.3 * math.sin(7.3 * k * k) for k, loss in enumerate(clean.losses)])
    assert 1 / 3 < noisy.chosen() / 1e-3 < 3


def test_what_batches_differ_by_is_no_fall():
    clean = falling_at(1e-3)
    hard = [4.0 if 16 <= step < 22 else 0.0 for step in range(STEPS)]  # behind these batches it falls more steeply
    curve = Curve(clean.rates, [loss + more for loss, more in zip(clean.losses, hard, strict=True)])
    assert curve.chosen() == clean.chosen()


def test_a_fall_that_is_no_more_than_batches_differ_is_doubted():
    clean = falling_at(1e-3)
    noise = [0.3 * math.sin(7.3 * k * k) for k in range(STEPS)]
    assert clean.doubt() is None
    assert Curve(clean.rates, [loss + more for loss, more in zip(clean.losses, noise, strict=True)]).doubt() is None
    growth = [max(0.0, math.log10(rate) + 1.0) * 20 for rate in clean.rates]
    nothing = Curve(clean.rates, [0.7 + more + grown for more, grown in zip(noise, growth, strict=True)])
    assert 0 < nothing.chosen() < 1 and "the rate found means little; give training.learning_rate" in nothing.doubt()


def test_a_loss_that_only_grows_gives_no_rate():
    curve = falling_at(1e-3)
    with pytest.raises(ValueError, match=r"training\.learning_rate find: .* never fell; give a number"):
        Curve(curve.rates, sorted(curve.losses)).chosen()


def test_the_rates_rise_by_one_factor_and_the_test_ends_when_the_loss_is_out_of_hand():
    asked = []

    def loss_at(step, rate):
        asked.append(rate)
        return 2.0 if rate < 1e-2 else 1000.0

    curve = range_test(loss_at)
    assert asked[0] == LOWEST and asked == curve.rates
    assert {round(math.log(after / before), 9) for before, after in pairwise(asked)} == {round(math.log(1e7) / 99, 9)}
    assert 1e-2 <= asked[-1] < 2e-2
    assert len(range_test(lambda step, rate: 1.0).rates) == STEPS
    assert range_test(lambda step, rate: 1.0 if step < 9 else math.nan).losses == [1.0] * 9
    with pytest.raises(ValueError, match="not finite"):
        range_test(lambda step, rate: math.nan)


def test_the_curve_is_a_table_and_with_matplotlib_a_picture(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    curve = falling_at(1e-3)
    assert write_curve(curve, tmp_path) == str(tmp_path / "learning_rate.png")
    assert (tmp_path / "learning_rate.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "learning_rate.csv").open(encoding="utf-8")))
    assert [float(row["loss"]) for row in rows] == curve.losses
    (tmp_path / "learning_rate.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'bertkit[plot]'" in write_curve(curve, tmp_path)
    assert not (tmp_path / "learning_rate.png").exists()


@pytest.mark.parametrize("more", [{}, {"training.gradual_unfreezing": 2, "training.layer_decay": 0.5}])
def test_a_run_that_finds_its_rate_is_to_the_bit_the_run_that_is_given_it(run, more):
    found = run(**FIND, **more)
    rate = trainer_state_of(found)["found_learning_rate"]
    assert 1e-6 < rate < 1 and log_of(found, "found_learning_rate") == [(0, rate)]
    assert load_yaml(found / "last" / "recipe.yaml")["training"]["learning_rate"] == rate
    assert f"learning_rate: {rate}" in (found / "last" / "README.md").read_text()
    given = run(**FIND | {"training.learning_rate": rate}, **more)
    assert_same_bits(found, given)
    assert losses_of(found) == losses_of(given)
    assert log_of(found, "learning_rate") == log_of(given, "learning_rate")


def test_so_is_one_whose_rows_go_on_from_step_to_step(run):
    rnn = {"objective.name": "causal", "objective.carry_state": "true", "model.family": "rnn", "model.preset": "tiny",
           "model.num_attention_heads": None, "model.intermediate_size": None}  # fmt: skip
    found = run(**FIND, **rnn)
    given = run(**FIND | {"training.learning_rate": trainer_state_of(found)["found_learning_rate"]}, **rnn)
    assert_same_bits(found, given)
    assert losses_of(found) == losses_of(given)


@pytest.mark.slow
def test_processes_agree_and_a_run_that_goes_on_does_not_search_again(run, pretrain_options, tmp_path, capsys):
    settings = {**FIND, **NO_DROPOUT}
    alone = trainer_state_of(run(**settings))["found_learning_rate"]
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(step=3))
    options = pretrain_options(tmp_path / "run", **settings)
    finish(launch(options, processes=2, script=script), returncode=1)
    assert trainer_state_of(tmp_path / "run")["found_learning_rate"] == pytest.approx(alone, rel=0.2)
    before = (tmp_path / "run" / "learning_rate.csv").stat().st_mtime_ns
    run(tmp_path / "run", **settings, **AUTO)
    assert (tmp_path / "run" / "learning_rate.csv").stat().st_mtime_ns == before
    assert "not that of" not in capsys.readouterr().err  # the recipe, though it says find
    [(_, rate)] = log_of(tmp_path / "run", "found_learning_rate")
    assert trainer_state_of(tmp_path / "run")["found_learning_rate"] == rate


def test_a_rate_is_not_searched_for_a_run_that_had_one(run, pretrain_options, tmp_path, capsys):
    from bertkit.cli import main

    run(tmp_path, **FIND | {"training.learning_rate": 0.01})
    assert main(["pretrain", *pretrain_options(tmp_path, **FIND, **AUTO)]) == 2
    assert "was trained at a rate that was given; give a number to go on with" in capsys.readouterr().err
