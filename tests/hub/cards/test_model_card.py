"""Model cards: the metadata is what the Hub indexes, what they say was measured, and the code in them runs."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard as HubCard

from bertkit.cli import main
from bertkit.hub.cards.logged_losses import LoggedLosses
from bertkit.hub.cards.model_card import ModelCard
from bertkit.tasks import TASKS
from bertkit.training.checkpointing import TrainerState

RECIPE = {
    "output_dir": "/home/carol/runs/tiny",
    "data": {"train": ["/home/carol/text.txt", "hub:nyu-mll/glue:sst2@train"], "eval": None, "cache_dir": "/scratch/c"},
    "model": {"family": "bert"},
    "training": {"hub_license": "cc-by-sa-4.0"},
}
STATE = TrainerState(
    global_step=1200,
    tokens_seen=5_000,
    elapsed_seconds=5400,
    evaluated_step=1100,
    metrics={"train_loss": 2.5, "eval_loss": 2.25, "eval_perplexity": float("inf"), "eval_accuracy": 0.5},
)


def card_of(**changes):
    recipe = {**RECIPE, **changes.pop("recipe", {})}
    settings = {
        "auto_class": "AutoModelForMaskedLM",
        "pipeline_tag": "fill-mask",
        "language": "no",
        "parameters": 1234,
        "data": {"train": {"words": 900, "tokens": 2_000}, "eval": {"words": 90}},
        "floor": 4.0,
        "floor_metric": "eval_loss",
    }
    return ModelCard(**{**settings, **changes}, recipe=yaml.safe_dump(recipe))


def render(card, state=STATE, losses=None, *, has_picture=False):
    return HubCard(card.render(state, losses or LoggedLosses({}, {}), has_picture=has_picture))


def test_the_metadata_is_what_the_hub_indexes():
    data = render(card_of()).data
    assert (data.library_name, data.pipeline_tag, data.language) == ("transformers", "fill-mask", "no")
    assert (data.license, data.datasets, data.model_name) == ("cc-by-sa-4.0", ["nyu-mll/glue"], "tiny")
    assert data.tags == ["bertkit", "bert"] and data.base_model is None
    results = {result.metric_type: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {"loss": 2.25, "accuracy": 0.5}
    assert data.metrics == ["loss", "accuracy"]  # what is no number is no result
    assert results["loss"].dataset_name == "text.txt, held-out part" and results["loss"].task_type == "fill-mask"


def test_what_is_not_known_is_left_out():
    recipe = {"training": {"hub_license": None}, "data": {"train": "/home/carol/text.txt", "eval": None}}
    card = render(card_of(recipe=recipe, language=None), TrainerState(global_step=3))
    assert set(card.data.to_dict()) == {"library_name", "pipeline_tag", "tags"}
    assert "whose language no one named" in card.text
    assert "Not evaluated yet." in card.text and "## Losses" not in card.text and "None" not in card.text


def test_the_text_says_what_was_measured_and_no_local_path():
    card = render(card_of())
    assert "1,234 parameters" in card.text and "step 1,200, 5,000 tokens seen" in card.text
    assert "The tokens seen are 2.50 times those of the training part." in card.text
    assert "| eval_loss | 2.2500 |" in card.text and "On the evaluation part at step 1,100" in card.text
    assert "1.50 hours of training" in card.text and " on the CPU, " in card.text and "torch" in card.text
    assert "train: `text.txt, hub:nyu-mll/glue:sst2@train`" in card.text
    assert "was held out of the source of its training only" in card.text and "it has learned little" not in card.text
    assert "it has learned little" in render(card_of(floor=2.25)).text
    assert not re.search("carol|scratch|/home", card.content)
    recipe = yaml.safe_load(card.text.partition("```yaml\n")[2].partition("```")[0])
    assert recipe["output_dir"] == "tiny" and recipe["data"]["cache_dir"] is None
    elsewhere = render(card_of(recipe={"data": {"train": "a.txt", "eval": "hub:wikitext"}}))
    assert (
        "on text of a source of its own" in elsewhere.text and elsewhere.data.eval_results[0].dataset_type == "wikitext"
    )


@pytest.mark.parametrize(("start", "based"), [("google/bert", "google/bert"), ("/home/carol/runs/mlm/best", None)])
def test_a_model_trained_further_names_what_it_comes_from(start, based):
    card = render(card_of(recipe={"model": {"from": start}}))
    assert card.data.base_model == based
    assert f"trained further from {f'`{based}`' if based else 'a local checkpoint, `best`'}" in card.text
    fresh = render(card_of(recipe={"model": {"from": start}, "from_scratch": True}))
    assert fresh.data.base_model is None and "further" not in fresh.text


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_card_that_the_hub_reads(name):
    task = TASKS[name]
    changes = {"auto_class": task.auto_class, "pipeline_tag": task.pipeline_tag, "data": {"train": {"examples": 120}}}
    card = render(card_of(**changes, recipe={"task": {"name": name}}))
    assert card.data.pipeline_tag == task.pipeline_tag and len(card.data.eval_results) == 2
    assert f"for the task {name}" in card.text and "120 examples" in card.text
    assert f"from transformers import {task.auto_class}" in card.text


def test_losses_are_a_table_and_a_picture_where_it_can_be_drawn(tmp_path, monkeypatch):
    entries = [{"step": step, "train_loss": 5 - step / 100, "tokens_per_second": 1.0} for step in range(10, 210, 10)]
    entries += [{"step": step, "eval_loss": 5.5 - step / 100} for step in (75, 150, 300)]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    losses = LoggedLosses.read(tmp_path / "log.jsonl", up_to=200)
    assert (max(losses.train), max(losses.evaluation)) == (200, 150)
    rows = losses.table().splitlines()
    assert rows[2] == "| 10 | 4.9000 |  |" and "| 150 | 3.5000 | 4.0000 |" in rows and rows[-1].startswith("| 200 |")
    assert len(rows) <= 2 + 10 + 2
    assert losses.draw(tmp_path) and (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    text = render(card_of(), losses=losses, has_picture=True).text
    assert "![losses by step](losses.png)" in text and rows[2] in text
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert not losses.draw(tmp_path / "nowhere")
    assert "losses.png" not in render(card_of(), losses=losses).text


def test_an_averaged_checkpoint_claims_no_results_of_another(pretrain_options, tmp_path):
    run = tmp_path / "run"
    assert main(["pretrain", *pretrain_options(run, **{"training.save_steps": 3})]) == 0
    assert main(["average", str(run), "--last", "2", "--output", str(tmp_path / "mean")]) == 0
    assert HubCard.load(run / "last" / "README.md").data.eval_results
    card = HubCard.load(tmp_path / "mean" / "README.md")
    assert card.data.eval_results is None and card.data.metrics is None and card.data.pipeline_tag == "fill-mask"
    assert "The weights are the mean of checkpoint-3, checkpoint-6. The results are those of checkpoint-6" in card.text


def test_the_code_in_a_card_runs_as_it_stands(hub, pretrain_options, bertkit_with, python_with, tmp_path):
    options = pretrain_options(tmp_path / "run", **{"training.push_to_hub": "tiny", "training.logging_steps": 2})
    assert bertkit_with(hub, "pretrain", *options).returncode == 0
    files = hub.main_files("alice/tiny")
    assert files["losses.png"].startswith(b"\x89PNG")
    alone, with_bertkit, pipeline = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.DOTALL)
    assert "this-folder" not in alone + with_bertkit + pipeline
    python_with(hub, with_bertkit + "assert type(model).__module__.startswith('bertkit.models')", with_bertkit=True)
    printed = python_with(hub, f"{alone}{pipeline}")
    assert "token_str" in printed
