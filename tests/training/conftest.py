"""The fixture of the Trainer's tests: real runs of a tiny BERT."""

import pytest

from bertkit.cli import main


@pytest.fixture(scope="module")
def run(pretrain_options, tmp_path_factory):
    """Return a function: settings -> the folder of a finished run."""

    def pretrain(output_dir=None, **settings):
        output_dir = output_dir or tmp_path_factory.mktemp("run")
        assert main(["pretrain", *pretrain_options(output_dir, **settings)]) == 0
        return output_dir

    return pretrain
