"""What the wheel, the pinned environment and the Makefile promise to someone who has nothing but them."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.relative_to(ROOT / "recipes") for path in (ROOT / "recipes").rglob("*.yaml"))
TOKENIZER_RECIPES = sorted((ROOT / "tokenizer" / "configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the sources, without network."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("bertkit", "recipes", "tests", "tokenizer"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_every_module_and_nothing_beside_the_package(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "bertkit").rglob("*.py")}
    names = set(wheel.namelist())
    held = {name for name in names if name.endswith(".py") and "recipes/" not in name}
    assert held == modules  # a missing folder is to be listed in pyproject.toml under tool.setuptools
    assert "bertkit/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"bertkit"}


def test_wheel_holds_every_recipe_as_it_is_in_the_checkout(wheel):
    expected = {f"bertkit/recipes/{path.as_posix()}": ROOT / "recipes" / path for path in RECIPES}
    expected |= {f"bertkit/tokenizer_recipes/{path.name}": path for path in TOKENIZER_RECIPES}
    assert {name for name in wheel.namelist() if name.endswith(".yaml")} == set(expected)
    for name, path in expected.items():
        assert wheel.read(name) == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "place"),
    [("bert-tiny", "recipes/pretrain/bert-tiny.yaml"), ("wordpiece-ko", "tokenizer_recipes/wordpiece-ko.yaml")],
)
def test_recipe_is_found_by_name_where_there_is_no_checkout(wheel, tmp_path, name, place):
    wheel.extractall(tmp_path)
    program = f"from bertkit.config import find_recipe; print(find_recipe({name!r}))"
    found = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert Path(found.stdout.strip()) == tmp_path / "bertkit" / place


def test_no_two_recipes_have_the_same_name():
    names = [path.stem for path in [*RECIPES, *TOKENIZER_RECIPES]]
    assert len(set(names)) == len(names)


def test_every_direct_dependency_is_pinned_to_a_version_that_is_recent_enough(project):
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {_plain(name): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *extras["dev"],
        *extras["test"],
        *extras["bench"],
        *extras["embed"],
        *extras["quickstart"],
    ]
    for requirement in map(Requirement, wanted):
        if requirement.name != "bertkit":
            assert requirement.specifier.contains(pins[_plain(requirement.name)]), requirement


def test_torch_is_pinned_without_a_local_version_so_that_every_platform_has_it():
    assert "torch==2.13.0\n" in (ROOT / "constraints.txt").read_text()


def test_make_lists_every_target_and_every_target_installs_first():
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = (line for line in makefile.splitlines() if line.startswith(".PHONY:"))
    targets = set(phony.split()[1:]) - {"help"}
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {line.split()[1] for line in listed.splitlines() if line.startswith("make ")} == targets
    for target in targets:
        assert f"\n{target}: $(INSTALLED)\n" in makefile


def test_continuous_integration_can_be_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_accelerate_knows_every_line_of_its_configuration():
    from accelerate.commands.config.config_args import ClusterConfig

    config = ClusterConfig.from_yaml_file(yaml_file=str(ROOT / "accelerate_config.yaml"))
    assert config.num_processes == 1
    assert str(config.mixed_precision) == "no"
    stated = yaml.safe_load((ROOT / "accelerate_config.yaml").read_text())
    assert set(stated) <= set(ClusterConfig.__dataclass_fields__)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
