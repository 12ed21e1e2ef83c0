"""Keeping freed host memory for the next step instead of handing it back to the operating system.

glibc maps every large tensor anew and unmaps it when it is freed, so a training step on CPUs takes tens of thousands of page
faults: 6 % of a BERT mini's step. A training step frees what the next one needs again.
"""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # mallopt(3)


def keep_freed_memory() -> None:
    """Tell glibc's allocator not to return memory; with another allocator or system, do nothing."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)
