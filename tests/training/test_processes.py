"""What is known of how a run was launched."""

from types import SimpleNamespace

import psutil
import pytest

from bertkit.training.processes import _asked_of_launcher

PYTHON = ["/usr/bin/python", "/usr/bin/accelerate"]
CONFIG = "compute_environment: LOCAL_MACHINE\ndistributed_type: {kind}\nnum_processes: 3\nnum_machines: {machines}\n"


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ([*PYTHON, "launch", "--cpu", "--num_processes", "2", "train.py", "--num_processes", "9"], 2),
        ([*PYTHON, "launch", "--num_processes=2", "train.py"], 2),
        (["python", "-m", "accelerate.commands.accelerate_cli", "launch", "--num-processes", "2", "train.py"], 2),
        ([*PYTHON, "launch", "--config_file", "one.yaml", "train.py"], 3),
        ([*PYTHON, "launch", "--config_file=one.yaml", "--num_processes", "1", "train.py"], 1),
        ([*PYTHON, "launch", "--config_file", "two.yaml", "train.py"], 0),  # of which some run on another machine
        ([*PYTHON, "launch", "--num_processes", "4", "--num_machines", "2", "train.py"], 0),
        (["python", "-m", "torch.distributed.run", "--nproc_per_node", "2", "train.py"], 0),
        (["bash"], 0),
    ],
)
def test_how_many_processes_the_launcher_was_asked_for_is_read_from_its_command_line(
    tmp_path, monkeypatch, command, asked
):
    for name, machines in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(kind="MULTI_CPU", machines=machines))
    monkeypatch.chdir(tmp_path)
    parent = SimpleNamespace(cmdline=lambda: command)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(parent=lambda: parent))
    assert _asked_of_launcher() == asked
