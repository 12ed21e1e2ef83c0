"""A Hub on loopback, and processes that speak to it as they would to the real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

import bertkit
from bertkit.cli import main
from tests.hub.loopback_hub import LoopbackHub, serving

TOKEN = "hf_" + "aliceMayWrite" * 3
READS_ONLY = "hf_" + "aliceMayRead" * 3
OTHER = "hf_" + "bobMayWrite" * 3
ROOT = Path(bertkit.__file__).parents[1]
WITHOUT_BERTKIT = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "bertkit":
            raise ImportError("bertkit must not be needed")

sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def hub():
    """A Hub with two users, alice and bob."""
    with serving(LoopbackHub({TOKEN: ("alice", True), READS_ONLY: ("alice", False), OTHER: ("bob", True)})) as hub:
        yield hub


@pytest.fixture
def speaking_to(tmp_path):
    """Return a function: a Hub and a token -> the environment of a process that speaks to it, with a cache of its own."""

    def environment(hub, token=TOKEN, *, with_bertkit=True, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        kept.pop("PYTHONPATH", None)
        kept |= {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(tmp_path / "hf_home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HOME": str(tmp_path / "home" / "carol"),
            "LOGNAME": "carol",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        if token:
            kept["HF_TOKEN"] = token
        if with_bertkit:
            kept["PYTHONPATH"] = str(ROOT)
        return kept | more

    return environment


@pytest.fixture
def bertkit_process(speaking_to, tmp_path):
    """Return a function: a Hub and a command line -> what `bertkit` ends with as a process of its own."""

    def run(hub, *arguments, token=TOKEN, launcher=(), **more):
        command = [sys.executable, "-m", *(launcher or ["bertkit.cli"]), *map(str, arguments)]
        environment = speaking_to(hub, token, **more)
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)

    return run


@pytest.fixture
def bertkit_with(speaking_to, tmp_path, capfd):
    """Return a function: a Hub and a command line -> what `bertkit` ends with, in this process.

    The client has read its environment when it was imported; what it has read is set to what a new process would read.
    """

    def run(hub, *arguments, token=TOKEN, **more):
        with pytest.MonkeyPatch.context() as patch:
            environment = speaking_to(hub, token, **more)
            for name in os.environ.keys() - environment.keys():
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            read = {
                "ENDPOINT": environment["HF_ENDPOINT"],
                "HUGGINGFACE_CO_URL_TEMPLATE": environment["HF_ENDPOINT"] + "/{repo_id}/resolve/{revision}/{filename}",
                "HF_HUB_DISABLE_XET": True,
                "HF_HUB_OFFLINE": "HF_HUB_OFFLINE" in environment,
                "HF_HUB_CACHE": f"{environment['HF_HOME']}/hub",
                "HF_TOKEN_PATH": f"{environment['HF_HOME']}/token",
            }
            for name, value in read.items():
                patch.setattr(constants, name, value)
            patch.chdir(tmp_path)
            capfd.readouterr()
            code = main([str(argument) for argument in arguments])
            return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


@pytest.fixture
def python_with(speaking_to, tmp_path):
    """Return a function: a Hub and a program -> what it prints, run where bertkit cannot be imported unless it is asked for."""

    def run(hub, program, *arguments, token=TOKEN, with_bertkit=False, **more):
        command = [sys.executable, "-c", program if with_bertkit else WITHOUT_BERTKIT + program, *map(str, arguments)]
        environment = speaking_to(hub, token, with_bertkit=with_bertkit, **more)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
