"""What a run writes down: the same numbers in its log and in the tracker."""

import json

import pytest

from tests.training.runs import log_of


def test_the_tracker_gets_the_numbers_of_the_log(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output_dir = run(**{"training.report_to": "tensorboard", "training.logging_steps": 2})
    accumulator = EventAccumulator(str(output_dir / "bertkit")).Reload()
    for name in ("train_loss", "learning_rate", "eval_loss", "tokens_seen"):
        tracked = [(event.step, event.value) for event in accumulator.Scalars(name)]
        assert tracked == [(step, pytest.approx(value, rel=1e-6)) for step, value in log_of(output_dir, name)]
        assert tracked


def test_every_line_of_the_log_is_json_with_its_step(run):
    lines = (run(**{"training.logging_steps": 1}) / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(steps) and set(steps) == set(range(1, 7))
