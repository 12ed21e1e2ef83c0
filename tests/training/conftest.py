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
def forget_precision():
    """Return a function that lets Accelerate choose anew, which has one precision and one compiler a process."""
    yield AcceleratorState._reset_state
    AcceleratorState._reset_state()


@pytest.fixture
def run_anew(run, forget_precision):
    """Run as a process of its own does."""

    def pretrain(**settings):
        forget_precision()
        return run(**settings)

    return pretrain
