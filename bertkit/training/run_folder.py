"""The folder of a run: one run at a time has it, and all of its processes go on from the same checkpoint in it.

The lock is the operating system's. A killed run leaves none behind, only its file, which names who held it last.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout

from bertkit.training.checkpointing import find_checkpoint, writing_to
from bertkit.training.manifest import find_damage
from bertkit.training.processes import as_main_sees

LOCK_FILE = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What file systems answer that know no locks, as NFS without its lock service."""


@contextlib.contextmanager
def run_folder(
    output_dir: Path, *, resume_from_checkpoint: str | None, processes: PartialState
) -> Iterator[Path | None]:
    """Have the folder of a run to itself while the context lasts; to be entered by every process of the run.

    The main process looks at the checkpoints, whose checksums take a while; on other machines one process makes sure that
    it sees the same.

    Args:
        output_dir: the folder; made where there is none.
        resume_from_checkpoint: as `find_checkpoint` takes it.
        processes: of the run.

    Yields:
        The checkpoint to go on from, if there is one.

    Raises:
        ValueError: another run has the folder, or what `find_checkpoint` raises, or not all machines see the checkpoint.
        OutputError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        if processes.is_main_process:
            stack.enter_context(locked(output_dir, warn=processes.print))
            checkpoint = as_main_sees(find_checkpoint(output_dir, resume_from_checkpoint, warn=processes.print))
        else:
            checkpoint = as_main_sees(None)
            if checkpoint is not None and processes.is_local_main_process and (damage := find_damage(checkpoint)):
                raise ValueError(
                    f"{socket.gethostname()} does not see {checkpoint} as the first machine of the run does: {damage}; "
                    "output_dir must be a folder that all see"
                )
        yield checkpoint


@contextlib.contextmanager
def locked(output_dir: Path, *, warn: Callable[[str], None]) -> Iterator[None]:
    """Keep other runs out of a folder while the context lasts.

    Args:
        output_dir: the folder; made where there is none.
        warn: told where the file system knows no locks, and the run goes on without.

    Raises:
        ValueError: another run has it.
        OutputError: it cannot be written to.
    """
    lock = FileLock(output_dir / LOCK_FILE, timeout=0, fallback_to_soft=False, on_acquired=_sign)
    with writing_to(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"{output_dir} is in use by another run, {_holder(output_dir)}; wait for its end, or give another --output_dir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warn(f"warning: {output_dir} cannot be locked ({error.strerror}); let no other run write there meanwhile")
    try:
        yield
    finally:
        lock.release()


def _sign(descriptor: int) -> None:
    """Write into the file of the lock who has it."""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())


def _holder(output_dir: Path) -> str:
    return (output_dir / LOCK_FILE).read_text(encoding="utf-8", errors="replace").strip() or "just begun"
