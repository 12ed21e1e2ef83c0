"""The host's memory: what is freed is kept for the next step, and weights lie where torch lays them.

glibc maps every large tensor anew and unmaps it when it is freed, so a training step on CPUs takes tens of thousands of page
faults: 6 % of a BERT mini's step. A training step frees what the next one needs again.
"""

import ctypes
import platform

from torch import nn

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # mallopt(3)


def keep_freed_memory() -> None:
    """Tell glibc's allocator not to return memory; with another allocator or system, do nothing."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def own_memory(model: nn.Module) -> None:
    """Copy the weights to memory that torch has laid out.

    Weights that were loaded lie somewhere in the mapped file. A product's last bits depend on where its factors begin, as to
    a multiple of 64 bytes: a recurrent network that was loaded would not train as the one that was saved would have.

    Args:
        model: where it is.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
