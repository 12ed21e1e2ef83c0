"""The fixtures of the Trainer's tests: real runs of a tiny BERT."""

import pytest
from accelerate.state import AcceleratorState

from bertkit.cli import main


@pytest.fixture(scope="module")
def run(pretrain_options, tmp_path_factory):
    """Return a function: settings -> the folder of a finished run."""

    def pretrain(output_dir=None, **settings):
        output_dir = output_dir or tmp_path_factory.mktemp("run")
        assert main(["pretrain", *pretrain_options(output_dir, **settings)]) == 0
        return output_dir

    return pretrain


@pytest.fixture
def run_anew(run):
    """Run as a process of its own does: Accelerate has one precision and one compiler a process."""

    def pretrain(**settings):
        AcceleratorState._reset_state()
        return run(**settings)

    yield pretrain
    AcceleratorState._reset_state()
