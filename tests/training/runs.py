"""How the tests of the Trainer look at runs, and start them in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

NO_DROPOUT = {"model.hidden_dropout_prob": 0.0, "model.attention_probs_dropout_prob": 0.0}
PRETRAIN = Path(__file__).parents[2] / "recipes" / "pretrain.py"


KILLED_AT = """
import os
import signal
import sys
from bertkit.cli import main
from bertkit.training.trainer import Trainer

original = Trainer.training_step


def dying(self, micro_batches, counts):
    if self.output_dir.name == "{stage}" and self.state.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, micro_batches, counts)


Trainer.training_step = dying
sys.exit(main(["{verb}", *sys.argv[1:]]))
"""
"""A script that runs a verb, and dies at a step of the run in the folder of a name."""


SHARDED = """
import os
import sys

os.environ |= {environment}
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from bertkit.cli import main
from bertkit.training.trainer import Trainer

init, train = Accelerator.__init__, Trainer.train


def as_on_gpus(self, *args, **kwargs):
    init(self, *args, **kwargs)
    self.state.fsdp_plugin, self.state.distributed_type = FullyShardedDataParallelPlugin(), DistributedType.FSDP


def sharded(self):
    lists = [module for name, module in self.model.named_modules() if name.endswith("layers")]
    assert lists and all(isinstance(layer, FSDPModule) for layers in lists for layer in layers)
    assert all(isinstance(parameter, DTensor) for parameter in self.model.parameters())
    return train(self)


Accelerator.__init__, Trainer.train = as_on_gpus, sharded
sys.exit(main(["{verb}", *sys.argv[1:]]))
"""
"""A script that runs a verb with the model sharded as on GPUs."""
VARIANTS = Path(__file__).parents[2] / "docs" / "accelerate"


def sharded_script(folder, verb):
    """Write a script for two processes that runs a verb with the model sharded as docs/accelerate/fsdp2.yaml says."""
    config = yaml.safe_load((VARIANTS / "fsdp2.yaml").read_text())["fsdp_config"]
    environment = {name.upper(): str(value) for name, value in config.items()}
    script = folder / "sharded.py"
    script.write_text(SHARDED.format(environment=environment, verb=verb))
    return script


def tensors_of(output_dir):
    """Return the weights and the optimizer's state of a run's last checkpoint."""
    folder = output_dir / "last"
    return load_file(folder / "model.safetensors") | load_file(folder / "state" / "optimizer.safetensors")


def trainer_state_of(output_dir):
    return json.loads((output_dir / "last" / "state" / "trainer_state.json").read_text())


def log_of(output_dir, *names):
    """Return the entries of a run's log that have all of some values: (step, value, ...)."""
    entries = [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]
    return [
        (entry["step"], *(entry[name] for name in names)) for entry in entries if all(name in entry for name in names)
    ]


def losses_of(output_dir):
    return log_of(output_dir, "train_loss")


def assert_same_bits(one, other):
    one, other = tensors_of(one), tensors_of(other)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def assert_close(one, other, tolerance=1e-5):
    one, other = (
        {name: _without_key_bias(name, tensor) for name, tensor in tensors_of(run).items()} for run in (one, other)
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=tolerance, rtol=tolerance, msg=name)


def _without_key_bias(name, tensor):
    """Leave the biases of keys out: they change no attention, so their gradients are rounding, and AdamW's steps are luck."""
    if not name.endswith(("qkv.bias", "key_value.bias")) or not tensor.dim():
        return tensor
    *queries, _, values = tensor.chunk(3 if name.endswith("qkv.bias") else 2)
    return torch.cat([*queries, values])


def assert_same_course(one, other, rel=1e-5):
    """Check that two runs went over the same batches with losses that are equal but for rounding."""
    for (step, batches, loss), (other_step, other_batches, other_loss) in zip(
        log_of(one, "batches", "train_loss"), log_of(other, "batches", "train_loss"), strict=True
    ):
        assert (step, batches) == (other_step, other_batches)
        assert other_loss == pytest.approx(loss, rel=rel)


def launch(options, processes=1, script=PRETRAIN, **how):
    """Start a pretraining in processes of its own, on CPUs."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "TQDM_MININTERVAL": "0.1"}
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command = [*command, str(script)] if processes > 1 else [sys.executable, str(script)]
    return subprocess.Popen(
        [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how
    )


def finish(process, returncode=0):
    """Wait for a launched pretraining and return what it said, whatever happens leaving no process behind."""
    try:
        output, _ = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == returncode, output
    return output
