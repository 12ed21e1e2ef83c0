"""`bertkit push`, through the real client of the Hub, over HTTP, to a Hub on loopback; and back by `from_pretrained`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from bertkit.cli import main
from bertkit.hub.privacy import find_private, shareable_card
from bertkit.models import build_config, build_model, load_model
from bertkit.training.manifest import write_manifest
from tests.hub.conftest import OTHER, READS_ONLY, TOKEN
from tests.hub.loopback_hub import Refused, serving

NAME = "alice/tiny"

LOGITS = """
import json, sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForMaskedLM

name, flags, output, *revisions = sys.argv[1:]
flags = json.loads(flags)
logits = {}
for revision in revisions:
    model = AutoModelForMaskedLM.from_pretrained(name, revision=revision, **flags).eval()
    with torch.no_grad():
        logits[revision] = model(torch.arange(5, 25)[None]).logits
save_file(logits, output)
print(type(model).__module__)
"""


@pytest.fixture(scope="module")
def run(pretrain_options, tmp_path_factory):
    """A pretraining with two checkpoints."""
    folder = tmp_path_factory.mktemp("home") / "carol" / "runs" / "tiny"
    options = {"training.save_steps": 3, "training.logging_steps": 1}
    assert main(["pretrain", *pretrain_options(folder, **options)]) == 0
    return folder


@pytest.fixture
def checkpoint(run, tmp_path):
    """A copy of the last one, in a home folder, to be broken."""
    return Path(shutil.copytree(run / "last", tmp_path / "home" / "carol" / "runs" / "tiny" / "last"))


def logits_of(folder):
    model = load_model(folder, "AutoModelForMaskedLM").eval()
    with torch.no_grad():
        return model(torch.arange(5, 25)[None]).logits


def refusal(done):
    """Return the one line of an error that a command ended with."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("bertkit push: "), done.stderr
    return lines[0].removeprefix("bertkit push: ")


def test_pushed_checkpoints_come_back_from_the_hub_with_equal_logits(hub, run, bertkit_process, python_with, tmp_path):
    for step, options in ((3, ["--revision", "tokens-3"]), (6, [])):
        done = bertkit_process(hub, "push", run / f"checkpoint-{step}", "tiny", *options)
        assert done.returncode == 0, done.stderr
        assert (
            f"at {hub.url}/alice/tiny, revision {options[1] if options else 'main'}" in done.stdout and not done.stderr
        )
    assert hub.repositories[NAME].private
    for with_bertkit in (True, False):
        output = tmp_path / "logits.safetensors"
        program = f"import bertkit.models\n{LOGITS}" if with_bertkit else LOGITS
        flags = "{}" if with_bertkit else '{"trust_remote_code": true}'
        printed = python_with(hub, program, NAME, flags, output, "tokens-3", "main", with_bertkit=with_bertkit)
        assert printed.startswith("bertkit.models." if with_bertkit else "transformers_modules.")
        loaded = load_file(output)
        for step, revision in ((3, "tokens-3"), (6, "main")):
            assert torch.equal(loaded[revision], logits_of(run / f"checkpoint-{step}"))


def test_bertkit_itself_reads_a_revision_by_an_at_sign(hub, run, bertkit_with, tmp_path):
    assert bertkit_with(hub, "push", run / "checkpoint-3", NAME, "--revision", "tokens-3").returncode == 0
    (tmp_path / "text.txt").write_text("so ba [MASK]\n")
    done = bertkit_with(hub, "predict", f"{NAME}@tokens-3", "text.txt", "--quiet")
    assert done.returncode == 0 and "[MASK]" not in done.stdout and done.stdout, done.stderr
    done = bertkit_with(hub, "predict", f"{NAME}@tokens-4", "text.txt", "--quiet")
    assert done.returncode == 2 and "Revision Not Found" in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_arrives_is_weights_code_tokenizer_card_and_recipe_and_nothing_private(
    hub, checkpoint, bertkit_with, tmp_path
):
    (checkpoint / "adapter").mkdir()
    base = str(tmp_path / "home" / "carol" / "runs" / "base")
    (checkpoint / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 8}))
    (checkpoint / "__pycache__").mkdir()
    (checkpoint / "__pycache__" / "modeling_bert.txt").write_text("bytes")
    (checkpoint / "predictions.jsonl").write_text("{}\n")
    (checkpoint / ".hidden.json").write_text("{}")
    done = bertkit_with(hub, "push", checkpoint, NAME)
    assert done.returncode == 0, done.stderr
    assert ", without predictions.jsonl" in done.stdout
    files = hub.main_files(NAME)
    copied = {path.name for path in checkpoint.glob("modeling_*.py")}
    assert len(copied) > 3
    assert set(files) == {
        *(".gitattributes", "README.md", "recipe.yaml", "config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "adapter/adapter_config.json"),
        *copied,
        *(path.name for path in checkpoint.glob("*.png")),
    }
    private = [str(checkpoint), str(tmp_path), "carol", TOKEN, "optimizer.safetensors", "trainer_state", "pytest-"]
    for path, content in files.items():
        for trace in private:
            assert trace.encode() not in content, (path, trace)
    recipe = yaml.safe_load(files["recipe.yaml"])
    assert (recipe["output_dir"], recipe["data"]["train"]) == ("tiny", "corpus.txt")
    assert yaml.safe_load((checkpoint / "recipe.yaml").read_text())["output_dir"] != "tiny"  # here it runs as it is
    assert recipe["training"] == yaml.safe_load((checkpoint / "recipe.yaml").read_text())["training"]
    assert json.loads(files["adapter/adapter_config.json"]) == {"base_model_name_or_path": "base", "r": 8}
    for name in ("model.safetensors", "config.json", "tokenizer.json", *copied):
        assert files[name] == (checkpoint / name).read_bytes()
    card = ModelCard(files["README.md"].decode())
    assert f'from_pretrained("{NAME}"' in card.text and "this-folder" not in card.text


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("notes.md", "{home}", "a path in the home folder"),
        ("modeling_bert.py", "# see {home}/secret.py", "a path in the home folder"),
        ("notes.txt", "made in /scratch/carol/models", "the user's name, in /scratch/carol/models"),
        ("notes.txt", f"login with {TOKEN}", "what looks like a token"),
        ("generation_config.json", json.dumps({"token": TOKEN}), "what looks like a token"),
        ("notes.txt", "kept in ~/models/best", "a path in the home folder, ~/models/best"),
        ("notes.txt", "from store:{home}/corpus.txt", "a path in the home folder"),
        ("notes.txt", "from file://{home}/x", "a path in the home folder"),
        ("notes.txt", "see <{home}/x>", "a path in the home folder"),
        ("notes.txt", "see /{home}/x", "a path in the home folder"),
        ("notes.txt", "PATH=/usr/bin:{home}/bin", "a path in the home folder"),
        ("notes.txt", "PATH=/usr/bin:/scratch/carol/bin", "the user's name, in /scratch/carol/bin"),
        ("notes.txt", "a copy (~carol/x)", "the user's name, in ~carol/x"),
        ("notes.txt", "see </scratch/carol/x>", "the user's name, in /scratch/carol/x"),
        ("notes.txt", "see file:///scratch/carol/x", "the user's name, in ///scratch/carol/x"),
        ("vocab.txt", "{home}/x", "a path in the home folder"),
        ("vocab.txt", TOKEN, "what looks like a token"),
    ],
)
def test_a_file_with_something_private_is_refused_before_anything_is_made(
    hub, checkpoint, bertkit_with, tmp_path, file, text, message
):
    home = tmp_path / "home" / "carol"
    with (checkpoint / file).open("a") as opened:
        opened.write("\n" + text.format(home=home) if file != "generation_config.json" else text)
    done = bertkit_with(hub, "push", checkpoint, NAME)
    if file == "notes.md":  # of prose the last part is kept, as of the card
        assert done.returncode == 0 and hub.main_files(NAME)["notes.md"] == b"\ncarol"
        return
    line = refusal(done)
    assert line.startswith(f"{checkpoint / file} holds {message}") and line.endswith("take it out of the file")
    assert TOKEN not in line and not hub.requests


def test_a_home_folder_as_json_writes_it_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "Zoë")
    home = str(tmp_path / "Zoë")
    for written in (json.dumps({"from": f"{home}/x"}), json.dumps({"from": f"a{home}/x"}).replace("/", "\\/")):
        assert (find_private(written) or "").startswith("a path in the home folder, ")


def test_neither_addresses_and_tags_nor_words_of_a_vocabulary_are_private(hub, checkpoint, bertkit_with, tmp_path):
    words = ["/home", "carol", "/carol", "~/", "~carol/x", f"{tmp_path}/home/carol", f"{tmp_path}/home/carol/"]
    with (checkpoint / "vocab.txt").open("a") as opened:
        opened.write("\n".join(words))
    (checkpoint / "notes.txt").write_text("https://huggingface.co/carol/bert, <a></carol>, http://host:80/carol, 5/6\n")
    assert bertkit_with(hub, "push", checkpoint, NAME).returncode == 0


def test_a_card_as_bertkit_wrote_it_before_or_a_user_wrote_over_loses_its_paths(
    hub, checkpoint, bertkit_with, tmp_path
):
    home = tmp_path / "home" / "carol"
    card = checkpoint / "README.md"
    head, _, _ = card.read_text().partition("## Recipe")
    recipe = f"```yaml\noutput_dir: {home}/runs/tiny\ndata:\n  train: /data/secret/news.txt\n```\n"
    card.write_text(f"{head}## Recipe\n\n{recipe}\nTrained in {tmp_path}, served at /v1/models by `{home}/serve.py`.\n")
    prose = "#!/usr/bin/env bash\nbertkit predict > /dev/null 2> /tmp/carols.log; ls /usr/lib /etc/hosts /opt\n"
    with card.open("a") as opened:
        opened.write(f"{prose}It is {checkpoint}, (~carol/x) and store:{home}/all.\n")
    assert bertkit_with(hub, "push", checkpoint, NAME).returncode == 0
    text = hub.main_files(NAME)["README.md"].decode()
    assert "output_dir: tiny\ndata:\n  train: news.txt\n" in text
    assert f"Trained in {tmp_path}, served at /v1/models by `serve.py`." in text  # neither the user's nor the run's
    assert f"{prose}It is last, (x) and store:all.\n" in text


def test_a_card_loses_the_folder_of_its_run_wherever_that_lies():
    text = "made in /scratch/runs/tiny/last of /scratch/runs/tiny; see /scratch/runs/other\n"
    folder = Path("/scratch/runs/tiny/last")
    assert shareable_card(text, folder=folder) == "made in last of tiny; see /scratch/runs/other\n"


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_a_path_does_not_depend_on_where_the_push_runs(hub, checkpoint, bertkit_with, tmp_path, is_there):
    path = checkpoint / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text())
    recipe["tokenizer"], recipe["model"]["from"] = "secret/words", "google/bert@main"
    recipe["data"] |= {"train": ["secret/news", "stanfordnlp/imdb@train", "hub:a/b:c"], "text_column": "en/text"}
    path.write_text(yaml.safe_dump(recipe))
    card = checkpoint / "README.md"
    named = "base_model: google/bert\ndatasets: [stanfordnlp/imdb]\nlibrary_name"
    card.write_text(card.read_text().replace("library_name", named, 1))
    for folder in ("secret/words", "secret/news", "google/bert") if is_there else ():
        (tmp_path / folder).mkdir(parents=True)
    assert bertkit_with(hub, "push", checkpoint, NAME).returncode == 0
    pushed = yaml.safe_load(hub.main_files(NAME)["recipe.yaml"])
    assert (pushed["tokenizer"], pushed["model"]["from"]) == ("words", "google/bert@main")
    assert pushed["data"]["train"] == ["news", "stanfordnlp/imdb@train", "hub:a/b:c"]
    assert pushed["data"]["text_column"] == "en/text"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("README.md", "---\nlicense: [mit\n---\n"),
        ("README.md", "---\n- mit\n---\n"),
        ("README.md", "# A\n\n## Recipe\n\n```yaml\na: [\n```\n"),
        ("recipe.yaml", "data: {train: a\n"),
        ("config.json", '{"model_type": '),
    ],
)
def test_a_file_that_was_broken_by_hand_is_named_in_one_line(hub, checkpoint, bertkit_with, file, text):
    (checkpoint / file).write_text(text)
    line = refusal(bertkit_with(hub, "push", checkpoint, NAME))
    assert line.startswith(f"{checkpoint / file} cannot be read, so nothing was pushed; mend it: ")
    assert not hub.requests


def test_weights_know_nothing_private_either(hub, checkpoint, bertkit_with, tmp_path):
    path = checkpoint / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "from": str(tmp_path / "home" / "carol" / "run")})
    write_manifest(checkpoint)
    assert f"{path} holds a path in the home folder" in refusal(bertkit_with(hub, "push", checkpoint, NAME))


def test_an_interrupted_upload_goes_on_where_it_broke_off(hub, tmp_path, bertkit_with, python_with):
    folder = sharded(tmp_path / "sharded")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 3 and max(path.stat().st_size for path in shards) > 100_000  # some come in parts
    hub.refuse = lambda method, path: (
        Refused(507, "no space left") if path.startswith(("/upload", "/part")) and len(hub.received) >= 2 else None
    )
    line = refusal(bertkit_with(hub, "push", folder, NAME))
    assert "no space left" in line and "goes on with what has not arrived" in line
    assert 2 <= len(hub.received) < len(shards)
    assert set(hub.main_files(NAME)) == {".gitattributes"}  # a commit is whole or not there
    hub.refuse = lambda method, path: None
    before = len(hub.requests)
    assert bertkit_with(hub, "push", folder, NAME).returncode == 0
    assert sorted(hub.received) == sorted(set(hub.received)) and len(hub.received) == len(shards)
    assert {path.name for path in shards} < set(hub.main_files(NAME))
    assert not [request for request in hub.requests[before:] if "repos/create" in request]
    output = tmp_path / "logits.safetensors"
    python_with(hub, LOGITS, NAME, '{"trust_remote_code": true}', output, "main")
    assert torch.equal(load_file(output)["main"], logits_of(folder))


@pytest.mark.slow
def test_a_push_goes_on_after_the_server_has_died(hub, tmp_path, bertkit_with):
    folder = sharded(tmp_path / "sharded")
    hub.dies_after = 2
    line = refusal(bertkit_with(hub, "push", folder, NAME))  # after the client's five attempts
    assert f"the Hub at {hub.url} " in line and ("cannot be reached" in line or "was lost" in line)
    assert "goes on with what has not arrived" in line
    arrived = [*hub.received]
    assert len(arrived) == 2
    with serving(hub):
        assert bertkit_with(hub, "push", folder, NAME).returncode == 0
    assert hub.received[:2] == arrived and sorted(hub.received) == sorted(set(hub.received))


def sharded(folder):
    """Save a model in several files."""
    torch.manual_seed(0)
    config = build_config("bert", "tiny", vocab_size=400, hidden_size=128, num_hidden_layers=2, intermediate_size=256)
    model = build_model(config, "AutoModelForMaskedLM")
    model.save_pretrained(folder, max_shard_size="200KB")

    return folder


def test_weights_of_another_checkpoint_do_not_stay_beside_the_new_ones(hub, run, tmp_path, bertkit_with):
    folder = sharded(tmp_path / "sharded")
    assert bertkit_with(hub, "push", run / "last", NAME).returncode == 0
    assert bertkit_with(hub, "push", folder, NAME).returncode == 0
    files = set(hub.main_files(NAME))
    assert "model.safetensors" not in files and "model.safetensors.index.json" in files
    assert bertkit_with(hub, "push", run / "last", NAME).returncode == 0
    assert [name for name in hub.main_files(NAME) if "model" in name and not name.endswith(".py")] == [
        "model.safetensors"
    ]


def test_nothing_that_is_read_with_another_checkpoint_stays_and_all_else_does(hub, checkpoint, tmp_path, bertkit_with):
    read = ["generation_config.json", "chat_template.jinja", "added_tokens.json", "tokenization_own.py", "merges.txt"]
    read += ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
    own = ["LICENSE", "notes.md", "train.py", "onnx/config.json", "languages.json", "tokenization.txt"]
    for name in [*read, *own]:
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_text("{}")
    save_file({"a": torch.zeros(1)}, checkpoint / "adapter" / "adapter_model.safetensors")
    assert bertkit_with(hub, "push", checkpoint, NAME).returncode == 0
    first = set(hub.main_files(NAME))
    assert {*read, *own, "tokenizer.json", "vocab.txt", "recipe.yaml"} < first
    folder = sharded(tmp_path / "sharded")  # without tokenizer, recipe and card
    assert bertkit_with(hub, "push", folder, NAME).returncode == 0
    pushed = {path.name for path in folder.iterdir()}
    stayed = set(hub.main_files(NAME)) - pushed
    assert stayed == {*own, ".gitattributes", "README.md", *(path.name for path in checkpoint.glob("*.png"))} - pushed
    assert len(hub.repositories[NAME].titles) == 3  # of the repository, and one for each push


def test_the_same_again_makes_no_commit(hub, run, bertkit_with):
    for _ in range(2):
        assert bertkit_with(hub, "push", run / "last", NAME, "--commit_message", "first").returncode == 0
    assert hub.repositories[NAME].titles == ["initial commit", "first"]


def test_a_repository_is_public_only_if_that_is_asked_for(hub, run, bertkit_with):
    def push(*options):
        done = bertkit_with(hub, "push", run / "last", NAME, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout, hub.repositories[NAME].private

    assert push()[1] is True
    said, private = push("--private", "false")
    assert private is False and "the repository alice/tiny is public now" in said
    assert push()[1] is False  # stays as it is
    assert push("--private")[1] is True
    assert bertkit_with(hub, "push", run / "last", "open", "--private", "false").returncode == 0
    assert hub.repositories["alice/open"].private is False


def test_what_the_hub_refuses_is_said_in_one_line_with_what_would_do(hub, run, bertkit_with):
    def refused(name=NAME, **settings):
        return refusal(bertkit_with(hub, "push", run / "last", name, **settings))

    assert refused(token=None) == "there is no token of the Hub; log in with `hf auth login`, or set HF_TOKEN"
    assert refused(token="hf_nobodyKnowsThisOneAtAll") == (
        "the Hub does not accept the token; log in with `hf auth login`, or set HF_TOKEN to one that is valid"
    )
    assert refused(token=READS_ONLY) == (
        'the token may not write to alice/tiny: You don\'t have the rights to create a model under the namespace "alice"; '
        "give one that may, or a name of your own"
    )
    assert "may not write to alice/tiny" in refused(token=OTHER)
    assert bertkit_with(hub, "push", run / "last", NAME, "--private", "false").returncode == 0
    assert "the token may not write to alice/tiny: You don't have the required permissions" in refused(token=OTHER)
    assert "'alice/a b' is no name of a repository" in refused("alice/a b")
    assert "'a/b/c' is no name of a repository" in refused("a/b/c")
    assert "HF_HUB_OFFLINE is set" in refused(HF_HUB_OFFLINE="1")
    line = refused(HF_ENDPOINT="http://127.0.0.1:9")
    assert "the Hub at http://127.0.0.1:9 cannot be reached: " in line and "refused" in line
    hub.refuse = lambda method, path: (
        Refused(409, "You already created this model repo") if path.endswith("create") else None
    )
    assert "the name alice/new is taken by a repository that this token cannot read" in refused("new")


def test_a_folder_that_is_no_checkpoint_is_refused_before_the_hub_is_asked(
    hub, run, checkpoint, bertkit_with, tmp_path
):
    def refused(folder):
        return refusal(bertkit_with(hub, "push", folder, NAME))

    assert (
        refused(run)
        == f"{run} has no config.json, so it is no checkpoint; it is a run's, name a checkpoint of it, as {run}/best"
    )
    assert refused(tmp_path / "nowhere") == f"there is no checkpoint folder {tmp_path / 'nowhere'}"
    whole = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{checkpoint} is damaged: model.safetensors" in refused(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "state" / "manifest.json").unlink()
    torch.save({}, checkpoint / "pytorch_model.bin")
    assert f"{checkpoint} holds no .safetensors weights, only pytorch_model.bin, a pickle" in refused(checkpoint)
    assert not hub.requests


def test_a_card_whose_metadata_the_hub_refuses_is_refused_before_the_weights_are_sent(hub, checkpoint, bertkit_with):
    card = checkpoint / "README.md"
    card.write_text(card.read_text().replace("library_name: transformers", "library_name: [1]"))
    line = refusal(bertkit_with(hub, "push", checkpoint, NAME))
    assert "Invalid metadata in README.md" in line and not hub.received
